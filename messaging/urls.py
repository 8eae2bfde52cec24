"""Pages, fragments (under `_f/`) and the webhook receiver."""

from django.urls import URLPattern, URLResolver, path

from messaging.views import connections, messages, operations

urlpatterns: list[URLPattern | URLResolver] = [
    path("m/<uuid:uuid>/", messages.message, name="message"),
    path("ops/", operations.operations, name="operations"),
    path("_f/ops/rows/", operations.operations_rows, name="operations_rows"),
    path("connections/", connections.connections, name="connections"),
    path("connections/<uuid:uuid>/", connections.connection, name="connection"),
]
