"""The only composition root: builds the one CatenaClient of this process from the settings."""

from functools import lru_cache

from django.conf import settings

from messaging.catena.client import CatenaClient, CatenaConfig


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
        )
    )
