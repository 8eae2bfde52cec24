"""A person's click in a process of its own: decides the one message that needs it, and says how that went.

Writes a line when the dialog is open and waits for one before it clicks, so that two can click at once.
"""

import argparse
import os
import sys

import django

from tests.chaos.points import arm


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--as", dest="name", default="decider0")
    parser.add_argument("--point", default="")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "dashboard.settings"
    django.setup()
    if options.point:
        arm(options.point)
    sys.stdout.write(_decide(options.kind, options.name))


def _decide(kind: str, name: str) -> str:
    from django.utils import timezone

    from messaging import models, reconcile
    from messaging.states import DecisionKind

    message = models.Message.objects.get(state__in=["needs_decision", "unknown"])
    user = models.User.objects.get(username=name)
    seen = reconcile.stamp(message)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        reconcile.decide(message, user, DecisionKind(kind), "a chaos run", seen=seen, now=timezone.now())
    except reconcile.AlreadyDecided:
        return "already decided"
    except reconcile.NotDecidable as error:
        return f"not decidable: {error}"
    return "decided"


if __name__ == "__main__":
    main()
