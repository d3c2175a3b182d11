"""Ends a read that blocks its thread, where that can be done: of an HTTP/1 stream of httpx, by its socket. Any other
may be left behind in a thread.

A thread that waits for a socket is woken when another one shuts the socket down (closing it wakes nobody). When the
time of a step is up it is looked, in a thread of its own, whether that step has ended meanwhile.
"""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Any

from resilient_agents.base.clock import clock
from resilient_agents.base.thread_alarms import seconds_now, set_thread_alarm
from resilient_agents.classify.facts import get
from resilient_agents.core.call import Call
from resilient_agents.core.driver import drive
from resilient_agents.core.opening import Opened, not_blocking
from resilient_agents.core.steps import Step
from resilient_agents.core.threads import Workers, run_in_worker
from resilient_agents.deadline import Deadline, current

__all__ = ["Cut", "in_worker"]


class Cut:
    """The means to end the reads of one stream. `callers`: the deadline at which the present step is cut, where that
    ends before the step's own limit."""

    __slots__ = ("_armed", "_fate", "_socket", "at", "callers")

    def __init__(self, connection: Any) -> None:
        self._socket = connection
        self._fate: dict[None, bool] = {}  # of the present step: whoever is first says whether it was cut
        self._armed = math.inf
        self.at = math.inf
        self.callers: Deadline | None = None

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

    def begin(self, at: float) -> None:
        """A step begins that may take until then (monotonic seconds), and no longer than to its caller's deadline."""
        self._fate = {}
        callers = current()
        self.callers = callers if callers is not None and callers.at < at else None
        if self.callers is not None:
            at = self.callers.at
        self.at = at = seconds_now() + at - clock.monotonic()
        if at < self._armed:
            self._armed = at
            set_thread_alarm(self)

    def done(self) -> bool:
        """The step is over. Was it cut off?"""
        self.at = math.inf
        return self._fate.setdefault(None, False)

    def ring(self) -> float:
        """Cut the step off whose time is up. When to look again, never if there is no step."""
        self._armed = math.inf  # first: whoever begins a step now sees it, or has its step seen here
        at = self.at
        if at == math.inf:
            return math.inf
        if at > seconds_now():
            self._armed = at
            return at
        if self._fate.setdefault(None, True):
            self.shut()
        return math.inf

    def shut(self) -> None:
        """End whatever read there is. The TLS around the socket is left as it is."""
        with suppress(OSError, ValueError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


async def in_worker(
    call: Call, workers: Workers, opened: Opened, step: Step, sent: Any, thrown: BaseException | None
) -> Any:
    """The step, in a thread that is left behind when time is up; what it reads is shut where that can be done."""
    before = call.abandoned
    try:
        return await run_in_worker(call, workers, lambda: drive(step(sent, thrown), not_blocking))
    finally:
        if call.abandoned is not before:
            opened.left_to = call.abandoned[-1]
            if (cut := Cut.of(opened.source)) is not None:
                cut.shut()
