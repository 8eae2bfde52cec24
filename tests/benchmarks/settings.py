"""The product's settings with two anchor views beside its pages."""

from dashboard.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.urls"
HASHED_STATIC = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
