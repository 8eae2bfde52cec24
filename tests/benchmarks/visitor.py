"""A visitor who asks one page after another, in a process of its own, until its input ends.

`python -m tests.benchmarks.visitor PORT COOKIE PATH...` prints how many pages it got; any other answer than 200 ends it.
"""

import http.client
import select
import sys
from itertools import cycle


def main(port: int, cookie: str, paths: list[str]) -> None:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    pages = 0
    for path in cycle(paths):
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        line.request("GET", path, headers={"Cookie": cookie})
        answer = line.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}")
        pages += 1
    sys.stdout.write(f"{pages}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
