"""Exceptions and handlers from outside, at every point of a scenario where the interpreter may run a signal handler.

CPython runs the handlers of signals in the main thread, between two instructions: where a function begins, and after a
call into C (and where a loop turns, which this does not reach). A profiler is called at just these points. So a
scenario is run again and again, each time with something that happens at the next point inside the library, and each
time it is checked that what is left behind is whole:

    def test_an_interrupted_call_gives_its_slot_back() -> None:
        def check(policy: Policy) -> None:
            assert policy.call(int) == 0  # a lost slot, or a lock that stayed locked

        interrupt_everywhere(lambda: Policy(Bulkhead(1, queue=0)), lambda policy: policy.call(int), check)

`make()` builds what the scenario works on, anew for each point; call the policy there once if the first call is not
meant. `run(made)` is the scenario: blocking, or `run_on("asyncio", ...)` of tests/conftest.py around an async one. What
happens at the point is `act(made)`: by default it raises `Interrupt`, as a soft time limit or Ctrl-C would; for a
handler that returns, pass what the handler does, such as a call through the same policy. `check(made)` then sees what
is left; its AssertionError gets a note that names the point. A scenario whose waits end by themselves (a small
`max_wait`, a thread that gives back) covers the waiting path, where an exception may also come out of the wait.

A scenario, handler or check that does not come to an end within `SECONDS` is itself interrupted, and fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dis
import gc
import inspect
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeVar

import resilient_agents
from resilient_agents.base.clock import Clock
from resilient_agents.simulate.loop import SimulatedLoop

__all__ = ["Interrupt", "ends_elsewhere", "interrupt", "interrupt_everywhere"]

SECONDS = 10.0
T = TypeVar("T")

_RESUME = dis.opmap["RESUME"]

_HOME = os.path.dirname(resilient_agents.__file__) + os.sep
_REPLACED = {inspect.unwrap(Clock.replaced).__code__, Clock.go_by.__code__}
"""What a test itself calls around its scenario."""

_LOOP = SimulatedLoop.time.__code__.co_filename
"""An event loop, which is no more whole than asyncio's own after an interruption of itself."""

_WAITS = frozenset({"acquire", "get", "sleep"})
"""Functions in C out of which the exception of a signal handler comes while they wait."""


class Interrupt(Exception):
    """What a signal handler raises. An Exception, as Celery's soft time limit is: the harder case, for it may be
    taken for one of the user's own."""


def interrupt(_: object = None) -> NoReturn:
    raise Interrupt


def interrupt_everywhere(
    make: Callable[[], T],
    run: Callable[[T], object],
    check: Callable[[T], object],
    *,
    act: Callable[[T], object] = interrupt,
    inside: str = _HOME,
) -> int:
    """Run the scenario once for each point at which `act` can happen, and `check` what is left. Returns how many there
    were. Fails where there is none, which says that the scenario never comes into the library.

    `inside`: how the names of the files begin whose points are meant.
    """
    # in a context of its own, for what the undisturbed run enters nobody may leave
    return contextvars.copy_context().run(_interrupt_everywhere, make, run, check, act, inside)


def _interrupt_everywhere(
    make: Callable[[], T],
    run: Callable[[T], object],
    check: Callable[[T], object],
    act: Callable[[T], object],
    inside: str,
) -> int:
    number = 0
    while True:
        number += 1
        made = make()
        point = _Point(number, inside, partial(act, made))
        with _watchdog(point), _noting(point), _quiet():
            with contextlib.suppress(Interrupt):
                point.run(partial(run, made))
            if not point.where:
                assert number > 1, "the scenario has no point inside the library"
                gc.collect()  # what was interrupted is collected here, and not in another test
                return number - 1
            check(made)


def ends_elsewhere(fn: Callable[[], object], seconds: float = 2.0) -> bool:
    """Does `fn` come to an end in another thread? It does not where it waits for a lock that stayed locked."""
    ended = threading.Event()

    def work() -> None:
        with contextlib.suppress(Exception):
            fn()
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    return ended.wait(seconds)


class _Point:
    """The `number`th point of one run; `where` says which it was, and is empty as long as it was not come to."""

    def __init__(self, number: int, inside: str, act: Callable[[], object]) -> None:
        self.where = ""
        self._left = number
        self._inside = inside
        self._act = act
        self._aside: FrameType | None = None

    def run(self, scenario: Callable[[], object]) -> None:
        sys.setprofile(self._profile)
        try:
            scenario()
        finally:
            sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, what: Any) -> None:
        if frame.f_code in _REPLACED and event in ("call", "return") and self._aside in (None, frame):
            self._aside = frame if event == "call" else None
        file = frame.f_code.co_filename
        if not file.startswith(self._inside) or file == _LOOP or self._aside is not None:
            return
        if (
            event == "c_return"
            or (event == "call" and not _goes_on(frame))
            or (event == "c_call" and getattr(what, "__name__", "") in _WAITS)
        ):
            if _in_callback():  # its error would reach the event loop only, which has its own ways with signals
                return
            self._left -= 1
            if self._left == 0:
                sys.setprofile(None)
                self.where = f"{frame.f_code.co_filename.removeprefix(_HOME)}:{frame.f_lineno} ({event})"
                self._act()


def _goes_on(frame: FrameType) -> bool:
    """Does it go on after an `await` or `yield from`, or with an exception that is thrown into it? There Python runs no
    handlers: what it awaits comes first."""
    code = frame.f_code.co_code
    return code[frame.f_lasti] != _RESUME or code[frame.f_lasti + 1] & 3 >= 2


def _in_callback() -> bool:
    """Does an event loop run here, and none of its tasks?"""
    loop = asyncio._get_running_loop()
    if loop is not None:
        return asyncio.current_task(loop) is None
    trio: Any = sys.modules.get("trio")
    try:
        return trio is not None and "run_sync_soon" in trio.lowlevel.current_task().name
    except RuntimeError:
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without a word on what Python keeps to itself: an interruption in a finalizer, a coroutine whose awaiting was
    interrupted."""
    told = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not Interrupt:
            told(unraisable)

    sys.unraisablehook = hook
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")
            yield
    finally:
        sys.unraisablehook = told


@contextlib.contextmanager
def _noting(point: _Point) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if point.where:
            error.add_note(f"after {point.where}")
        raise


@contextlib.contextmanager
def _watchdog(point: _Point) -> Iterator[None]:
    """Interrupts what waits for ever, with a signal of its own: pytest runs tests in the main thread."""

    def bark(*_: object) -> NoReturn:
        raise AssertionError(f"still waiting {SECONDS:g} s after {point.where or 'the start'}")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
