"""The modelled dependency: servers, the queue before them, a quota, and errors that come and go."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from math import log
from typing import Final

from resilient_agents.classify import KINDS, register
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.loop import SimulatedLoop
from resilient_agents.simulate.moment import Moment
from resilient_agents.simulate.scenario import AT_THE_DOOR, Dependency, Error, Kind, Quota, Times

__all__ = ["ANSWER", "Server", "SimulatedError", "draws", "failure"]

ANSWER: Final = "answer"
"""What a request that goes well returns."""


class SimulatedError(Exception):
    """What a request of a simulation ends in when it does not go well."""

    transient: bool | None = None  # as its kind says
    verdict: str | None = None

    def __init__(self, status: int | None, retry_after: float | None) -> None:
        super().__init__(f"simulated, status {status}")
        if status is not None:
            self.status_code = status
        if retry_after is not None:
            self.retry_after = retry_after


_CLASSES: Final[dict[str, type[SimulatedError]]] = {}
for _kind in KINDS:
    _CLASSES[_kind] = type(f"Simulated{_kind.title().replace('_', '')}", (SimulatedError,), {})
    if _kind != "unknown":  # which it is without a word
        register(_CLASSES[_kind], kind=_kind)

_STATUS: Final[dict[Kind, int]] = {
    "rate_limit": 429,
    "overload": 503,
    "server": 500,
    "quota": 429,
    "auth": 401,
    "validation": 400,
}


def failure(kind: str, status: int | None = None, retry_after: float | None = None) -> SimulatedError:
    """An error of this kind."""
    return _CLASSES[kind](status, retry_after)


def error_of(error: Error, left: float) -> SimulatedError:
    """`left`: seconds until things change."""
    retry_after = left if error.retry_after == "end" else error.retry_after
    return failure(error.kind, error.status or _STATUS.get(error.kind), retry_after)


def draws(times: Times, stream: random.Random) -> Callable[[], float]:
    """A function that says how many seconds something of this distribution takes this time."""
    mean = times.mean
    if times.kind == "fixed" or mean == 0:
        return lambda: mean
    if times.kind == "exponential":
        uniform = stream.random
        return lambda: -mean * log(1.0 - uniform())
    # exp(mu + sigma^2 / 2) is the mean of a lognormal distribution.
    mu = -times.sigma * times.sigma / 2
    return lambda: mean * stream.lognormvariate(mu, times.sigma)


class _Bucket:
    """A token bucket that is full at the start: when the next request would be admitted."""

    __slots__ = ("empty_until", "quota")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.empty_until = -quota.per

    def wait(self, now: float) -> float:
        """Seconds to wait, 0.0 for a request that is admitted. (GCRA: a theoretical arrival time and a tolerance.)"""
        spacing = self.quota.per / self.quota.rate
        at = max(self.empty_until, now - self.quota.per)
        if at + spacing > now + 1e-9:
            return at + spacing - now
        self.empty_until = at + spacing
        return 0.0


class _Request(Moment):
    """What its caller waits for. `failure`: what it will end in, None for an answer."""

    __slots__ = ("failure", "left", "served", "takes", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, takes: float, failure: SimulatedError | None) -> None:
        super().__init__(loop)
        self.takes = takes
        self.failure = failure
        self.left = self.served = False
        self.timer: asyncio.TimerHandle | None = None


class Server:
    """Serves requests in virtual time.

    Attributes:
        sent: Requests that arrived.
        errors: Those that were answered with an error, or never.
        wasted: Services for a caller who had gone.
        cost: Of all admitted requests.
        busy, waiting: Requests being served, and in the queue, now.
    """

    def __init__(self, loop: SimulatedLoop, settings: Dependency, seed: str) -> None:
        self._loop = loop
        self._service = random.Random(f"{seed}/service")
        self._errors = random.Random(f"{seed}/errors")
        self._until = math.inf
        self._queue: deque[_Request] = deque()
        self.sent = 0
        self.errors = 0
        self.wasted = 0
        self.cost = 0.0
        self.busy = 0
        self.waiting = 0
        self.settings = settings
        self._takes = draws(settings.service, self._service)
        self._bucket = None if settings.quota is None else _Bucket(settings.quota)

    def become(self, settings: Dependency, until: float) -> None:
        """Behave like this from now on, until this moment. Requests that are being served stay as they are."""
        self._until = until
        if settings.quota != self.settings.quota:
            self._bucket = None if settings.quota is None else _Bucket(settings.quota)
        self.settings = settings
        self._takes = draws(settings.service, self._service)
        self._start_waiting()

    async def request(self) -> str:
        """One request, as the guarded function makes it."""
        self.sent += 1
        settings = self.settings
        if self._bucket is not None and (wait := self._bucket.wait(self._loop.time())) > 0:
            self.errors += 1
            raise failure("rate_limit", 429, wait if self._bucket.quota.retry_after else None)
        error, left = settings.error, self._until - self._loop.time()
        if error is not None and self._errors.random() >= error.rate:
            error = None
        if error is not None and error.kind in AT_THE_DOOR:
            self.errors += 1
            if error.kind == "timeout":
                await Moment(self._loop)  # which never comes
            raise error_of(error, left)
        if self.busy >= settings.servers and self.waiting >= settings.queue:
            self.errors += 1
            raise failure("overload", 503)
        self.cost += settings.cost
        request = _Request(self._loop, self._takes(), None if error is None else error_of(error, left))
        if self.busy < settings.servers:
            self._start(request)
        else:
            self.waiting += 1
            self._queue.append(request)
        try:
            answer: str = await request
            return answer
        except asyncio.CancelledError:
            self._leave(request)
            raise
        finally:
            request.error = request.failure = None  # no cycle through its traceback

    def request_in(self, threads: BlockingCalls) -> str:
        """One request, as a blocking function makes it."""
        wanted = threads.wanted()
        answer: str = threads.wait_for(self.request())
        self.wasted += not wanted()
        return answer

    def _start(self, request: _Request) -> None:
        self.busy += 1
        request.timer = self._loop.after(request.takes, self._finish, request)

    def _finish(self, request: _Request) -> None:
        self.busy -= 1
        request.served = True
        self.errors += request.failure is not None
        if self._queue:
            self._start_waiting()
        if request.left:
            self.wasted += 1
        else:
            request.come(ANSWER, request.failure)

    def _start_waiting(self) -> None:
        while self._queue and self.busy < self.settings.servers:
            request = self._queue.popleft()
            if request.left and self.settings.notices_leavers:
                continue  # counted out when it left
            self.waiting -= 1
            self._start(request)

    def _leave(self, request: _Request) -> None:
        request.left = True
        if request.served or not self.settings.notices_leavers:
            return
        if request.timer is None:
            self.waiting -= 1
        else:
            request.timer.cancel()
            self.busy -= 1
            self._start_waiting()
