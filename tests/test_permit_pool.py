"""The permit pool of `Bulkhead`, one thread at a time; tests/test_limits_races.py has many."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient_agents.adapters.permit_pool import Permit, PermitPool, Ticket


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

    def alive(self) -> bool:
        return not self.gone

    async def wait(self, seconds: float | None) -> bool:
        raise NotImplementedError


def take(pool: PermitPool, owner: int = 1) -> Permit:
    permit = pool.claim(None, owner)
    assert permit is not None
    return permit


def queue_up(pool: PermitPool, owner: int = 2) -> Ticket:
    ticket = Ticket(Someone(), None, owner)
    assert pool.enqueue(ticket, None)
    return ticket


def woken(ticket: Ticket) -> int:
    assert isinstance(ticket.waiter, Someone)
    return ticket.waiter.woken


@pytest.mark.parametrize("limit", [1, 3, 64, 65, 200])
def test_there_are_exactly_limit_permits(limit: int) -> None:
    """A pool hands out `limit` permits, also where that is more than it keeps in stock."""
    pool = PermitPool(limit)
    for _ in range(limit):
        take(pool)
    assert pool.take(None, 1) is None
    assert pool.claim(None, 1) is None
    assert pool.in_use == limit


def test_a_huge_limit_costs_no_memory_in_advance() -> None:
    """A limit that means "none" is no problem."""
    pool = PermitPool(10**18)
    assert take(pool) is not None


def test_the_first_in_line_gets_the_permit_that_comes_back() -> None:
    """Waiters are served first come first served."""
    pool = PermitPool(1)
    permit = take(pool)
    tickets = [queue_up(pool) for _ in range(3)]
    for position, ticket in enumerate(tickets):
        pool.give_back(permit)
        assert [woken(each) for each in tickets] == [1] * (position + 1) + [0] * (2 - position)
        assert ticket.permit is not None
        permit = ticket.permit


def test_a_newcomer_does_not_overtake_those_in_line() -> None:
    """While somebody waits, nobody is handed a permit out of turn."""
    pool = PermitPool(2)
    first, second = take(pool), take(pool)
    ticket = queue_up(pool)
    pool.give_back(first)
    assert ticket.permit is not None
    assert pool.take(None, 9) is None
    later = queue_up(pool)
    pool.give_back(second)
    assert later.permit is not None


class Interrupted(PermitPool):
    """A newcomer comes between the return of a permit and its grant to the first in line."""

    __slots__ = ("newcomer",)

    def _serve(self) -> None:
        self.newcomer = self.take(None, 9)
        super()._serve()


def test_a_newcomer_at_the_moment_of_the_return_does_not_overtake_either() -> None:
    """The permit is free for an instant, but those in line come first."""
    pool = Interrupted(1)
    permit = pool.take(None, 1)
    assert permit is not None
    ticket = queue_up(pool)
    pool.give_back(permit)
    assert pool.newcomer is None
    assert ticket.permit is not None


def test_giving_back_twice_changes_nothing() -> None:
    """A permit is good for one slot, however often it is given back."""
    pool = PermitPool(2)
    permit = take(pool)
    take(pool)
    pool.give_back(permit)
    pool.give_back(permit)
    assert pool.in_use == 1
    take(pool)
    assert pool.claim(None, 1) is None


def test_one_that_leaves_the_line_is_passed_over() -> None:
    """Who withdrew is not granted anything, and the next one is."""
    pool = PermitPool(1)
    permit = take(pool)
    gone, stays = queue_up(pool), queue_up(pool)
    assert pool.withdraw(gone) is None
    assert pool.queued == 1
    pool.give_back(permit)
    assert gone.permit is None
    assert stays.permit is not None


def test_a_grant_that_races_with_a_withdrawal_is_handed_over_not_lost() -> None:
    """Who withdraws after the grant learns of it, and its giving back serves the next."""
    pool = PermitPool(1)
    permit = take(pool)
    cancelled, following = queue_up(pool), queue_up(pool)
    pool.give_back(permit)
    granted = pool.withdraw(cancelled)
    assert granted is not None
    pool.give_back(granted)
    assert following.permit is not None


def test_a_permit_that_came_back_before_the_queue_began_is_not_overlooked() -> None:
    """Between asking in vain and lining up, a permit may have come back: it is granted at once."""
    pool = PermitPool(1)
    permit = take(pool)
    assert pool.claim(None, 2) is None
    pool.give_back(permit)
    assert queue_up(pool).permit is not None


def test_the_queue_has_a_bound() -> None:
    """At `at_most` waiting, the next one is turned away."""
    pool = PermitPool(1)
    take(pool)
    assert pool.enqueue(Ticket(Someone(), None, 2), 1)
    assert not pool.enqueue(Ticket(Someone(), None, 3), 1)
    assert pool.queued == 1


def test_the_dead_do_not_fill_the_queue() -> None:
    """A waiter whose loop was closed makes room for the living."""
    pool = PermitPool(1)
    take(pool)
    dead = Someone()
    assert pool.enqueue(Ticket(dead, None, 2), 1)
    dead.gone = True
    assert pool.enqueue(Ticket(Someone(), None, 3), 1)


def test_a_grant_to_the_dead_goes_to_the_next() -> None:
    """When thousands in line turn out to be gone, the first one alive gets the permit."""
    pool = PermitPool(1)
    permit = take(pool)
    for _ in range(5000):
        dead = queue_up(pool)
        assert isinstance(dead.waiter, Someone)
        dead.waiter.gone = True
    alive = queue_up(pool)
    pool.give_back(permit)
    assert alive.permit is not None
    assert pool.in_use == 1
    assert pool.queued == 0


def test_what_a_closed_loop_holds_is_taken_back_when_the_pool_is_full() -> None:
    """A loop that was closed under its tasks strands nothing."""
    pool = PermitPool(1)
    loop = asyncio.new_event_loop()
    stranded = pool.claim(loop, 1)
    assert stranded is not None
    assert pool.claim(None, 2) is None
    loop.close()
    permit = take(pool, 2)
    pool.give_back(stranded)  # what the garbage collector may do, much later
    assert pool.in_use == 1
    assert pool.claim(None, 3) is None
    pool.give_back(permit)
    assert pool.in_use == 0


def test_what_a_closed_loop_holds_goes_to_those_in_line_first() -> None:
    """A newcomer that finds the stranded permit does not overtake those who wait for it."""
    pool = PermitPool(1)
    loop = asyncio.new_event_loop()
    pool.claim(loop, 1)
    ticket = queue_up(pool)
    loop.close()
    assert pool.claim(None, 3) is None
    assert ticket.permit is not None


def test_the_pool_knows_who_holds_a_permit() -> None:
    """Only the owner of a held permit counts as holding one."""
    pool = PermitPool(1)
    permit = take(pool, owner=7)
    assert pool.held_by(7)
    assert not pool.held_by(8)
    pool.give_back(permit)
    assert not pool.held_by(7)


def test_a_granted_ticket_is_held_by_who_queued() -> None:
    """The owner of a permit that was waited for is the one that waited."""
    pool = PermitPool(1)
    permit = take(pool, owner=7)
    queue_up(pool, owner=8)
    pool.give_back(permit)
    assert pool.held_by(8)
    assert not pool.held_by(7)


def test_giving_back_works_inside_a_locked_section() -> None:
    """The garbage collector may end a stranded coroutine at any point, with the pool's lock held by the same thread."""
    pool = PermitPool(1)
    permit = take(pool)
    ticket = queue_up(pool)
    with pool._lock:
        pool.give_back(permit)
        assert ticket.permit is not None
        assert pool.withdraw(ticket) is ticket.permit


def test_nobody_is_woken_under_the_lock() -> None:
    """Waking takes locks of the event loop's own; taking them in two orders would be a deadlock."""
    pool = PermitPool(1)
    permit = take(pool)
    locked: list[bool] = []

    def from_another_thread() -> None:
        locked.append(not pool._lock.acquire(blocking=False))
        if not locked[-1]:
            pool._lock.release()

    def look() -> None:
        thread = threading.Thread(target=from_another_thread)
        thread.start()
        thread.join()

    assert pool.enqueue(Ticket(Someone(look), None, 2), None)
    pool.give_back(permit)
    assert locked == [False]


def test_after_fork_everything_is_free_and_nobody_waits() -> None:
    """A child starts with full capacity, and a permit of the parent's changes nothing there."""
    pool = PermitPool(2)
    permit = take(pool)
    take(pool)
    queue_up(pool)
    pool._lock.acquire()  # as another thread of the parent might have
    pool.after_fork()
    assert (pool.in_use, pool.queued) == (0, 0)
    pool.give_back(permit)
    take(pool)
    take(pool)
    assert pool.claim(None, 1) is None


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
        ok = pool.claim(None, 1) is not None and pool.claim(None, 1) is None and pool.queued == 0
        os._exit(0 if ok else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_pool_that_is_dropped_is_collected() -> None:
    """The fork hook keeps no pool alive."""
    import weakref

    pool = weakref.ref(PermitPool(1))
    gc.collect()
    assert pool() is None


class LikeANaivePool(RuleBasedStateMachine):
    """A pool and a model of two lists agree after any course of events."""

    limit = 2

    def __init__(self) -> None:
        super().__init__()
        self.pool = PermitPool(self.limit)
        self.holders: list[Permit] = []
        self.line: list[Ticket] = []
        self.dead: list[Ticket] = []

    def settle(self) -> None:
        """What the model says: as long as a slot is free, the first in line gets it, unless it is gone."""
        while self.line and len(self.holders) < self.limit:
            ticket = self.line.pop(0)
            if ticket in self.dead:
                continue
            assert ticket.permit is not None, "the first in line was not served"
            self.holders.append(ticket.permit)

    @rule(bound=st.sampled_from([None, 0, 1, 2]))
    def someone_comes(self, bound: int | None) -> None:
        expected = not self.line and len(self.holders) < self.limit
        permit = self.pool.claim(None, 1)
        assert (permit is not None) == expected
        if permit is not None:
            self.holders.append(permit)
            return
        ticket = Ticket(Someone(), None, 2)
        if bound is not None and len(self.line) >= bound:
            self.line = [each for each in self.line if each not in self.dead]
        assert self.pool.enqueue(ticket, bound) == (bound is None or len(self.line) < bound)
        if bound is None or len(self.line) < bound:
            self.line.append(ticket)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def one_gives_back(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(self.holders))
        self.holders.remove(permit)
        self.pool.give_back(permit)
        self.pool.give_back(permit)
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
        ticket.waiter.gone = True
        self.dead.append(ticket)

    @invariant()
    def they_agree(self) -> None:
        assert self.pool.in_use == len(self.holders)
        assert self.pool.queued == len(self.line)
        assert all(ticket.permit is None for ticket in self.line)


LikeANaivePool.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_like_a_naive_pool = LikeANaivePool.TestCase
