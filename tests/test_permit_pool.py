"""The slot pool of `Bulkhead`, one thread at a time; tests/test_limits_races.py has many."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient_agents.adapters.permit_pool import Kept, PermitPool, Ticket


class Someone:
    """A waiter: counts how often it was woken, and may be one whose loop was closed."""

    def __init__(self, on_wake: Callable[[], None] | None = None) -> None:
        self.woken = 0
        self.gone = False
        self.on_wake = on_wake

    def wake(self) -> bool:
        self.woken += 1
        if self.on_wake is not None:
            self.on_wake()
        return not self.gone

    async def wait(self, seconds: float | None) -> bool:
        raise NotImplementedError


class AnyLoop:
    """One that is only good for being closed; counts how often it was asked whether it is."""

    closed = False
    asked = 0

    def is_closed(self) -> bool:
        self.asked += 1
        return self.closed


Loop: Any = AnyLoop


def take(pool: PermitPool) -> int:
    slot = pool.claim(None)
    assert slot is not None
    return slot


def queue_up(pool: PermitPool, loop: Any = None) -> Ticket:
    ticket = Ticket(Someone(), loop)
    assert pool.enqueue(ticket, None)
    return ticket


def woken(ticket: Ticket) -> int:
    assert isinstance(ticket.waiter, Someone)
    return ticket.waiter.woken


@pytest.mark.parametrize("limit", [1, 3, 64, 65, 200])
def test_there_are_exactly_limit_slots(limit: int) -> None:
    """A pool hands out `limit` slots, also where that is more than it keeps in stock."""
    pool = PermitPool(limit)
    for _ in range(limit):
        take(pool)
    assert pool.claim(None) is None
    assert pool.in_use == limit


def test_a_huge_limit_costs_no_memory_in_advance() -> None:
    """A limit that means "none" is no problem."""
    pool = PermitPool(10**18)
    assert take(pool) is not None


def test_the_first_in_line_gets_the_slot_that_comes_back() -> None:
    """Waiters are served first come first served."""
    pool = PermitPool(1)
    slot = take(pool)
    tickets = [queue_up(pool) for _ in range(3)]
    for position, ticket in enumerate(tickets):
        pool.give_back(slot)
        assert [woken(each) for each in tickets] == [1] * (position + 1) + [0] * (2 - position)
        assert ticket.slot is not None
        slot = ticket.slot


def test_a_newcomer_does_not_overtake_those_in_line() -> None:
    """While somebody waits, nobody is handed a slot out of turn."""
    pool = PermitPool(2)
    first, second = take(pool), take(pool)
    ticket = queue_up(pool)
    pool.give_back(first)
    assert ticket.slot is not None
    assert pool.claim(None) is None
    later = queue_up(pool)
    pool.give_back(second)
    assert later.slot is not None


class Interrupted(PermitPool):
    """A newcomer comes between the return of a slot and its grant to the first in line."""

    __slots__ = ("turned_away",)

    def serve(self) -> None:
        self.turned_away = bool(self.queue)  # at which `Bulkhead.execute` and `claim` look first
        super().serve()


def test_a_newcomer_at_the_moment_of_the_return_does_not_overtake_either() -> None:
    """The slot is free for an instant, but those in line come first."""
    pool = Interrupted(1)
    slot = pool.claim(None)
    assert slot is not None
    ticket = queue_up(pool)
    pool.give_back(slot)
    assert pool.turned_away
    assert ticket.slot is not None


def test_giving_back_twice_changes_nothing() -> None:
    """A slot is good for one slot, however often it is given back."""
    pool = PermitPool(2)
    slot = take(pool)
    take(pool)
    pool.give_back(slot)
    pool.give_back(slot)
    assert pool.in_use == 1
    take(pool)
    assert pool.claim(None) is None


def test_one_that_leaves_the_line_is_passed_over() -> None:
    """Who withdrew is not granted anything, and the next one is."""
    pool = PermitPool(1)
    slot = take(pool)
    gone, stays = queue_up(pool), queue_up(pool)
    assert pool.withdraw(gone) is None
    assert pool.queued == 1
    pool.give_back(slot)
    assert gone.slot is None
    assert stays.slot is not None


def test_a_grant_that_races_with_a_withdrawal_is_handed_over_not_lost() -> None:
    """Who withdraws after the grant learns of it, and its giving back serves the next."""
    pool = PermitPool(1)
    slot = take(pool)
    cancelled, following = queue_up(pool), queue_up(pool)
    pool.give_back(slot)
    granted = pool.withdraw(cancelled)
    assert granted is not None
    pool.give_back(granted)
    assert following.slot is not None


def test_a_slot_that_came_back_before_the_queue_began_is_not_overlooked() -> None:
    """Between asking in vain and lining up, a slot may have come back: it is granted at once."""
    pool = PermitPool(1)
    slot = take(pool)
    assert pool.claim(None) is None
    pool.give_back(slot)
    assert queue_up(pool).slot is not None


def test_the_queue_has_a_bound() -> None:
    """At `at_most` waiting, the next one is turned away."""
    pool = PermitPool(1)
    take(pool)
    assert pool.enqueue(Ticket(Someone(), None), 1)
    assert not pool.enqueue(Ticket(Someone(), None), 1)
    assert pool.queued == 1


def test_the_dead_do_not_fill_the_queue() -> None:
    """A waiter whose loop was closed makes room for the living."""
    pool = PermitPool(1)
    take(pool)
    loop = Loop()
    assert pool.enqueue(Ticket(Someone(), loop), 1)
    loop.closed = True
    assert pool.enqueue(Ticket(Someone(), None), 1)
    assert pool.queued == 1


def test_turning_callers_away_costs_no_look_at_each_in_line() -> None:
    """At a full queue only the loops are asked whether they were closed, once each."""
    pool = PermitPool(1)
    take(pool)
    loop = Loop()
    for _ in range(1000):
        assert pool.enqueue(Ticket(Someone(), loop), None)
    for _ in range(10):
        assert not pool.enqueue(Ticket(Someone(), loop), 1000)
    assert loop.asked == 10


class Looked(dict[int, Any]):
    """Counts how often all holders are looked at."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def test_finding_the_pool_full_costs_no_look_at_each_holder() -> None:
    """Where many hold a slot, they are looked at now and then, their loops each time."""
    pool = PermitPool(1000)
    pool.held = looked = Looked()
    loop = Loop()
    for _ in range(1000):
        assert pool.claim(loop) is not None
    for _ in range(100):
        assert pool.claim(None) is None
    assert looked.times == 1
    loop.closed = True
    assert pool.claim(None) is not None


def test_what_a_new_loop_strands_is_found_within_some_calls() -> None:
    """A loop that came and was closed after the last look at all holders is not forgotten."""
    pool = PermitPool(100)
    slots = [take(pool) for _ in range(100)]
    assert pool.claim(None) is None  # looks at all
    loop = Loop()
    pool.give_back(slots[0])
    assert pool.claim(loop) is not None
    loop.closed = True
    assert any(pool.claim(None) is not None for _ in range(30))


def test_a_grant_to_the_dead_goes_to_the_next() -> None:
    """When thousands in line turn out to be gone, the first one alive gets the slot."""
    pool = PermitPool(1)
    slot = take(pool)
    for _ in range(5000):
        dead = queue_up(pool)
        assert isinstance(dead.waiter, Someone)
        dead.waiter.gone = True
    alive = queue_up(pool)
    pool.give_back(slot)
    assert alive.slot is not None
    assert pool.in_use == 1
    assert pool.queued == 0


def test_what_a_closed_loop_holds_is_taken_back_when_the_pool_is_full() -> None:
    """A loop that was closed under its tasks strands nothing."""
    pool = PermitPool(1)
    loop = Loop()
    stranded = pool.claim(loop)
    assert stranded is not None
    assert pool.claim(None) is None
    loop.closed = True
    slot = take(pool)
    pool.give_back(stranded)  # what the garbage collector may do, much later
    assert pool.in_use == 1
    assert pool.claim(None) is None
    pool.give_back(slot)
    assert pool.in_use == 0


def test_what_a_closed_loop_holds_goes_to_those_in_line_first() -> None:
    """A newcomer that finds the stranded slot does not overtake those who wait for it."""
    pool = PermitPool(1)
    loop = Loop()
    pool.claim(loop)
    ticket = queue_up(pool)
    loop.closed = True
    assert pool.claim(None) is None
    assert ticket.slot is not None


class Somebody:
    """May keep a slot."""


def test_the_pool_knows_who_keeps_a_slot() -> None:
    """Only the owner of a slot that outlives its call counts as keeping one, as long as it is held."""
    pool = PermitPool(3)
    one, other = Somebody(), Somebody()
    slots = [pool.keep(take(pool), Kept(None, weakref.ref(one))) for _ in range(2)]
    pool.keep(take(pool), Kept(None))
    assert pool.keeps(weakref.ref(one))
    assert not pool.keeps(weakref.ref(other))
    pool.give_back(slots[0])
    assert pool.keeps(weakref.ref(one))
    pool.give_back(slots[1])
    assert not pool.keeps(weakref.ref(one))


def test_who_is_gone_keeps_nothing() -> None:
    """A later thread or task in the same place in memory is not taken for it."""
    pool = PermitPool(1)
    one = Somebody()
    pool.keep(take(pool), Kept(None, weakref.ref(one)))
    del one
    gc.collect()
    later = [Somebody() for _ in range(100)]
    assert not any(pool.keeps(weakref.ref(each)) for each in later)


def test_a_slot_that_was_taken_back_cannot_be_kept() -> None:
    """Its number says nothing any more."""
    pool = PermitPool(1)
    slot = take(pool)
    pool.give_back(slot)
    take(pool)
    assert pool.keep(slot, Kept(None)) == slot
    assert pool.in_use == 1


def test_giving_back_works_inside_a_locked_section() -> None:
    """The garbage collector may end a stranded coroutine at any point, with the pool's lock held by the same thread."""
    pool = PermitPool(1)
    slot = take(pool)
    ticket = queue_up(pool)
    with pool._lock:
        pool.give_back(slot)
        assert ticket.slot is not None
        assert pool.withdraw(ticket) is ticket.slot


def test_nobody_is_woken_under_the_lock() -> None:
    """Waking takes locks of the event loop's own; taking them in two orders would be a deadlock."""
    pool = PermitPool(1)
    slot = take(pool)
    locked: list[bool] = []

    def from_another_thread() -> None:
        locked.append(not pool._lock.acquire(blocking=False))
        if not locked[-1]:
            pool._lock.release()

    def look() -> None:
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()

    assert pool.enqueue(Ticket(Someone(look), None), None)
    pool.give_back(slot)
    assert locked == [False]


def test_after_fork_everything_is_free_and_nobody_waits() -> None:
    """A child starts with full capacity, and a slot of the parent's changes nothing there."""
    pool = PermitPool(2)
    slot = take(pool)
    take(pool)
    queue_up(pool)
    pool._lock.acquire()  # as another thread of the parent might have
    pool.after_fork()
    assert (pool.in_use, pool.queued) == (0, 0)
    pool.give_back(slot)
    take(pool)
    take(pool)
    assert pool.claim(None) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_full_capacity_whatever_the_parent_held() -> None:
    """The pool tells itself of a fork, though another thread held its lock at that time."""
    pool = PermitPool(1)
    take(pool)
    queue_up(pool)
    locked, done = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with pool._lock:
            locked.set()
            done.wait(10)

    thread = threading.Thread(target=hold_the_lock)
    thread.start()
    locked.wait(10)
    child = os.fork()
    if child == 0:
        ok = pool.claim(None) is not None and pool.claim(None) is None and pool.queued == 0
        os._exit(0 if ok else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_pool_that_is_dropped_is_collected() -> None:
    """The fork hook keeps no pool alive."""
    pool = weakref.ref(PermitPool(1))
    gc.collect()
    assert pool() is None


class LikeANaivePool(RuleBasedStateMachine):
    """A pool and a model of two lists agree after any course of events."""

    limit = 2

    def __init__(self) -> None:
        super().__init__()
        self.pool = PermitPool(self.limit)
        self.holders: list[int] = []
        self.line: list[Ticket] = []
        self.dead: list[Ticket] = []
        self.peak = 0

    def settle(self) -> None:
        """What the model says: as long as a slot is free, the first in line gets it, unless it is gone."""
        while self.line and len(self.holders) < self.limit:
            ticket = self.line.pop(0)
            if ticket in self.dead:
                continue
            assert ticket.slot is not None, "the first in line was not served"
            self.holders.append(ticket.slot)

    @rule(bound=st.sampled_from([None, 0, 1, 2]))
    def someone_comes(self, bound: int | None) -> None:
        expected = not self.line and len(self.holders) < self.limit
        slot = self.pool.claim(None)
        assert (slot is not None) == expected
        if slot is not None:
            self.holders.append(slot)
            return
        ticket = Ticket(Someone(), Loop())
        if bound is not None and len(self.line) >= bound:
            self.line = [each for each in self.line if each not in self.dead]
        assert self.pool.enqueue(ticket, bound) == (bound is None or len(self.line) < bound)
        if bound is None or len(self.line) < bound:
            self.line.append(ticket)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def one_gives_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.holders))
        self.holders.remove(slot)
        self.pool.give_back(slot)
        self.pool.give_back(slot)
        self.settle()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def one_in_line_leaves(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.line))
        self.line.remove(ticket)
        assert self.pool.withdraw(ticket) is None

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def the_loop_of_one_in_line_is_closed(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.line))
        assert isinstance(ticket.waiter, Someone)
        loop: Any = ticket.loop
        ticket.waiter.gone = loop.closed = True
        self.dead.append(ticket)

    @rule()
    def one_comes_in_beyond_the_limit(self) -> None:
        if len(self.holders) >= self.limit:
            self.holders.append(self.pool.lend(None))

    @rule()
    def all_in_line_are_let_in(self) -> None:
        self.pool.lend_to_all()
        for ticket in self.line:
            if ticket not in self.dead:
                assert ticket.slot is not None
                self.holders.append(ticket.slot)
                self.peak = max(self.peak, len(self.holders))
        self.line = []

    @rule(limit=st.integers(1, 4))
    def the_limit_changes(self, limit: int) -> None:
        self.limit = limit
        self.pool.resize(limit)
        self.settle()

    @rule()
    def the_peak_is_reset(self) -> None:
        self.pool.reset_peak()
        self.peak = 0

    @invariant()
    def they_agree(self) -> None:
        self.peak = max(self.peak, len(self.holders))
        assert self.pool.peak == self.peak
        assert self.pool.in_use == len(self.holders)
        assert self.pool.queued == len(self.line)
        assert all(ticket.slot is None for ticket in self.line)


LikeANaivePool.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_like_a_naive_pool = LikeANaivePool.TestCase
