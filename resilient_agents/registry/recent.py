"""The policies of a keyed policy, by key and in the order of their use, whatever the keys do.

A key is the user's object: its `__eq__` and `__hash__` may raise, or say another thing tomorrow. A dict compares a key
with others that hash alike, so one bad key could fail the calls of good ones. Here it is forgotten instead: what goes
wrong with a key costs its own calls.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from resilient_agents.core.call import Plan
from resilient_agents.policy import Policy

__all__ = ["Entry", "Flight", "Recent"]


class Flight:
    """Held by the calls of a key that are in flight, and by nothing else."""

    __slots__ = ("__weakref__",)


class Entry:
    """A policy that is kept. `plan`: how its calls go; each in flight refers to it, or to one of those before."""

    __slots__ = ("_before", "_flight", "key", "plan", "policy")

    def __init__(self, key: Hashable, policy: Policy) -> None:
        self.key = key
        self.policy = policy
        self.plan: Any = Plan(None)  # of no edition
        self._before: tuple[Plan, ...] = ()
        self._flight: Callable[[], Flight | None] = _nobody

    def go_by(self, plan: Plan) -> None:
        """Let calls go by this plan from now on."""
        plans = (*self._before, self.plan)
        self._before = tuple([plan for plan, references in _counted(plans) if references > _ALONE])
        self.plan = plan

    def hold(self) -> Flight:
        """What a call of this key holds that has no plan of this entry's."""
        flight = self._flight()
        if flight is None:
            flight = Flight()
            self._flight = weakref.ref(flight)
        return flight

    def in_flight(self) -> bool:
        """Is a call of this key under way?"""
        if self._flight() is not None:
            return True
        return any(references > _ALONE for _, references in _counted((*self._before, self.plan)))


def _nobody() -> None:
    return None


def _counted(plans: tuple[Plan, ...]) -> list[tuple[Plan, int]]:
    """Plans with how often each is referred to. CPython counts that for us: a mark of our own would cost each call a
    step."""
    return [(plan, sys.getrefcount(plan)) for plan in plans]


_ALONE = _counted((Plan(None),))[0][1] + 1
"""The references to a plan that an entry has and no call."""


class Recent:
    """Entries by key, the least recently used one first. To be used under its owner's lock.

    The order is one of entries, which compare by identity: no key is asked about where another one's turn is.
    """

    __slots__ = ("_released", "by_key", "order")

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Entry] = {}
        self.order: OrderedDict[Entry, None] = OrderedDict()
        self._released: weakref.WeakValueDictionary[Hashable, Policy] = weakref.WeakValueDictionary()

    def use(self, key: Hashable) -> Entry | None:
        """The entry of `key`, which is the most recently used one now; None if there is none.

        Raises what the `__hash__` or `__eq__` of this very key raises.
        """
        try:
            entry = self.by_key.get(key)
            if entry is None:
                self._released.get(key)  # where `add` will look: it must not raise either
                return None
        except Exception:
            self._forget_those_that_raise(key)
            entry = self.by_key.get(key)
            if entry is None:
                return None
        self.order.move_to_end(entry)
        return entry

    def add(self, key: Hashable, policy: Policy) -> Entry:
        """A new entry for `key`, of which `use` has just said that there is none: with the policy that it had before if
        somebody still holds that one, else with `policy`."""
        entry = Entry(key, self._released.pop(key, policy))
        self.by_key[key] = entry
        self.order[entry] = None
        return entry

    def oldest(self) -> Entry:
        return next(iter(self.order))

    def spare(self, entry: Entry) -> None:
        """Take it for the most recently used one."""
        self.order.move_to_end(entry)

    def release(self, entry: Entry) -> None:
        """Keep it no longer. Its policy is found again for as long as somebody else holds it."""
        del self.order[entry]
        try:
            if self.by_key.get(entry.key) is entry:
                del self.by_key[entry.key]
                self._released[entry.key] = entry.policy
                return
        except Exception:  # the key is not what it was
            pass
        self._rebuild(list(self._released.items()))

    def policies(self) -> list[tuple[Hashable, Policy]]:
        """All that are alive, kept or not."""
        return [*self._released.items(), *((entry.key, entry.policy) for entry in self.order)]

    def _forget_those_that_raise(self, key: Hashable) -> None:
        """Forget the keys that raise when `key` is compared with them."""
        hash(key)
        for entry in [entry for entry in self.order if _raises(entry.key, key)]:
            del self.order[entry]
        self._rebuild([(kept, policy) for kept, policy in self._released.items() if not _raises(kept, key)])

    def _rebuild(self, released: list[tuple[Hashable, Policy]]) -> None:
        """Make the dictionaries anew, from what is in order and from these, without keys that cannot be in one."""
        by_key: dict[Hashable, Entry] = {}
        for entry in list(self.order):
            try:
                known = by_key.setdefault(entry.key, entry)
            except Exception:
                known = None
            if known is not entry:
                del self.order[entry]
        self.by_key = by_key
        self._released = weakref.WeakValueDictionary()
        for key, policy in released:
            with contextlib.suppress(Exception):
                self._released[key] = policy

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


def _raises(kept: Hashable, key: Hashable) -> bool:
    """Does `kept` itself, asked first as by a dict, fail to say whether it is the same?"""
    try:
        type(kept).__eq__(kept, key)
        hash(kept)
    except Exception:
        return True
    return False
