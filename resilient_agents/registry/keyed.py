"""`Keyed`: one policy per host, tenant or model, as many as are in use."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Hashable
from typing import Any, TypeVar, cast

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.base.durations import positive_int
from resilient_agents.base.fork import Lock
from resilient_agents.base.now import now
from resilient_agents.base.spelling import Spelled
from resilient_agents.core.call import Call, Plan, Proceed, name_of
from resilient_agents.core.composition import Composed
from resilient_agents.core.driver import discard, is_awaitable
from resilient_agents.core.guard import declares, guard
from resilient_agents.core.opening import invoke_stream
from resilient_agents.core.streams import Stream
from resilient_agents.core.way_in import WayIn
from resilient_agents.policy import Policy
from resilient_agents.registry.change import is_shared
from resilient_agents.registry.recent import Entry, Recent
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.stream_text import text_in

__all__ = ["Keyed"]

F = TypeVar("F", bound=Callable[..., Any])

_STATEFUL = (CircuitBreaker, Bulkhead, RateLimit, Gate)
_LOOKS = 16
"""How many policies are looked at for one that may go, so that a newcomer costs the same in a big outage."""


class Keyed(Spelled):
    """Guards like a `Policy`, by another one for each key: `key(*args, **kwargs)` of the call's arguments.

    Made by `registry.keyed(...)`. At most `at_most` policies are kept; beyond that the least recently used one goes,
    but never one in use: while a call of that key is in flight, a slot is held, a call waits, a circuit is open, a
    server has asked to wait, or a rate limit has not recovered its burst. Those in use stay on top of `at_most`. (Of
    native objects only the calls in flight are known.)

    Keys stay in this object: names, telemetry and errors have none of them, as they may be many, or secret. One whose
    `__hash__` or `__eq__` raises costs its own calls and no others.

    Locking: `recent` is read and changed under `_lock`; neither `key` nor `make` runs under it.
    """

    def __init__(
        self, make: Callable[[Any], Any], key: Callable[..., Hashable], *, at_most: int = 1000, name: str | None = None
    ) -> None:
        if not callable(key) or declares(inspect.iscoroutinefunction, key):
            raise TypeError(f"key must be a plain function of the call's arguments, got {key!r}")
        if not callable(make):
            raise TypeError(f"a keyed policy is made by a name or a function of the key, got {make!r}")
        self.key = key
        self.at_most = positive_int(at_most, "at_most")
        self.name = name
        self._make = make
        self._lock = Lock()
        self.recent = Recent()
        self.stand_ins: list[Entry] = []  # changed in single steps, which need no lock
        self._edition = 0

    def __call__(self, fn: F) -> F:
        """Guard `fn`, whatever kind it is."""
        return cast(F, guard(self, fn))

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a blocking function under the policy of these arguments."""
        entry, _held = self.look_up(self.key(*args, **kwargs))
        return entry.policy.call(fn, *args, **kwargs)

    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a coroutine function, or any other, under the policy of these arguments."""
        entry, _held = self.look_up(self.key(*args, **kwargs))
        return await entry.policy.acall(fn, *args, **kwargs)

    def stream(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Iterate what `fn` yields under the policy of these arguments, which is looked up with the first item."""
        return Stream(WayIn(self, fn, invoke_stream).call, self.name or name_of(fn), text_in, args, kwargs)

    def policy(self, key: Hashable) -> Policy:
        """The policy of `key`: made when there is none, the same one while it is kept or in use."""
        return self.look_up(key)[0].policy

    def look_up(self, key: Hashable, innermost: Proceed | None = None) -> tuple[Entry, Plan]:
        """What a call of `key` goes by, and what it holds of it for as long as it is in flight; a new key's is the plan
        of a call with this last step.

        Raises TypeError for a key that no dictionary takes, or that is an awaitable: each call would be a key of its
        own.
        """
        while True:
            with self._lock:
                standing_in = self.stand_ins[-1:]
                entry = standing_in[0] if standing_in else self.recent.use(key)
                if entry is not None:
                    self._make_room(entry)
                    return entry, entry.plan
                edition = self._edition
            if is_awaitable(key):
                discard(key)
                raise TypeError(
                    f"key must be a plain function of the call's arguments: {name_of(self.key)} returned an awaitable"
                )
            made = self._make(key)
            policy = made if isinstance(made, Policy) else Policy(made, name=self.name)
            plan = None if innermost is None else _OfKey(policy, innermost)
            with self._lock:
                if edition != self._edition:
                    continue  # the configuration changed meanwhile
                entry = self.recent.use(key)
                if entry is None:
                    entry = self.recent.add(key, policy, plan)
                    self._make_room(entry)
                return entry, entry.plan

    def planned(self, key: Hashable, innermost: Proceed) -> Plan:
        """How calls of `key` with this last step go: by the answer from now on, until something changes."""
        entry, held = self.look_up(key, innermost)
        plan: Any = held
        if plan.edition is not now.edition or plan.innermost is not innermost:
            plan = _OfKey(entry.policy, innermost)
            with self._lock:  # and nobody makes room
                del held
                entry.go_by(plan)
        return cast(Plan, plan)

    def items(self) -> list[tuple[Hashable, Policy]]:
        """The keys whose policies are kept, and these, for whoever wants to look at their numbers; the most recently
        used one last."""
        with self._lock:
            return [(entry.key, entry.policy) for entry in self.recent]

    def __len__(self) -> int:
        """How many policies are kept."""
        return len(self.recent)

    def renew(self) -> None:
        """Make all policies anew, in place: after a reload."""
        with self._lock:
            self._edition += 1
            alive = self.recent.policies()
        for key, policy in alive:
            policy.become(self._make(key))

    def forget(self) -> None:
        """Keep no policy. The next call of a key makes a new one."""
        with self._lock:
            self._edition += 1
            self.recent = Recent()

    @contextlib.contextmanager
    def replaced(self, other: Policy) -> Generator[None, None, None]:
        """Until the block ends, `other` stands in for the policies of all keys."""
        nested = Entry(None, Policy(other, name=self.name))
        try:
            self.stand_ins.append(nested)
            yield
        finally:
            self.stand_ins.remove(nested)

    def plan(self, fn: Callable[..., Any] | None, innermost: Proceed) -> Plan:
        """How calls of `fn` go: each by the plan of its key's policy."""
        return _ByKey(self, innermost)

    def _make_room(self, newest: Entry) -> None:
        looks = _LOOKS
        while len(self.recent) > self.at_most and looks:
            entry = self.recent.oldest()
            if entry is None or entry is newest:
                return
            if entry.in_flight() or _busy(entry.policy):
                self.recent.spare(entry)
                looks -= 1
            else:
                self.recent.release(entry)

    def __repr__(self) -> str:
        return f"Keyed({self.name or name_of(self._make)!r}, key={name_of(self.key)}, at_most={self.at_most})"


class _ByKey(Plan):
    """Sends each call on by the plan of its key's policy."""

    __slots__ = ("_keyed",)

    def __init__(self, keyed: Keyed, innermost: Proceed) -> None:
        super().__init__(keyed.name, edition=now.edition)
        self._keyed = keyed
        self.innermost = innermost
        self.quiet = None

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        """Mostly the key is known, and nothing has changed: that is the path of every call, so what `look_up`
        does is spelled out here, in single steps of the interpreter, which need no lock."""
        keyed = self._keyed
        key = keyed.key(*args, **kwargs) if kwargs else keyed.key(*args)
        recent = keyed.recent
        try:
            entry = recent.by_key.get(key)
            if entry is not None:
                plan: _OfKey = entry.plan
                if plan.quiet is now.edition and plan.innermost is self.innermost and not keyed.stand_ins:
                    recent.order.move_to_end(entry)
                    return plan
        except Exception:  # a key that was just released, or a bad one: `look_up` knows
            pass
        return keyed.planned(key, self.innermost)

    def enter(self, call: Call) -> Proceed:
        call.plan = plan = self.find(call.args, call.kwargs)
        return plan.enter(call)


class _OfKey(Composed):
    """How calls of one key go. It holds the policy for as long as one of them is in flight."""

    __slots__ = ("_policy",)
    of_key = True

    def __init__(self, policy: Policy, innermost: Proceed) -> None:
        super().__init__(policy, innermost)
        self._policy = policy


def _busy(policy: Policy) -> bool:
    """Would a new policy in its place forget something that still matters?"""
    for layer in policy.layers:
        if not isinstance(layer, _STATEFUL) or is_shared(layer):
            continue
        if isinstance(layer, CircuitBreaker) and layer.state == "open":
            return True
        if isinstance(layer, Bulkhead) and (layer.in_use or layer.queued):
            return True
        if isinstance(layer, RateLimit) and layer.available < layer.burst:
            return True
        if isinstance(layer, Gate) and (layer.retry_after or layer.queued):
            return True
    return False
