"""Calls that write: what a policy may repeat, and the key by which the other side knows a repetition.

A request whose answer got lost may have taken effect. A policy that was told `idempotent=False` repeats it only where
nothing was sent, where the function has asked for its `idempotency_key()`, or where `reconcile` says that the first try
did not take effect. Otherwise the error comes out, with `unknown_outcome=True` in its note and on `CallEnded`.

A policy that was told nothing of writes has no part of this in its chain.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Literal

from resilient_agents.core import given_up
from resilient_agents.core.call import Call, Neutral, Proceed, call_of, name_of, unboxed
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.guard import declares
from resilient_agents.core.invoke import plainly
from resilient_agents.core.opening import open_source
from resilient_agents.core.steps import Step
from resilient_agents.core.threads import Worker, run_in_worker

__all__ = ["Writes", "idempotency_key"]

UNKNOWN: Final = "unknown_outcome=True: it may have taken effect all the same"

State = Literal["running", "open", "refused", "answered"]


class Writes:
    """What a policy was told of writes.

    `idempotent`: True where a call may be made twice, False where not; `reconcile` says what became of a try, and means
    that a call may not. `cautious`: it may not be repeated as it is.
    """

    __slots__ = ("asynchronous", "cautious", "idempotent", "reconcile")

    def __init__(self, idempotent: bool | None = None, reconcile: Callable[..., Any] | None = None) -> None:
        if idempotent is not None and not isinstance(idempotent, bool):
            raise TypeError(f"idempotent must be True, False or None, got {idempotent!r}")
        if reconcile is not None and (not callable(reconcile) or isinstance(reconcile, type)):
            raise TypeError(f"reconcile must be a function of the call's arguments or None, got {reconcile!r}")
        if idempotent and reconcile is not None:
            raise ValueError("reconcile is for calls that may not be made twice, got idempotent=True beside it")
        self.idempotent = idempotent
        self.reconcile = reconcile
        self.cautious = idempotent is False or reconcile is not None
        self.asynchronous = reconcile is not None and declares(inspect.iscoroutinefunction, reconcile)

    def over(self, inner: Writes | None) -> Writes:
        """This word and that of a policy inside, where this one says nothing."""
        if inner is None or self.idempotent is True:
            return self
        reconcile = self.reconcile or inner.reconcile
        idempotent = inner.idempotent if self.idempotent is None and reconcile is None else self.idempotent
        return Writes(idempotent, reconcile)

    def describe(self) -> dict[str, Any]:
        """The two options as plain data."""
        return {"idempotent": self.idempotent, "reconcile": None if self.reconcile is None else name_of(self.reconcile)}

    async def whole(self, proceed: Proceed, call: Call) -> Any:
        """The call, around all that may repeat it."""
        if self.asynchronous and call.runtime.blocking:
            raise TypeError(_needs_async(call))
        write = call.write = Write(self)
        result, lasting = None, False
        try:
            if call.runtime.blocking:  # it may yet go on in another context
                call.marks = {**(call.marks or {}), _current: write}
            write.resume()
            result = await proceed(call)
            if call.closers is not None:
                result = await open_source(call, result)
                result.step = write.in_steps(result.step or result.read)
                call.closers.append(write.end)
                lasting = True
            write.settle(failed=False)
            return result
        except Exception as error:
            write.failed(unboxed(error))
            raise
        finally:
            if not lasting:
                write.over = True  # first, and without a function call: the mark ends in every context
                write.end(None)
            write.suspend()
            result = None

    async def attempt(self, proceed: Proceed, call: Call) -> Any:
        """One try, inside the innermost Retry or Hedge. What an earlier one has done is found out first."""
        write = call.write
        if write is None:  # beneath a composition of somebody else's
            return await proceed(call)
        if self.reconcile is not None:
            found = await write.reconciled(call)
            if found is not None:
                return found
        this = write.begin()
        try:
            result = await proceed(call)
            write.tries[this] = "answered"
            return result
        except Exception as error:
            write.ended(this, call, error)
            raise
        finally:
            if write.tries.get(this) == "running":  # cancelled
                write.tries[this] = "open"
            if call.rare.abandoned:
                write.left_to += call.rare.abandoned


class Write:
    """One call of a policy that was told of writes.

    `tries`: those that may have reached the other side. One is `running`; `open`, it ended and nobody knows; `refused`,
    it got an answer that says no; or `answered`, with a result, or by what reconcile found. `left_to`: threads that may
    still be at one. `withheld`: a repetition was wanted and not made. `unknown`: the caller does not know whether it
    took effect. `over`: the call has ended, and its key is given to nobody any more.

    What threads share is changed in single steps of the interpreter, so there is no lock.
    """

    __slots__ = ("_keys", "_last", "_outer", "_waiting", "_writes", "left_to", "over", "tries", "unknown", "withheld")

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._keys: list[str] = []
        self._last: Exception | None = None
        self._outer: Write | None = None
        self._waiting: list[Callable[[], object]] = []
        self.tries: dict[object, State] = {}
        self.left_to: tuple[Worker, ...] = ()
        self.over = self.withheld = self.unknown = False

    @property
    def outer(self) -> Write | None:
        """The one around it."""
        return self._outer

    @property
    def free(self) -> bool:
        """May it be repeated whatever has become of the tries so far?"""
        return bool(self._keys) or not self._writes.cautious

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
        if self.free or not self.tries or (self._writes.reconcile is not None and not self._goes_on()):
            return True
        self.withheld = True
        return False

    def _goes_on(self) -> bool:
        """Is a try under way, perhaps in a thread that was left behind? Then nobody can say what will become of it."""
        return "running" in tuple(self.tries.values()) or not all(worker.done for worker in self.left_to)

    def may_go_on(self) -> bool:
        """Asked by who wants to go on with an answer that broke off, by another request."""
        self.withheld = self.withheld or not self.free
        return self.free

    def begin(self) -> object:
        this = object()
        self.tries[this] = "running"
        return this

    def ended(self, this: object, call: Call, error: Exception) -> None:
        """A try failed: what does that prove?"""
        failure = call.failure(error)
        if failure.unsent:
            self.tries.pop(this, None)
        else:
            self.tries[this] = "open" if failure.transient or failure.verdict == "failure" else "refused"
        if self._writes.reconcile is not None:
            self._last = unboxed(error)

    async def reconciled(self, call: Call) -> Any:
        """What an earlier try has come to: None where there was none, or where it did not take effect."""
        tries = tuple(self.tries)
        if not tries or self._goes_on():
            return None
        try:
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
        assert self._writes.reconcile is not None
        asked = call_of(call.plan, call.runtime, self._writes.reconcile, call.args, call.kwargs)
        if call.workers is not None:
            found = await run_in_worker(call, call.workers, lambda: plainly(asked))
        else:
            found = plainly(asked)
        if not is_awaitable(found):
            return found
        if call.runtime.blocking:
            discard(found)
            raise TypeError(_needs_async(call))
        return await found

    def settle(self, *, failed: bool) -> None:
        """The call has come to a result, or `failed`: is it known whether it took effect?"""
        states = tuple(self.tries.values())
        known = "answered" in states and not failed
        lost = self._writes.cautious and not known and ("open" in states or "running" in states)
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
            try:
                self.resume()
                return await step(sent, thrown)
            except Exception as error:
                if self.withheld:
                    self.failed(unboxed(error))
                raise
            finally:
                self.suspend()
                del thrown

        return marked

    def end(self, _: Exception | Neutral | None) -> None:
        self.over = True
        self._last = None
        self._waiting.clear()

    def resume(self) -> None:
        """Mark this context, in which the call goes on."""
        outer = _current.get()
        if outer is not self:
            self._outer = outer
            _current.set(self)

    def suspend(self) -> None:
        """Take the mark out of this context."""
        if _current.get() is self:
            _current.set(self._outer)


_current: ContextVar[Write | None] = ContextVar("resilient_agents_write", default=None)


def idempotency_key() -> str:
    """The key of the call that runs here: the same for all its attempts and hedges, new for the next call.

    To be sent along with the request (`Idempotency-Key`), so that the other side does once what it is asked twice.
    Asking for it lets the policy repeat the call whatever became of the request before. It is asked for inside a
    function that is guarded by a policy with `idempotent=` or `reconcile=`, or in what the function calls: in its
    tasks, too, and in threads that take over its context variables. Where such calls are nested, the innermost one
    counts.

    Returns a random UUID as text. Raises RuntimeError outside of such a call, and in a task that has outlived it.
    """
    write = _current.get()
    while write is not None and write.over:
        write = write.outer
    if write is None:
        raise RuntimeError(
            "idempotency_key() was asked for outside a call of a policy that knows of writes: ask inside the function "
            "that is guarded with Policy(..., idempotent=False) or @resilient(..., idempotent=False)"
        )
    return write.key()


def _needs_async(call: Call) -> str:
    return (
        f"the reconcile= of {call.name!r} is async, which a blocking call cannot await: "
        f"use `await policy.acall(...)`, or a plain function for reconcile="
    )
