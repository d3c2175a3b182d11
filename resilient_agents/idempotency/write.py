"""One call that writes: what became of its tries, and its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Literal

from resilient_agents.classify import Failure, classify
from resilient_agents.core import given_up
from resilient_agents.core.audience import Helping
from resilient_agents.core.call import Call, Neutral, call_of, unboxed
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.invoke import plainly
from resilient_agents.core.opening import open_source
from resilient_agents.core.steps import Step
from resilient_agents.core.threads import Worker, run_in_worker

__all__ = ["Write", "idempotency_key", "mark", "needs_async"]

UNKNOWN: Final = "unknown_outcome=True: it may have taken effect all the same"

State = Literal["running", "open", "refused", "answered"]
Reconcile = Callable[..., Any]


class _Try:
    """One request of a call, which is `of` its pass; `elsewhere`: by another function."""

    __slots__ = ("elsewhere", "of")

    def __init__(self, call: Call, elsewhere: bool) -> None:
        self.elsewhere = elsewhere
        self.of = id(call)


class Write:
    """One call of a policy that was told of writes.

    `tries`: those that may have reached the other side. One is `running`; `open`, it ended and nobody knows; `refused`,
    it got an answer that says no; or `answered`, with a result, or by what reconcile found. `left_to`: threads that may
    still be at one. `withheld`: a repetition was wanted and not made. `unknown`: the caller does not know whether it
    took effect. `over`: the call has ended, and its key is given to nobody any more.

    What threads share is changed in single steps of the interpreter, so there is no lock.
    """

    __slots__ = ("_cautious", "_keys", "_last", "_outer", "_reconcile", "_waiting", "left_to", "over", "tries",
                 "unknown", "withheld")  # fmt: skip

    def __init__(self, cautious: bool, reconcile: Reconcile | None) -> None:
        self._cautious = cautious
        self._reconcile = reconcile
        self._keys: list[str] = []
        self._last: Exception | None = None
        self._outer: Write | None = None
        self._waiting: list[Callable[[], object]] = []
        self.tries: dict[_Try, State] = {}
        self.left_to: tuple[Worker, ...] = ()
        self.over = self.withheld = self.unknown = False

    @property
    def outer(self) -> Write | None:
        """The one around it."""
        return self._outer

    @property
    def free(self) -> bool:
        """May it be repeated whatever has become of the tries so far?"""
        return not self._cautious or (bool(self._keys) and not self._elsewhere())

    def on_free(self, tell: Callable[[], object]) -> None:
        """Call `tell()` when it becomes `free`, if it is not."""
        self._waiting.append(tell)

    def key(self) -> str:
        """The key, from now on."""
        if not self._keys:
            import uuid  # only for those who ask

            self._keys.append(str(uuid.uuid4()))  # of threads that ask at once, the first one's counts
            for tell in tuple(self._waiting):
                tell()
        return self._keys[0]

    def may_repeat(self) -> bool:
        """Asked by who wants to try again, now that a try has failed."""
        if self.free or not self.tries:
            return True
        if self._reconcile is not None and not self._elsewhere() and not self._goes_on():
            return True
        self.withheld = True
        return False

    def _elsewhere(self) -> bool:
        """May another function have done it? Neither the key nor reconcile tells of that."""
        return any(state != "refused" for this, state in tuple(self.tries.items()) if this.elsewhere)

    def _goes_on(self) -> bool:
        """Is a try under way, perhaps in a thread that was left behind? Then nobody can say what will become of it."""
        return "running" in tuple(self.tries.values()) or not all(worker.done for worker in self.left_to)

    def may_go_on(self) -> bool:
        """Asked by who wants to go on with an answer that broke off, by another request."""
        self.withheld = self.withheld or not self.free
        return self.free

    def may_go_elsewhere(self, call: Call, error: Exception | None) -> bool:
        """Asked by who wants to let another function do it, after this error, or after a result: only where nothing can
        have taken effect, as the other side knows neither the key nor what became of it here."""
        if not self._cautious:
            return True
        around = id(call)  # the try that it is a part of goes on, and has come to this error so far
        tries = tuple(self.tries.items())
        states = [state for this, state in tries if state != "running" or this.of != around]
        if {*states, "answered" if error is None else _state(call.failure(error))} <= {"refused", None}:
            return True
        self.withheld = True
        return False

    async def tried(self, asked: Awaitable[Any], call: Call, *, elsewhere: bool = False) -> Any:
        """What comes of one more try, which may be another function's."""
        this = _Try(call, elsewhere)
        self.withheld = False  # what was is made now
        self.tries[this] = "running"
        try:
            result = await asked
            self.tries[this] = "answered"
            return result
        except Exception as error:
            self._ended(this, call, error)
            raise
        finally:
            if self.tries.get(this) == "running":  # cancelled
                self.tries[this] = "open"
            if call.rare.abandoned:
                self.left_to += call.rare.abandoned

    def _ended(self, this: _Try, call: Call, error: Exception) -> None:
        """A try failed: what does that prove?"""
        state = _state(call.failure(error))
        if state is None:
            self.tries.pop(this, None)
        else:
            self.tries[this] = state
        if self._reconcile is not None:
            self._last = unboxed(error)

    async def reconciled(self, call: Call) -> Any:
        """What an earlier try has come to: None where there was none, or where it did not take effect."""
        tries = tuple(self.tries)
        if not tries or self._goes_on():
            return None
        try:
            with Helping(call.audience, "reconcile"):
                found = await self._look_up(call)
        except Exception as error:
            raised = unboxed(error)
            if raised.__cause__ is None and raised is not self._last:
                given_up.set_cause(raised, self._last)
            raise
        for this in tries:
            if found is None:
                self.tries.pop(this, None)
            else:
                self.tries[this] = "answered"
        return found if found is None or call.closers is None else await open_source(call, found)

    async def _look_up(self, call: Call) -> Any:
        assert self._reconcile is not None
        asked = call_of(call.plan, call.runtime, self._reconcile, call.args, call.kwargs)
        if call.workers is not None:
            found = await run_in_worker(call, call.workers, lambda: plainly(asked))
        else:
            found = plainly(asked)
        if not is_awaitable(found):
            return found
        if call.runtime.blocking:
            discard(found)
            raise TypeError(needs_async(call))
        return await found

    def settle(self, *, failed: bool) -> None:
        """The call has come to a result, or `failed`: is it known whether it took effect?"""
        states = tuple(self.tries.values())
        known = "answered" in states and not failed
        lost = self._cautious and not known and ("open" in states or "running" in states)
        self.unknown = self.withheld or lost
        self._last = None

    def failed(self, error: Exception) -> None:
        """`error` comes out of the call. Where the outcome is unknown it says so, and no outer retry repeats it."""
        self.settle(failed=True)
        if self.unknown:
            given_up.exhausted(error)
            given_up.note_also(error, UNKNOWN)

    def in_steps(self, step: Step) -> Step:
        """The steps of a stream, in which the function's code runs: there, too, it may ask for its key."""

        async def marked(sent: Any, thrown: BaseException | None) -> Any:
            raised: Exception | None = None
            try:
                self.resume()
                return await step(sent, thrown)
            except Exception as error:
                raised = unboxed(error)
                if self._cautious and raised is not thrown and _state(classify(raised)) == "open":
                    self.withheld = True  # it broke off, and is not begun anew
                if self.withheld:
                    self.failed(raised)
                raise
            finally:
                self.suspend()
                raised = thrown = None  # no cycle through the traceback

        return marked

    def end(self, _: Exception | Neutral | None) -> None:
        self.over = True
        self._last = None
        self._waiting.clear()

    def resume(self) -> None:
        """Mark this context, in which the call goes on."""
        outer = mark.get()
        while outer is not None and outer.over:  # of a call that this task has outlived
            outer = outer.outer
        if outer is not self:
            self._outer = outer
            mark.set(self)

    def suspend(self) -> None:
        """Take the mark out of this context."""
        if mark.get() is self:
            mark.set(self._outer)


def _state(failure: Failure) -> State | None:
    """What a failure proves of a try; None where it never reached the other side."""
    if failure.unsent:
        return None
    return "open" if failure.transient or failure.verdict == "failure" else "refused"


mark: ContextVar[Write | None] = ContextVar("resilient_agents_write", default=None)


def idempotency_key() -> str:
    """The key of the call that runs here: the same for all its attempts and hedges, new for the next call.

    To be sent along with the request (`Idempotency-Key`), so that the other side does once what it is asked twice.
    Asking for it lets the policy repeat the call whatever became of the request before. It is asked for inside a
    function that is guarded by a policy with `idempotent=` or `reconcile=`, or in what the function calls: in its
    tasks, too, and in threads that take over its context variables. Where such calls are nested, the innermost one
    counts.

    Returns a random UUID as text. Raises RuntimeError outside of such a call, and in a task that has outlived it.
    """
    write = mark.get()
    while write is not None and write.over:
        write = write.outer
    if write is None:
        raise RuntimeError(
            "idempotency_key() was asked for outside a call of a policy that knows of writes: ask inside the function "
            "that is guarded with Policy(..., idempotent=False) or @resilient(..., idempotent=False)"
        )
    return write.key()


def needs_async(call: Call) -> str:
    return (
        f"the reconcile= of {call.name!r} is async, which a blocking call cannot await: "
        f"use `await policy.acall(...)`, or a plain function for reconcile="
    )
