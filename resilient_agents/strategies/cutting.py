"""Ends a read that blocks its thread, where that can be done: of an HTTP/1 stream of httpx, by its socket.

A thread that waits for a socket is woken when another one shuts the socket down (closing it wakes nobody). One thread
watches all streams of the process that have a limit now; like an alarm of an event loop it looks, when the time of a
step is up, whether that step has ended meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import math
import socket
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from resilient_agents.base.clock import clock
from resilient_agents.base.fork import reset_after_fork
from resilient_agents.classify.facts import get

__all__ = ["Cut"]

_IDLE_SECONDS: Final = 10.0


class Cut:
    """The means to end the reads of one stream."""

    __slots__ = ("_armed", "_fate", "_socket", "at")

    def __init__(self, connection: Any) -> None:
        self._socket = connection
        self._fate: dict[None, bool] = {}  # of the present step: whoever is first says whether it was cut
        self._armed = math.inf
        self.at = math.inf

    @classmethod
    def of(cls, source: Any) -> Cut | None:
        """That of what is iterated, or of the response that it reads; None where there is none."""
        for response in (source, get(source, "response")):
            extensions = get(response, "extensions")
            if not isinstance(extensions, dict) or extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
                continue
            stream: Any = extensions.get("network_stream")
            with suppress(Exception):
                connection = stream.get_extra_info("socket")
                if isinstance(connection, socket.socket):
                    return cls(connection)
        return None

    def begin(self, seconds: float) -> None:
        """A step begins that may take so long."""
        self._fate = {}
        self.at = at = clock.monotonic() + seconds
        if at < self._armed:
            self._armed = at
            _watch.put(self)

    def done(self) -> bool:
        """The step is over. Was it cut off?"""
        self.at = math.inf
        return self._fate.setdefault(None, False)

    def ring(self) -> float:
        """The time is up for which it was watched. When to look again, never if there is no step."""
        self._armed = at = self.at
        if at > clock.monotonic():
            return at
        if self._fate.setdefault(None, True):
            self.shut()
        self._armed = math.inf
        return math.inf

    def shut(self) -> None:
        """End whatever read there is. The TLS around the socket is left as it is."""
        with suppress(OSError, ValueError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Watch:
    """The thread that watches, while there is anything to watch."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._queue: SimpleQueue[Cut] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, cut: Cut) -> None:
        self._queue.put(cut)
        if self._thread is None:
            self._thread = thread = threading.Thread(target=self._serve, name="resilient-agents-watch", daemon=True)
            thread.start()

    def _serve(self) -> None:
        numbers = itertools.count()
        heap: list[tuple[float, int, Cut]] = []
        while True:
            try:
                wait = max(0.0, heap[0][0] - clock.monotonic()) if heap else _IDLE_SECONDS
                cut = clock.get(self._queue, min(wait, threading.TIMEOUT_MAX))
                heapq.heappush(heap, (cut.at, next(numbers), cut))
            except Empty:
                if not heap:
                    self._thread = None
                    if self._queue.empty():
                        return
                    self._thread = threading.current_thread()
            while heap and heap[0][0] <= clock.monotonic():
                cut = heapq.heappop(heap)[2]
                again = cut.ring()
                if again < math.inf:
                    heapq.heappush(heap, (again, next(numbers), cut))
            cut = None  # type: ignore[assignment]  # keeps no stream alive


_watch: Final = _Watch()
