"""Alarms for threads that cannot look at the time themselves, because they wait for something of others'.

One thread rings all alarms of the process. It goes by the operating system's clock, as do those it watches over.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from resilient_agents.base.fork import reset_after_fork

__all__ = ["ThreadAlarm", "seconds_now", "set_thread_alarm"]

_IDLE_SECONDS: Final = 10.0


class ThreadAlarm(Protocol):
    """What wants to be asked now and then, in another thread."""

    def ring(self) -> float:
        """Do what is due, if anything is. Returns when to ask again, in `seconds_now`, infinity for never."""
        ...


def seconds_now() -> float:
    return time.monotonic()


class _Ringing:
    """The thread that rings, while there is anything to ring."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._queue: SimpleQueue[ThreadAlarm] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, alarm: ThreadAlarm) -> None:
        self._queue.put(alarm)
        if self._thread is None:
            self._thread = thread = threading.Thread(target=self._serve, name="resilient-agents-alarms", daemon=True)
            thread.start()

    def _serve(self) -> None:
        numbers = itertools.count()
        heap: list[tuple[float, int, ThreadAlarm]] = []
        while True:
            due: list[ThreadAlarm] = []
            try:
                wait = max(0.0, heap[0][0] - seconds_now()) if heap else _IDLE_SECONDS
                due.append(self._queue.get(timeout=min(wait, threading.TIMEOUT_MAX)))
            except Empty:
                if not heap:
                    self._thread = None
                    if self._queue.empty():
                        return
                    self._thread = threading.current_thread()
            while heap and heap[0][0] <= seconds_now():
                due.append(heapq.heappop(heap)[2])
            while due:
                alarm = due.pop()
                again = alarm.ring()
                if again < math.inf:
                    heapq.heappush(heap, (again, next(numbers), alarm))
                del alarm  # keeps no stream alive


_ringing: Final = _Ringing()


def set_thread_alarm(alarm: ThreadAlarm) -> None:
    """Let `alarm.ring()` be called, in a thread of ours, at once and then when it says."""
    _ringing.put(alarm)
