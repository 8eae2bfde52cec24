"""A TCP proxy that spoils connections: latency, reset, slicer, bandwidth, slow close, limit. Standard library only.

One kind of trouble at a time, drawn anew for each connection; what passes through is not looked at.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass

CHUNK = 16 * 1024
KINDS = ("latency", "reset", "slicer", "bandwidth", "slow_close", "limit", "refuse")


@dataclass
class Trouble:
    """How likely a connection is spoilt, and by what. Times in seconds, sizes in bytes."""

    share: float = 0.0
    kinds: tuple[str, ...] = KINDS
    latency: float = 0.4
    jitter: float = 0.3
    slice: int = 40
    bandwidth: int = 4000
    limit: int = 300
    close_after: float = 2.5


class Proxy:
    """Listens on loopback in a thread of its own and forwards to `target`."""

    def __init__(self, target: int, seed: int) -> None:
        self.trouble = Trouble()
        self.counts: Counter[str] = Counter()
        self.port = 0
        self._target = target
        self._rng = random.Random(seed)
        self._is_up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._is_up.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        self.port = int(server.sockets[0].getsockname()[1])
        self._is_up.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _kind(self) -> str:
        spoilt = self._rng.random() < self.trouble.share
        return self._rng.choice(self.trouble.kinds) if spoilt else ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = self._kind()
        self.counts[kind or "clean"] += 1
        if kind == "refuse":
            abort(writer)
            return
        try:
            upstream, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            abort(writer)
            return
        ways = [
            asyncio.ensure_future(self._pump(reader, back, kind)),
            asyncio.ensure_future(self._pump(upstream, writer, kind)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(ways, timeout=0.2)
        if kind == "slow_close":
            await asyncio.sleep(self.trouble.close_after)
        for way in ways:
            way.cancel()
        for end in (writer, back):
            end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kind: str) -> None:
        passed, budget = 0, self._budget(kind)
        try:
            while data := await source.read(CHUNK):
                if kind == "latency":
                    await asyncio.sleep(self.trouble.latency + self._rng.random() * self.trouble.jitter)
                for piece in self._pieces(data, kind):
                    if budget is not None and passed + len(piece) > budget:
                        sink.write(piece[: budget - passed])
                        abort(sink) if kind == "reset" else sink.close()
                        return
                    passed += len(piece)
                    sink.write(piece)
                    await sink.drain()
                    await self._wait(piece, kind)
        except (ConnectionError, OSError):
            return

    def _budget(self, kind: str) -> int | None:
        """After so many bytes the connection ends, by reset or by a plain close; None never."""
        return self._rng.randrange(1, 2 * self.trouble.limit) if kind in {"reset", "limit"} else None

    def _pieces(self, data: bytes, kind: str) -> list[bytes]:
        if kind not in {"slicer", "bandwidth"}:
            return [data]
        return [data[start : start + self.trouble.slice] for start in range(0, len(data), self.trouble.slice)]

    async def _wait(self, piece: bytes, kind: str) -> None:
        if kind == "slicer":
            await asyncio.sleep(0.005)
        elif kind == "bandwidth":
            await asyncio.sleep(len(piece) / self.trouble.bandwidth)


def abort(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
