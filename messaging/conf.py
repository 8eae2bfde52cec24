"""The only composition root: builds the one CatenaClient of this process from the settings."""

from functools import lru_cache

from django.conf import settings

from messaging import budget
from messaging.budget import Share
from messaging.catena.client import CatenaClient, CatenaConfig
from messaging.catena.errors import OverBudget

# How long a read waits for its turn; a send does not wait, it goes back into the queue.
READ_PATIENCE_SECONDS = 5.0


@lru_cache(maxsize=1)
def catena_client() -> CatenaClient:
    """The same client at every call, because it holds the access token. `catena_client.cache_clear()` starts anew."""
    return CatenaClient(
        CatenaConfig(
            api_url=settings.CATENA_API_URL,
            token_url=settings.CATENA_TOKEN_URL,
            client_id=settings.CATENA_CLIENT_ID,
            client_secret=settings.CATENA_CLIENT_SECRET,
            connect_timeout=settings.SEND_CONNECT_SECONDS,
            read_timeout=settings.SEND_READ_SECONDS,
            total_timeout=settings.SEND_TOTAL_SECONDS,
            before_request=spend,
        )
    )


def spend(*, is_send: bool) -> None:
    """Takes one request out of the budget, from the share of its class. Raises `OverBudget`: then it must not go."""
    share, patience = (Share.SENDS, 0.0) if is_send else (budget.current(), READ_PATIENCE_SECONDS)
    wait = budget.take(share, patience)
    if wait is not None:
        raise OverBudget("The request budget of this installation is spent", retry_after=wait)
