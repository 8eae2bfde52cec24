"""Pages, fragments (under `_f/`) and the webhook receiver."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
