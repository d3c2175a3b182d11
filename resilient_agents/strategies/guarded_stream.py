"""One stream under a `StreamTimeout`: its limits, what its items say, and what is held back at its beginning."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import Any, Final

from resilient_agents.base.clock import clock
from resilient_agents.core.bounds import deadline_exceeded
from resilient_agents.core.call import NEUTRAL, Call, Neutral, Proceed, unboxed
from resilient_agents.core.given_up import note_also
from resilient_agents.core.loops import running_loop
from resilient_agents.core.match import ask
from resilient_agents.core.opening import Opened, give_up
from resilient_agents.core.steps import Over, Step
from resilient_agents.errors import DeadlineExceeded, PolicyTimeoutError, StreamTimeoutError
from resilient_agents.strategies.cutting import Cut, in_worker
from resilient_agents.strategies.step_limit import Limits, StepLimit
from resilient_agents.strategies.stream_faults import said_failed, timed_out, truncated
from resilient_agents.strategies.stream_kinds import FAILED, ITEM, OPENER, Progress, breaks, has_known_items, reader_of

__all__ = ["GuardedStream"]

COMPLETE_ALL: Final = Over(None)
"""The end of a stream that went on, in whatever way, after its mark of completion."""


class GuardedStream:
    """Opens one stream and sees each of its items."""

    __slots__ = ("_blank", "_call", "_cut", "_due", "_ended", "_held", "_inner", "_items", "_late", "_limit", "_limits",
                 "_next_error", "_opened", "_progress", "_raw", "_seconds", "_timed", "_used", "_which")  # fmt: skip

    def __init__(self, limits: Limits, call: Call) -> None:
        self._limits, self._call = limits, call
        self._limit = StepLimit(call)
        self._progress = Progress()
        self._blank: type | None = None  # items of this class say nothing
        self._held: deque[Any] = deque()
        self._items = 0
        self._used = 0.0
        self._timed = call.runtime.blocking or limits.total is not None
        self._late: str | None = None
        self._next_error: Exception | None = None
        self._ended: Over | None = None
        self._due = False
        self._opened: Opened | None = None
        self._inner: Step
        self._which, self._seconds = "first_item", limits.first_item
        self._raw: Any = None  # what an async source is asked by, if by nothing else
        self._cut: Cut | None = None

    async def open(self, proceed: Proceed) -> Opened:
        """The stream, up to the first item that means something, all within the limit of the first item."""
        call = self._call
        assert call.closers is not None
        kept, ready = len(call.closers), False
        outcome: Exception | Neutral = NEUTRAL
        try:
            self._inner = partial(self._begin, proceed)
            opened: Opened = self._hold_back(await self.step(None, None))
            self._which, self._seconds = "idle", self._limits.idle
            opened.step = self.step
            alike = self._raw is not None and self._limits.idle is not None and not self._timed
            # On trio a step has a scope, beside which a coroutine is nothing.
            opened.limited = self if alike and running_loop() is not None else None
            call.closers.append(self._end)
            ready = True
            return opened
        except Exception as error:
            outcome = unboxed(error)
            raise
        finally:
            if not ready and self._opened is not None:
                await give_up(call, self._opened, kept, outcome)
            outcome = NEUTRAL

    async def _begin(self, proceed: Proceed, *_: Any) -> Opened:
        call, limits = self._call, self._limits
        before, rare = call.workers, call.own_rare()
        reads = rare.reads
        try:
            if limits.workers is not None:
                call.workers = limits.workers
            rare.reads = self._watch if call.runtime.blocking and limits.thread is None else None
            opened: Opened = await proceed(call)
            self._opened = opened
        finally:
            call.workers, rare.reads = before, reads
        self._inner = inner = opened.step or opened.read
        if not call.runtime.blocking:
            self._raw = getattr(opened.iterator, "__anext__", None) if opened.step is None else None
        elif limits.workers is not None:
            self._inner = inner = partial(in_worker, call, limits.workers, opened, inner)
        elif limits.thread is None and self._cut is None:
            self._watch(opened.source)  # openers may be all that comes
        item: Any = Over(None) if opened.over else opened.first
        while type(item) is not Over:
            self._held.append(item)
            self._items += 1
            if not self._says_nothing(item):
                return opened
            item = await inner(None, None)
        if self._cut is not None and self._cut.done():
            raise ConnectionError("cut off")
        self._check_complete()
        self._ended = item
        return opened

    def _watch(self, source: Any) -> None:
        """The step that is under way reads this."""
        self._cut = cut = Cut.of(source)
        if cut is not None:
            cut.begin(self._limit.at)

    def _hold_back(self, begun: Any) -> Any:
        """The stream with its first item; what came with it is due. `begun`: `Over` where an opener completed it, and
        no item followed."""
        if type(begun) is Over:
            begun, self._ended = self._opened, begun
        if self._held:
            begun.first = self._held.popleft()
            self._due = bool(self._held or self._ended or self._late) or self._next_error is not None
        return begun

    async def _give_due(self) -> Any:
        """What is to come before any further step."""
        if self._held:
            return self._held.popleft()
        if self._ended is not None:
            return self._ended
        self._due = False
        error, self._next_error = self._next_error, None
        try:
            if error is not None or self._late is not None:
                return self._failed(self._expired(self._late or "total") if error is None else error)
        finally:
            error = None
        return await self.step(None, None)

    def _nearest(self) -> tuple[str, float | None]:
        """The limit of the next step, and how many seconds it has, where there is one for the whole."""
        total = self._limits.total
        left = None if total is None else total - self._used
        if left is not None and (self._seconds is None or left < self._seconds):
            return "total", left
        return self._which, self._seconds

    async def step(self, sent: Any, thrown: BaseException | None) -> Any:
        """The next item, `Over` at the end, within its limit. The opening is one, too."""
        if self._due and thrown is None:
            return await self._give_due()
        limit = self._limit
        which, seconds, now = self._which, self._seconds, math.inf
        if self._timed:
            which, seconds = self._nearest()
        try:
            limit.at = math.inf
            if seconds is not None:
                now = limit.begin(seconds)
            if self._cut is not None:
                self._cut.begin(limit.at)
            if self._raw is not None and sent is None and thrown is None:
                item = await self._raw()
            else:
                item = await self._inner(sent, thrown)
        except StopAsyncIteration:
            item = Over(None)
        except BaseException as error:
            item = self._raised(error, which, seconds, now, thrown)
        finally:
            limit.active = False
            scope, limit.scope = limit.scope, None  # here, for an exception from outside may keep a call from beginning
            if scope is not None:
                scope.__exit__(None, None, None)
            limit.finish()
            shut = self._cut is not None and self._cut.done()
            thrown = None
        if self._timed:
            item = self._timed_step(item, which, seconds, now, shut=shut)
        if type(item) is Over:
            if item is not COMPLETE_ALL:
                self._check_complete()
        elif item is not self._opened:
            self._items += 1
            if type(item) is not self._blank:
                self._see(item)
        return item

    async def flow(self) -> AsyncGenerator[Any, None]:
        """The items of an async stream on asyncio, whose steps have one limit: what `step` does, spelled out."""
        limit, raw, idle = self._limit, self._raw, self._limits.idle
        assert idle is not None
        while True:
            if self._due:
                item = await self.step(None, None)
            else:
                try:
                    limit.begin(idle)
                    item = await raw()
                except StopAsyncIteration:
                    self._check_complete()
                    return
                except BaseException as error:
                    item = self._raised(error, "idle", idle, math.inf, None)
                finally:
                    limit.active = False
                    limit.finish()
                self._items += 1
                if type(item) is not self._blank and type(item) is not Over:
                    self._see(item)
            if type(item) is Over:
                return
            yield item

    def _raised(
        self, error: BaseException, which: str, seconds: float | None, now: float, thrown: BaseException | None
    ) -> Over:
        """A step raised: its time was up, it failed, or all that counts had come before."""
        try:
            if self._limit.cut_off(error):
                return self._failed(self._expired(which))
            if thrown is not None or not isinstance(error, Exception):
                raise error
            late = seconds is not None and self._call.runtime.blocking and clock.monotonic() - now >= seconds
            return self._failed(error, self._expired(which) if late else self._cut_at_the_deadline())
        finally:
            del error, thrown  # no cycle through the traceback

    def _timed_step(self, item: Any, which: str, seconds: float | None, began: float, *, shut: bool) -> Any:
        """What comes late in blocking code counts as late, but an item is handed out before the limit ends the
        stream. `shut`: the end of what was read is that of its connection."""
        if type(item) is Over:
            return self._failed(self._cut_at_the_deadline() or self._expired(which)) if shut else item
        if seconds is not None:
            self._used += (took := clock.monotonic() - began)
            if took > seconds and self._call.runtime.blocking:
                self._late = which
                self._due = True
        return item

    def _cut_at_the_deadline(self) -> DeadlineExceeded | None:
        """What to raise of a step that was cut off there."""
        callers = None if self._cut is None or not self._cut.done() else self._cut.callers
        return None if callers is None else deadline_exceeded(self._call, callers)

    def _says_nothing(self, item: Any) -> bool:
        """Take in one of the first items. Is it still the preamble?"""
        complete, preamble = self._limits.complete, self._limits.preamble
        says = ITEM
        if complete != "auto" and preamble == "auto":
            says = Progress().see(item)
        says = max(says, self._see(item))
        if preamble == "auto":
            return says == OPENER
        return preamble is not None and self._next_error is None and self._asks("preamble", preamble, item)

    def _see(self, item: Any) -> int:
        """Take in what an item says of the whole."""
        complete, progress = self._limits.complete, self._progress
        if complete is None or (complete == "auto" and reader_of(type(item)) is None):
            self._blank = type(item)
            return ITEM
        if complete != "auto":
            progress.complete = self._asks("complete", complete, item) or progress.complete
            return ITEM
        says = progress.see(item)
        if says == FAILED:
            raise said_failed(self._call, *(progress.failed or ("error", None, None)))
        return says

    def _asks(self, name: str, predicate: Any, item: Any) -> bool:
        """What a predicate of the user's says of an item. What it raises comes out after the item."""
        try:
            return ask(predicate, item)
        except Exception as error:
            self._next_error = raised = unboxed(error)
            note_also(raised, f"raised by {name}= of the StreamTimeout, about an item of {type(item).__name__}")
            del raised
            self._due = True
            return False

    def _check_complete(self) -> None:
        """The stream has ended: was that its end?"""
        complete, progress = self._limits.complete, self._progress
        if complete is None or progress.complete:
            return
        unknown = complete == "auto" and not progress.known
        if unknown and (self._items or self._opened is None or not has_known_items(self._opened.source)):
            return
        raise truncated(self._call, self._items)

    def _failed(self, error: Exception, late: PolicyTimeoutError | None = None) -> Over:
        """An error in the midst, or after all that counts has come. `late`: the limit that it came too late for."""
        progress = self._progress
        try:
            if progress.complete and not progress.may_go_on:
                return COMPLETE_ALL
            if late is not None:
                raise late from unboxed(error)
            if self._limits.complete == "auto" and breaks(unboxed(error), progress.known):
                with suppress(Exception):
                    error.transient = True  # type: ignore[attr-defined]  # what `classify` asks an error first
            raise error
        finally:
            del error, late  # no cycle through the traceback

    def _expired(self, which: str) -> StreamTimeoutError:
        return timed_out(self._call, which, getattr(self._limits, which), self._items)

    def _end(self, outcome: Exception | Neutral | None) -> None:
        self._limit.end()
        self._opened = None  # the two refer to each other
        finish, audience = self._progress.finish, self._call.audience
        if audience is not None and finish is not None and finish.isidentifier():
            audience.finish = finish
