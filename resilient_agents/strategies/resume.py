"""`Resume`: a stream that broke off goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import Any, ClassVar

from resilient_agents.classify import is_transient
from resilient_agents.core import given_up
from resilient_agents.core.call import Call, Closer, Neutral, Proceed, name_of, run_closers, unboxed
from resilient_agents.core.match import Match, Matcher, ask, is_async, matcher
from resilient_agents.core.opening import Opened
from resilient_agents.core.options import Code, Configured, Count, Errors
from resilient_agents.core.steps import Over
from resilient_agents.strategies.stream_kinds import OPENER, Progress

__all__ = ["Resume"]


def _callable(value: Any, name: str) -> Any:
    if not callable(value):
        raise TypeError(f"{name} must be a function of the items so far and the call's arguments, got {value!r}")
    return value


class Resume(Configured):
    """A stream that breaks off after its first item goes on with the next part, which `continue_with` gives.

    After an error that `on` chooses (a type, a predicate, or a tuple of these; default: transient ones, and so a stall
    or a truncation that a `StreamTimeout` inside found), `continue_with(items, *args, **kwargs)` is called in place of
    the function, with a list of the items handed out so far and the arguments of the call. It may be async where the
    call is. What it returns is streamed like what the function returns, and holds only what is new; openers at its
    beginning, such as `message_start`, are left out. The consumer sees one stream.

    What stands inside runs for each part: a `Retry` has its attempts, a `Bulkhead` gives its slot back in between, a
    breaker counts each part. A part that cannot be opened uses up one of `times` (default 2). In the end the first
    error comes out.

    In a policy with `idempotent=False` it goes on only if the function has asked for its `idempotency_key()`.

    The items of a stream are kept until it ends. Raises TypeError or ValueError, when built, for options of a wrong
    type or value; TypeError, when it decorates a function that is no generator function or is called around a call that
    is no stream, where `continue_with` is async in blocking code, and where it returns no stream.
    """

    strategy = "resume"
    OPTIONS = MappingProxyType({"continue_with": Code(check=_callable), "times": Count(), "on": Errors()})
    owns_attempts: ClassVar[bool] = True

    continue_with: Callable[..., Any]
    times: int
    on: Match

    def __init__(self, continue_with: Callable[..., Any], *, times: int = 2, on: Match = is_transient) -> None:
        self.take(locals())
        self.matches: Matcher = matcher(on)

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        if call.closers is None:
            self.refuse_no_stream(call.name)
        if call.runtime.blocking and is_async(self.continue_with):
            raise TypeError(
                f"continue_with={name_of(self.continue_with)} is async, which nothing awaits in the blocking stream "
                f"of {call.name!r}"
            )
        return _Whole(self, proceed, call).open()

    def chooses(self, call: Call, failed: Exception) -> bool:
        """Is this an error to go on after?"""
        chosen = ask(self.matches, failed, failed)
        if call.audience is not None and self.on is not is_transient:
            call.audience.decided(self, "yes" if chosen else "no")
        return chosen

    def refuse_no_stream(self, name: str) -> None:
        raise TypeError(
            f"{name!r} is no stream, which a Resume goes on with: call it by policy.stream(...) or decorate the "
            f"generator function; a Retry makes a call anew"
        )


class _Whole:
    """One stream in several parts. `_part`: the one that is read now, None between two."""

    __slots__ = ("_call", "_closers", "_first", "_given", "_items", "_left", "_opened", "_part", "_proceed", "_resume",
                 "_starts")  # fmt: skip

    def __init__(self, resume: Resume, proceed: Proceed, call: Call) -> None:
        self._resume = resume
        self._proceed = proceed
        self._call = call
        self._given = call.args
        self._items: list[Any] = []
        self._left = resume.times
        self._first: Exception | None = None
        self._part: Opened | None = None
        self._opened: Opened | None = None
        self._closers: list[Closer] = []
        self._starts = False

    async def open(self) -> Opened:
        part = await self._next_part()
        self._opened = opened = Opened(self, self, part.first, over=part.over)
        if not part.over:
            self._items.append(part.first)
        opened.step = self.step
        assert self._call.closers is not None
        self._call.closers.append(self._end)
        return opened

    async def step(self, sent: Any, thrown: BaseException | None) -> Any:
        """The next item of the whole, `Over` at its end."""
        while True:
            try:
                part = self._part
                if part is None:
                    part = await self._go_on()
                    item = Over(part.first) if part.over else part.first
                else:
                    item = await (part.step or part.read)(sent, thrown)
            except Exception as error:
                if thrown is not None or not await self._may_go_on(error):
                    raise
                sent = None
                continue
            finally:
                thrown = None
            if type(item) is Over:
                return item
            if self._starts and Progress().see(item) == OPENER:
                continue
            self._starts = False
            self._items.append(item)
            return item

    async def _next_part(self) -> Opened:
        """Open a part. What the layers inside leave for its end ends with it."""
        call = self._call
        assert call.closers is not None
        kept = len(call.closers)
        part: Opened = await self._proceed(call)
        self._part = part
        self._closers, call.closers = call.closers[kept:], call.closers[:kept]
        return part

    async def _go_on(self) -> Opened:
        call, resume = self._call, self._resume
        self._left -= 1
        call.fn = resume.continue_with
        call.args = (list(self._items), *self._given)
        part = await self._next_part()
        if part.source is None:
            raise TypeError(
                f"continue_with={name_of(resume.continue_with)} must return a stream of what is new, "
                f"got {type(part.first).__name__}"
            )
        assert self._opened is not None
        self._opened.parts += 1
        self._starts = True
        return part

    async def _may_go_on(self, error: Exception) -> bool:
        """Leave the part that failed, or that was not to be opened. Is there to be another? Raises the first error
        where there is none, unless this one is of no kind to go on after."""
        failed, first = unboxed(error), self._first
        try:
            if not self._resume.chooses(self._call, failed):
                if first is not None and failed.__cause__ is None:
                    given_up.set_cause(failed, first)
                return False
            write = self._call.write
            if write is not None and not write.may_go_on():
                return False
            self._first = first = first or failed
            await self._leave(failed)
            if self._left:
                return True
            parts = self._opened.parts if self._opened is not None else 1
            given_up.note(first, f"broke off after {len(self._items)} items in {parts} parts")
            raise first
        finally:
            del error, failed, first  # no cycle through the traceback

    async def _leave(self, outcome: Exception | Neutral | None) -> None:
        part, self._part = self._part, None
        closers, self._closers = self._closers, []
        try:
            if part is not None:
                await part.end(outcome, blocking=self._call.runtime.blocking)
        finally:
            run_closers(closers, outcome)

    # What `Opened` closes is this. The closers are told afterwards how the whole ended.

    def close(self) -> None:
        if self._part is not None:
            self._part.close(self._raised())

    async def aclose(self) -> None:
        if self._part is not None:
            await self._part.end(self._raised(), blocking=False)

    def _raised(self) -> BaseException | None:
        return None if self._opened is None else self._opened.raised

    def _end(self, outcome: Exception | Neutral | None) -> None:
        closers, self._closers = self._closers, []
        self._first = self._opened = None  # the two refer to each other
        self._items = []
        run_closers(closers, outcome)

    def __getattr__(self, name: str) -> Any:
        """What the whole has not, the present part may have."""
        part = None if name.startswith("_") else self._part
        if part is None:
            raise AttributeError(name)
        return getattr(part.source, name)
