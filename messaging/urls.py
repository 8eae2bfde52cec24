"""Pages, fragments (under `_f/`) and the webhook receiver."""

from django.urls import URLPattern, URLResolver, path

from messaging.views import (
    account,
    compose,
    connections,
    conversations,
    decide,
    gates,
    inbox,
    live,
    messages,
    operations,
    replies,
    resend,
    restore,
    subscriptions,
    webhooks,
)

urlpatterns: list[URLPattern | URLResolver] = [
    # What every open page asks every few seconds is found first.
    path("_f/live/", live.live_poll, name="live"),
    path("hooks/catena/", webhooks.catena, name="hook"),
    path("", inbox.inbox, name="inbox"),
    path("_f/inbox/rows/", inbox.inbox_rows, name="inbox_rows"),
    path("c/<uuid:uuid>/", conversations.conversation, name="conversation"),
    path("c/<uuid:uuid>/read/", conversations.read, name="read"),
    path("c/<uuid:uuid>/reply/", replies.reply, name="reply"),
    path("_f/c/<uuid:uuid>/", conversations.conversation_fragment, name="conversation_fragment"),
    path("_f/c/<uuid:uuid>/older/", conversations.older, name="older"),
    path("_f/c/<uuid:uuid>/quote/", conversations.quote, name="quote"),
    path("m/<uuid:uuid>/cancel/", replies.cancel, name="cancel"),
    path("m/<uuid:uuid>/handled/", replies.handled, name="handled"),
    path("m/<uuid:uuid>/resend/", resend.resend, name="resend"),
    path("m/<uuid:uuid>/decide/", decide.decide, name="decide"),
    path("compose/", compose.compose, name="compose"),
    path("_f/recipients/", compose.recipients, name="recipients"),
    path("settings/", account.settings, name="settings"),
    path("settings/password/", account.ChangePassword.as_view(), name="password"),
    path("help/keys/", account.keys, name="keys"),
    path("m/<uuid:uuid>/", messages.message, name="message"),
    path("ops/restore/", restore.restore, name="restore"),
    path("ops/webhooks/", subscriptions.subscriptions, name="subscriptions"),
    path("ops/", operations.operations, name="operations"),
    path("_f/ops/rows/", operations.operations_rows, name="operations_rows"),
    path("connections/", connections.connections, name="connections"),
    path("connections/gate/", gates.credential_gate, name="credential_gate"),
    path("connections/<uuid:uuid>/", connections.connection, name="connection"),
    path("connections/<uuid:uuid>/gate/", gates.connection_gate, name="connection_gate"),
]
