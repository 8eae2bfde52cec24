"""How long a claim takes while a worker is busy: claims the heads that are due in a day, on its own connection.

`python -m tests.benchmarks.claims FIRST LAST` says that it is ready, waits for a line and prints the milliseconds of each
claim as JSON.
"""

import json
import sys
import time
from datetime import timedelta

import django


def main(first: int, last: int) -> None:
    django.setup()
    from messaging import outbox

    sender = outbox.Sender(None, lambda: outbox.database_clock() + timedelta(days=1, minutes=1))  # type: ignore[arg-type]
    moment = sender.clock()
    sender = outbox.Sender(None, lambda: moment, "probe")  # type: ignore[arg-type]
    times = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for conversation_id in range(first, last + 1):
        start = time.perf_counter()
        claimed = outbox.claim(conversation_id, sender)
        times.append((time.perf_counter() - start) * 1000)
        if claimed is None:
            raise SystemExit(f"nothing to claim in conversation {conversation_id}")
    sys.stdout.write(json.dumps(times))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
