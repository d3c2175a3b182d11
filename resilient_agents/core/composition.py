"""Strategies composed around an innermost step: what the calls of one policy run, until a policy changes.

The quiet chain is composed once. What a call may need besides, because somebody watches, a deadline is in force or a
run has a budget, is composed when the first such call comes.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from resilient_agents.base.clock import clock
from resilient_agents.base.now import now
from resilient_agents.base.trial import trial
from resilient_agents.core import attempts
from resilient_agents.core.audience import Audience
from resilient_agents.core.bounds import bounded
from resilient_agents.core.call import NO_PLAN, NO_RECHECKS, Call, Plan, Proceed, Rechecks, Strategy
from resilient_agents.core.given_up import UNTIMED
from resilient_agents.core.setup import Setup
from resilient_agents.deadline import Deadline, current, in_force
from resilient_agents.events import Recorder, Subscription
from resilient_agents.events.recorder import SILENT
from resilient_agents.telemetry.bridge import in_force as recording

if TYPE_CHECKING:
    from resilient_agents.idempotency import Writes
    from resilient_agents.telemetry.connected import Connected

__all__ = ["Composed", "chain_of"]


_CALLED: Final = {
    (False, False): None,
    (True, False): "blocking",
    (False, True): "stream",
    (True, True): "blocking stream",
}
"""How a function is called that is not simply awaited, by whether that blocks, and whether it is a stream."""


class Composition(Protocol):
    """What is composed: a policy, as it is now."""

    name: str | None

    @property
    def writes(self) -> Writes | None: ...
    @property
    def watchers(self) -> tuple[Subscription, ...]: ...
    def bind(self) -> tuple[Strategy, ...]: ...


class Composed(Plan):
    """One policy around one innermost step, as it is in one edition: the quiet chain, and on demand the watched one."""

    __slots__ = ("_paid", "_setup", "_special", "_watchers", "_writes")

    def __init__(self, policy: Composition, innermost: Proceed) -> None:
        edition = now.edition  # first: a change in the midst of this makes it out of date
        self.innermost = innermost
        layers = policy.bind()
        self._writes = writes = policy.writes
        self._watchers = (*policy.watchers, *trial.observers)
        self._special: dict[Any, Proceed] = {}
        self._paid: Plan | None = None
        self._setup: Setup | None = None
        super().__init__(policy.name, _rechecks_of(layers), edition)
        self.layers = layers
        if self._watchers:
            self.quiet = None
        if writes is not None:
            self.chain = self._composed(None, watched=False)
            return
        self.chain = chain_of(layers, innermost)
        retry: Any = layers[0] if layers and _offers(layers[0], "alone") else None
        if retry is not None:
            self.counts, self.since = retry.counts, None if retry.timed else UNTIMED
            if len(layers) == 1:
                self.alone = retry
            else:
                self.retry, self.inside = retry, chain_of(layers[1:], innermost)

    def enter(self, call: Call) -> Proceed:
        """The chain for this call: the quiet one unless somebody watches or the caller has a deadline."""
        records = recording()
        limit = charged = None
        if now.deadline() is not None:
            limit = current()
            charged = None if now.budget() is None else now.charged
        if records is not None or self._watchers:
            return self._watched(call, records, limit, charged)
        return self._chain_for(call, limit, charged, watched=False)

    def _watched(self, call: Call, records: Connected | None, limit: Deadline | None, charged: Any) -> Proceed:
        """The same where somebody may want to know of the call."""
        watchers, name, began = self._watchers, call.name, clock.monotonic()
        setup = self._setup
        if setup is None:
            setup = self._setup = Setup(self.layers, self._split(), () if self._writes is None else (self._writes,))
        left = None if limit is None else limit.at - began
        recorder: Recorder = (records and records.recorder(name)) or SILENT
        called = _CALLED[call.runtime.blocking, call.rare.closers is not None]
        wanted = recorder.begin(began, setup, left, called)
        if wanted or watchers or (call.rare.closers is not None and recorder is not SILENT):
            call.own_rare().audience = Audience(name, watchers, recorder, began, setup.configuration, left, {})
            return functools.partial(attempts.operation, self._chain_for(call, limit, charged, watched=True))
        chain = self._chain_for(call, limit, charged, watched=False)
        return chain if recorder is SILENT else functools.partial(attempts.unrecorded, chain, recorder)

    def _chain_for(self, call: Call, limit: Deadline | None, charged: Any, *, watched: bool) -> Proceed:
        """The chain for a call with this deadline, and what charges attempts to a budget."""
        chain = self._composed(charged, watched=watched) if watched or charged is not None else self.chain
        if limit is None or (not call.runtime.blocking and limit.owner == call.runtime.owner()):  # who sees to it
            return chain
        return functools.partial(bounded, chain, limit)

    def paid(self) -> Plan:
        """That of a call that is ordinary but for the budget of a run; `NO_PLAN` where it has a deadline, too."""
        if self.alone is not None:  # whose first attempt is paid for here
            return self if now.paid() else NO_PLAN
        if in_force() is not None or self.of_key:  # whose calls in flight are counted by who refers to their plan
            return NO_PLAN
        paid = self._paid
        if paid is None:
            self._paid = paid = copy.copy(self)
            paid.retry = None
            paid.chain = self._composed(now.charged, watched=False)
        return paid

    def _composed(self, charged: Any, *, watched: bool) -> Proceed:
        """The chain with what is put around each attempt: its watch, and what charges it to the budget of a run."""
        known = self._special.get((charged, watched))
        if known is not None:
            return known
        layers, split, writes = self.layers, self._split(), self._writes
        attempt = chain_of(
            layers[split:], functools.partial(attempts.begun, self.innermost) if watched else self.innermost
        )
        if watched:
            owners = [layer for layer in layers if getattr(layer, "owns_attempts", False)]
            retried = not all(getattr(layer, "races", False) for layer in owners)
            last: Any = next((layer for layer in reversed(layers[:split]) if not getattr(layer, "races", False)), None)
            judge: attempts.Judge | None = last if getattr(last, "judges_results", False) else None
            attempt = functools.partial(attempts.attempt, attempt, judge, retried)
        if charged is not None:
            attempt = functools.partial(charged, attempt)
        chain = chain_of(layers[:split], attempt if writes is None else functools.partial(writes.attempt, attempt))
        self._special[charged, watched] = found = chain if writes is None else functools.partial(writes.whole, chain)
        return found

    def _split(self) -> int:
        """How many of the layers are around an attempt. Without a retry the whole policy is the attempt, but for what
        stands in when it fails."""
        layers = self.layers
        split = 1 + max((i for i, layer in enumerate(layers) if getattr(layer, "owns_attempts", False)), default=-1)
        return split or sum(1 for _ in itertools.takewhile(lambda layer: getattr(layer, "stands_in", False), layers))


def chain_of(layers: Sequence[Strategy], innermost: Proceed) -> Proceed:
    """What runs the layers, outermost first, around the innermost step. A gate inside a circuit breaker needs no layer
    while it is open."""
    proceed = beneath = innermost
    inner: Any = None
    layer: Any
    for layer in reversed(layers):
        if _offers(inner, "heard") and _offers(layer, "execute_around"):
            composed: Proceed = functools.partial(layer.execute_around, inner, beneath)
        else:
            composed = functools.partial(layer.execute, proceed)
        proceed, beneath, inner = composed, proceed, layer
    return proceed


def _offers(layer: object, shortcut: str) -> bool:
    """Has it this way past its `execute`? Not where that alone was given to an object or to its class: it is to run."""
    if not getattr(layer, shortcut, False):
        return False
    owners = (getattr(owner, "__dict__", ()) for owner in (layer, *type(layer).__mro__))
    return next((shortcut in given for given in owners if shortcut in given or "execute" in given), False)


def _rechecks_of(layers: Sequence[Strategy]) -> Rechecks:
    """For each of these layers, outermost first, the outer ones that want a second look."""
    rechecks: Rechecks = {}
    outer: tuple[Callable[[Call], None], ...] = ()
    for layer in layers:
        if outer:
            rechecks[id(layer)] = outer
        recheck = getattr(layer, "recheck", None)
        if recheck is not None:
            outer = (*outer, recheck)
    return rechecks or NO_RECHECKS
