"""What a policy was told of writes, and its part of the chain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from resilient_agents.core.call import Call, Proceed, name_of, unboxed
from resilient_agents.core.guard import declares
from resilient_agents.core.opening import open_source
from resilient_agents.idempotency.write import Write, mark, needs_async

__all__ = ["Writes"]


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
            raise TypeError(needs_async(call))
        write = call.write = Write(self.cautious, self.reconcile)
        result, lasting = None, False
        try:
            if call.runtime.blocking:  # it may yet go on in another context
                call.marks = {**(call.marks or {}), mark: write}
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
        return await write.tried(proceed(call), call)
