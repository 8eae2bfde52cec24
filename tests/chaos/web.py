"""The product's WSGI application, in a process that dies at the instant which CHAOS_POINT names."""

import os

from dashboard.wsgi import application
from tests.chaos.points import arm

if os.environ.get("CHAOS_POINT"):
    arm(os.environ["CHAOS_POINT"])

__all__ = ["application"]
