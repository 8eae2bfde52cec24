"""The address space: site-wide pages here, everything else in `messaging.urls`."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from dashboard import views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("", include("messaging.urls")),
]
