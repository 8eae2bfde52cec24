"""A real worker process that stops itself at the worst instant: after every check, before the first byte of a POST.

`python -m tests.chaos.freezing` is `manage.py worker` with one wrapped write. Frozen, it writes its pid to the file that
FROZEN_FILE names; whoever wakes it finds out whether it still sends.
"""

import os
import signal
import threading
from pathlib import Path

import django

WRITE = b"POST /v2/telematics/messages"


def freeze_before_writing() -> None:
    from messaging.catena.transport import TimedSocket

    original = TimedSocket.sendall

    turn, file = threading.Lock(), Path(os.environ["FROZEN_FILE"])

    def sendall(self: TimedSocket, data: bytes) -> None:
        if not data.startswith(WRITE):
            original(self, data)
            return
        self._sock.settimeout(self._budget())
        with turn:  # the others sleep here, past their checks too
            if not file.exists():
                file.write_text(f"{os.getpid()}")
                # To this very thread: another one might take a signal to the process, and this one would write on.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        self._sock.sendall(data)

    TimedSocket.sendall = sendall  # type: ignore[method-assign]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dashboard.settings")
    django.setup()
    from messaging.tasks import worker

    freeze_before_writing()
    worker.work(int(os.environ.get("FROZEN_THREADS", "8")))


if __name__ == "__main__":
    main()
