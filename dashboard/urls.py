"""The address space: site-wide pages here, everything else in `messaging.urls`."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from dashboard import views

handler500 = views.server_error

urlpatterns = [
    # First, because every open page asks here every few seconds; nothing in it hides what follows.
    path("", include("messaging.urls")),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("login/", views.LogIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/login/", views.admin_log_in),
    path("admin/", admin.site.urls),
]
