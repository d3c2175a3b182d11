"""`Chaos`: a dependency that fails on purpose, to see what a policy makes of it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Self

from resilient_agents import events
from resilient_agents.base import instances, timers
from resilient_agents.base.chance import chance, named
from resilient_agents.base.clock import clock
from resilient_agents.base.trial import trial
from resilient_agents.classify import register
from resilient_agents.classify.kinds import KINDS
from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.opening import Opened
from resilient_agents.core.options import Check, Code, Configured, Count, Flag, Seconds, Share
from resilient_agents.core.threads import run_in_worker

__all__ = ["TOLD_ONCE", "Chaos", "ChaosError", "chaos", "told_twice"]

PROFILE: Final = "RESILIENT_AGENTS_PROFILE"
IN_PRODUCTION: Final = "RESILIENT_AGENTS_CHAOS_IN_PRODUCTION"
TOLD_ONCE: Final = (
    f"chaos in production must be told twice: the profile says production, so set {IN_PRODUCTION}=yes, too"
)


def told_twice(profile: str | None, env: Mapping[str, str]) -> bool:
    """May there be chaos under this profile?"""
    return profile != "production" or env.get(IN_PRODUCTION) == "yes"


class ChaosError(Exception):
    """What a call ends in that `Chaos(error="overload")` fails. It classifies as the kind that was asked for.

    Attributes:
        kind: The kind of failure.
        status_code: What a server that fails so would answer with, where one would answer.
    """

    kind = "unknown"

    def __init__(self) -> None:
        super().__init__(f"chaos: {self.kind}")


_STATUSES: Final = {"rate_limit": 429, "overload": 503, "server": 500, "quota": 429, "auth": 401, "not_found": 404}


@functools.cache
def _error_of(kind: str) -> type[ChaosError]:
    facts: dict[str, Any] = {"kind": kind}
    if kind in _STATUSES:
        facts["status_code"] = _STATUSES[kind]
    made = type(f"Chaos{kind.title().replace('_', '')}", (ChaosError,), facts)
    register(made, kind=kind)  # type: ignore[arg-type]  # checked by whoever asks
    return made


class _Error(Check):
    """A kind of failure, or an exception, a class of one, or a function that makes one."""

    def checked(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            if value not in KINDS:
                raise ValueError(f"{name} must be one of {', '.join(KINDS)}, or an exception, got {value!r}")
        elif not isinstance(value, Exception) and not callable(value):
            raise TypeError(f"{name} must be an exception, a class of one, a function that makes one, or a kind of "
                            f"failure, got {value!r}")  # fmt: skip
        return value

    def shown(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return getattr(value, "__qualname__", type(value).__qualname__)

    def spelled(self, value: Any) -> str:
        return repr(value) if isinstance(value, str) else str(self.shown(value))


class _Seed(Check):
    """A string or an int, or None."""

    none = True

    def checked(self, value: Any, name: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"{name} must be a string, an int or None, got {value!r}")
        return value


def _called(value: Any, name: str) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, got {value!r}")
    return value


class Chaos(Configured):
    """Make calls fail, slow or wrong, on purpose. It stands innermost, in the place of the dependency:
    `Policy(Retry(3), CircuitBreaker(), Chaos(error="overload", error_rate=0.3, latency=2.0))`.

    It is switched on by being there, and says so: in the log, by the event `ChaosInjected`, by the attribute
    `resilient_agents.chaos` of spans, and in health. `chaos(...)` puts one inside policies by their names.

    Args:
        error: What calls fail with: an exception, a class of one, a function that makes one, or a kind of failure such
            as "overload" (a `ChaosError` of that kind).
        error_rate: The share of calls that fail, are answered with `result`, or are truncated (default 1.0, all).
        latency: Seconds (float or timedelta) by which each call is later.
        result: What calls are answered with in place of an error. Any value but None.
        when: `when(*args, **kwargs)` chooses the calls, by their arguments; None (default) means all.
        at: For streams: the item, from 1, before which it happens. By default it happens before there is one.
        truncate: Streams end before item `at` as if they were complete.
        seed: A string or int that names the random numbers, so that a run can be had again.

    Raises TypeError or ValueError, when built, for options of a wrong type or value, or that do nothing; RuntimeError
    where the environment variable RESILIENT_AGENTS_PROFILE says "production", unless
    RESILIENT_AGENTS_CHAOS_IN_PRODUCTION says "yes".
    """

    strategy = "chaos"
    innermost = True
    OPTIONS = MappingProxyType(
        {
            "error": _Error(none=True),
            "error_rate": Share(),
            "latency": Seconds(none=True),
            "result": Check(none=True),
            "when": Code(check=_called),
            "at": Count(none=True),
            "truncate": Flag(),
            "seed": _Seed(),
        }
    )

    error: Any
    error_rate: float
    latency: float | None
    result: Any
    when: Callable[..., bool] | None
    at: int | None
    truncate: bool
    seed: str | int | None

    def __init__(
        self,
        *,
        error: Exception | type[Exception] | Callable[[], Exception] | str | None = None,
        error_rate: float = 1.0,
        latency: float | timedelta | None = None,
        result: Any = None,
        when: Callable[..., bool] | None = None,
        at: int | None = None,
        truncate: bool = False,
        seed: str | int | None = None,
    ) -> None:
        self.take(locals())
        if error is None and latency is None and result is None and not truncate:
            raise ValueError("one of error, latency, result and truncate must be given, or nothing would happen")
        if sum((error is not None, result is not None, truncate)) > 1:
            raise ValueError("only one of error, result and truncate can be the end of a call")
        if truncate and at is None:
            raise ValueError("truncate needs at, the item before which the stream ends")
        if result is not None and at is not None:
            raise ValueError("result takes the place of a whole call, so it goes with no at")
        if not told_twice(os.environ.get(PROFILE), os.environ):
            raise RuntimeError(TOLD_ONCE)
        self._chance = chance if seed is None else named(str(seed))
        self._announced = False
        self.name: str | None = None

    def announce(self) -> None:
        """Say that it is on: once, before the first call or when it is put inside a policy."""
        self._announced = True
        instances.add("chaos", self)
        events.logger.warning("chaos is on%s: %r", "" if self.name is None else f" in {self.name!r}", self)
        for monitor in instances.each("health_monitor"):
            monitor.chaos_is_on()

    @contextlib.contextmanager
    def inside(self, policy: str) -> Generator[None, None, None]:
        """Until the block ends it stands inside the policy of this name."""
        self.name = policy
        with trial.placed(self, policy):
            self.announce()
            yield

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        """Run the rest of the call, or not."""
        if not self._announced:
            self.announce()
        if self.when is not None and not self.when(*call.args, **call.kwargs):
            return await proceed(call)
        if call.audience is not None:  # from here on it stands for the function
            call.rare.began = clock.monotonic()
        ends = self.error_rate == 1.0 or self._chance.random() < self.error_rate
        if self.at is not None and self.at > 1 and call.closers is not None:
            return self._disturb(call, await proceed(call), ends=ends)
        if self.latency:
            self._tell(call, "latency")
            await self._delay(call, self.latency)
        if ends and self.truncate and call.closers is not None:
            self._tell(call, "truncated")
            return ()
        if ends and self.error is not None:
            self._tell(call, "error")
            raise self.made()
        if ends and self.result is not None:
            self._tell(call, "result")
            return self.result
        return await proceed(call)

    async def _delay(self, call: Call, seconds: float) -> None:
        if call.workers is not None and call.runtime.blocking:  # to be left behind where the function would be
            await run_in_worker(call, call.workers, functools.partial(clock.sleep, seconds))
        else:
            await call.runtime.sleep(seconds)

    def _disturb(self, call: Call, opened: Any, *, ends: bool) -> Any:
        """What was opened, with what is to happen in the midst of it."""
        if isinstance(opened, Opened) and not opened.over:
            kind = _AsyncItems if opened.asynchronous else _Items
            opened.iterator = kind(opened.iterator, self, functools.partial(self._tell, call), ends=ends)
        return opened

    def made(self) -> Exception:
        """The error that a call is to end in."""
        error = self.error
        if isinstance(error, str):
            return _error_of(error)()
        made: Exception = error if isinstance(error, Exception) else error()
        return made

    def _tell(self, call: Call, what: events.Disturbance) -> None:
        call.tell(events.ChaosInjected, what)

    def live(self) -> dict[str, Any]:
        return {} if self.name is None else {"inside": self.name}


class _Items:
    """The items of a stream, and what happens before one of them."""

    def __init__(self, iterator: Any, chaos: Chaos, tell: Callable[[events.Disturbance], None], *, ends: bool) -> None:
        assert chaos.at is not None
        self._iterator = iterator
        self._left = chaos.at - 1  # the first is there already
        self._chaos = chaos
        self._tell = tell
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._comes():
            if self._chaos.latency:
                self._tell("latency")
                clock.sleep(self._chaos.latency)
            if self._is_over():
                raise StopIteration
        return next(self._iterator)

    def _comes(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _is_over(self) -> bool:
        """Does the stream end here as if it were complete? Raises the error that it is to break off with."""
        if self._ends and self._chaos.error is not None:
            self._tell("error")
            raise self._chaos.made()
        if self._ends and self._chaos.truncate:
            self._tell("truncated")
            return True
        return False


class _AsyncItems(_Items):
    __iter__ = None  # type: ignore[assignment]  # it is iterated by `async for` only

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._comes():
            if self._chaos.latency:
                self._tell("latency")
                await timers.sleep(self._chaos.latency)
            if self._is_over():
                raise StopAsyncIteration
        return await anext(self._iterator)


@contextlib.contextmanager
def chaos(policy: str, **options: Any) -> Generator[Chaos, None, None]:
    """Until the block ends, `Chaos(**options)` stands inside the policy of this name, for new calls everywhere in the
    process, wherever the policy is used. Raises what `Chaos` raises, and ValueError for a name that is none.

        with chaos("openai", error="overload", error_rate=0.3):
            ...
    """
    if not isinstance(policy, str) or not policy:
        raise ValueError(f"policy must be the name of a policy, got {policy!r}")
    strategy = Chaos(**options)
    with strategy.inside(policy):
        yield strategy
