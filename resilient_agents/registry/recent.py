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
from collections.abc import Hashable, Iterator
from typing import Any

from resilient_agents.core.call import Plan
from resilient_agents.policy import Policy

__all__ = ["Entry", "Recent"]


class Entry:
    """A policy that is kept. `plan`: how its calls go; each in flight refers to it, or to one of those before."""

    __slots__ = ("_before", "key", "plan", "policy")

    def __init__(self, key: Hashable, policy: Policy, plan: Plan | None = None) -> None:
        self.key = key
        self.policy = policy
        self.plan: Any = plan or Plan(None)  # of no edition
        self._before: tuple[Plan, ...] = ()

    def go_by(self, plan: Plan) -> None:
        """Let calls go by this plan from now on."""
        self._before = _referred_to((*self._before, self.plan))
        self.plan = plan

    def in_flight(self) -> bool:
        """Is a call of this key under way?"""
        return bool(_referred_to((*self._before, self.plan)))


def _referred_to(plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
    """Those of an entry's plans that a call refers to. CPython counts that for us: a mark of our own would cost each
    call a step."""
    return tuple([plan for plan in plans if sys.getrefcount(plan) > _ALONE])


def _alone() -> int:
    """The references to a plan that an entry has and no call."""
    counted = [sys.getrefcount(plan) for plan in (Plan(None),)]  # as `_referred_to` counts
    return counted.pop() + 1


_ALONE = _alone()


class Recent:
    """Entries by key, the least recently used one first. To be used under its owner's lock.

    The order is one of entries, which compare by identity: no key is asked about where another one's turn is.

    A handler, a finalizer or a key's own `__eq__` may come here between any two steps, though the lock is held: what is
    gone by then is taken for gone, and what is gone through is a copy.
    """

    __slots__ = ("_released", "by_key", "order")

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Entry] = {}
        self.order: OrderedDict[Entry, None] = OrderedDict()
        self._released: weakref.WeakValueDictionary[Hashable, Policy] = weakref.WeakValueDictionary()

    def use(self, key: Hashable) -> Entry | None:
        """The entry of `key`, which is the most recently used one now: with the policy that it had before, where
        somebody still holds that; None if there is none.

        Raises what the `__hash__` or `__eq__` of this very key raises.
        """
        try:
            return self._use(key)
        except Exception:
            self._forget_those_that_raise(key)
            return self._use(key)

    def _use(self, key: Hashable) -> Entry | None:
        entry = self.by_key.get(key)
        if entry is None:
            policy = self._released.pop(key, None)
            return None if policy is None else self.add(key, policy)
        self.order.move_to_end(entry)
        return entry

    def add(self, key: Hashable, policy: Policy, plan: Plan | None = None) -> Entry:
        """A new entry for `key`, of which `use` has just said that there is none."""
        entry = Entry(key, policy, plan)
        self.order[entry] = None  # first, where `_rebuild` sees it
        known = self.by_key.setdefault(key, entry)
        if known is not entry:
            self.order.pop(entry, None)
        return known

    def oldest(self) -> Entry | None:
        while True:
            with contextlib.suppress(RuntimeError):  # it was changed between these two steps
                return next(iter(self.order), None)

    def spare(self, entry: Entry) -> None:
        """Take it for the most recently used one."""
        with contextlib.suppress(KeyError):
            self.order.move_to_end(entry)

    def release(self, entry: Entry) -> None:
        """Keep it no longer. Its policy is found again for as long as somebody else holds it."""
        self.order.pop(entry, None)
        try:
            if self.by_key.get(entry.key) is entry:
                self.by_key.pop(entry.key, None)
                self._released[entry.key] = entry.policy
                return
        except Exception:  # the key is not what it was
            pass
        self._rebuild(self._alive())

    def policies(self) -> list[tuple[Hashable, Policy]]:
        """All that are alive, kept or not."""
        return [*self._alive(), *((entry.key, entry.policy) for entry in self)]

    def _alive(self) -> list[tuple[Hashable, Policy]]:
        """Those that are released, and held by somebody."""
        found = [(ref.key, ref()) for ref in self._released.valuerefs()]
        return [(key, policy) for key, policy in found if policy is not None]

    def _forget_those_that_raise(self, key: Hashable) -> None:
        """Forget the keys that raise when `key` is compared with them."""
        hash(key)
        for entry in self:
            if _raises(entry.key, key):
                self.order.pop(entry, None)
        self._rebuild([(kept, policy) for kept, policy in self._alive() if not _raises(kept, key)])

    def _rebuild(self, released: list[tuple[Hashable, Policy]]) -> None:
        """Make the dictionaries anew, from what is in order and from these, without keys that cannot be in one."""
        by_key: dict[Hashable, Entry] = {}
        for entry in self:
            try:
                known = by_key.setdefault(entry.key, entry)
            except Exception:
                known = None
            if known is not entry:
                self.order.pop(entry, None)
        self.by_key = by_key
        self._released = weakref.WeakValueDictionary()
        for key, policy in released:
            with contextlib.suppress(Exception):
                self._released[key] = policy

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.order))

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
