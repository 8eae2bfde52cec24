"""The instrument panel: everything readable for administrators, next to nothing changeable."""

from django.contrib import admin
from django.contrib.auth.models import Group

from messaging.admin import directory, explanations, incidents, messages, operations, people, records, subscriptions

__all__ = ["directory", "explanations", "incidents", "messages", "operations", "people", "records", "subscriptions"]

# Roles decide who may do what; a second set of permissions would only look as if it did.
admin.site.unregister(Group)
