"""The slots of `Bulkhead`, one thread at a time; tests/test_limits_races.py has many."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient_agents.adapters.slot_pool import Kept, SlotPool, when_all_done
from tests.interruptions import ends_elsewhere, interrupt_everywhere


class Someone:
    """A waiter: counts how often it was woken, and may be one whose loop was closed."""

    def __init__(self, on_wake: Callable[[], None] | None = None) -> None:
        self.loop: Any = None
        self.woken = 0
        self.gone = False
        self.on_wake = on_wake

    def wake(self) -> bool:
        self.woken += 1
        on_wake, self.on_wake = self.on_wake, None
        if on_wake is not None:
            on_wake()
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


def claim(pool: SlotPool, loop: Any = None) -> int | None:
    """A slot, None where there is none."""
    slot = next(pool.numbers)
    return slot if pool.take(slot, loop) else None


def take(pool: SlotPool, loop: Any = None) -> int:
    slot = claim(pool, loop)
    assert slot is not None
    return slot


class Waiting:
    """One in line."""

    def __init__(self, pool: SlotPool, loop: Any = None, someone: Someone | None = None) -> None:
        self.pool = pool
        self.loop = loop
        self.someone = someone or Someone()
        self.slot = next(pool.numbers)

    def line_up(self, at_most: int | None = None) -> bool:
        self.someone.loop = self.loop
        return self.pool.enqueue(self.slot, self.someone, at_most)

    @property
    def served(self) -> bool:
        return self.slot in self.pool.held

    @property
    def woken(self) -> int:
        return self.someone.woken


def queue_up(pool: SlotPool, loop: Any = None, someone: Someone | None = None) -> Waiting:
    waiting = Waiting(pool, loop, someone)
    assert waiting.line_up()
    return waiting


@pytest.mark.parametrize("limit", [1, 3, 64, 65, 200])
def test_there_are_exactly_limit_slots(limit: int) -> None:
    """A pool hands out `limit` slots, also where that is more than it keeps in stock."""
    pool = SlotPool(limit)
    for _ in range(limit):
        take(pool)
    assert claim(pool) is None
    assert pool.in_use == limit


def test_a_huge_limit_costs_no_memory_in_advance() -> None:
    """A limit that means "none" is no problem."""
    pool = SlotPool(10**18)
    assert take(pool) is not None


def test_the_first_in_line_gets_the_slot_that_comes_back() -> None:
    """Waiters are served first come first served."""
    pool = SlotPool(1)
    slot = take(pool)
    tickets = [queue_up(pool) for _ in range(3)]
    for position, ticket in enumerate(tickets):
        pool.give_back(slot)
        assert [each.woken for each in tickets] == [1] * (position + 1) + [0] * (2 - position)
        assert ticket.served
        slot = ticket.slot


def test_a_newcomer_does_not_overtake_those_in_line() -> None:
    """While somebody waits, nobody is handed a slot out of turn."""
    pool = SlotPool(2)
    first, second = take(pool), take(pool)
    ticket = queue_up(pool)
    pool.give_back(first)
    assert ticket.served
    assert claim(pool) is None
    later = queue_up(pool)
    pool.give_back(second)
    assert later.served


def test_a_newcomer_at_the_moment_of_the_return_does_not_overtake_either() -> None:
    """Before the first in line is woken the slot is its own; a newcomer then changes nothing of that."""
    pool = SlotPool(1)
    slot = take(pool)
    turned_away: list[bool] = []
    waiting = queue_up(pool, someone=Someone(lambda: turned_away.append(claim(pool) is None)))
    pool.give_back(slot)
    assert all(turned_away)
    assert waiting.served
    assert pool.in_use == 1


def test_a_newcomer_that_looks_without_a_lock_steps_back_in_time() -> None:
    """It puts its slot in before it looks, and serves those in line who found the pool full because of that."""
    pool = SlotPool(1)
    newcomer = next(pool.numbers)
    pool.held[newcomer] = None  # and has not looked yet
    waiting = queue_up(pool)
    assert not waiting.served
    assert not pool.take(newcomer, None)
    assert waiting.served


def test_giving_back_twice_changes_nothing() -> None:
    """A slot is good for one slot, however often it is given back."""
    pool = SlotPool(2)
    slot = take(pool)
    take(pool)
    pool.give_back(slot)
    pool.give_back(slot)
    assert pool.in_use == 1
    take(pool)
    assert claim(pool) is None


def test_one_that_leaves_the_line_is_passed_over() -> None:
    """Who withdrew is not granted anything, and the next one is."""
    pool = SlotPool(1)
    slot = take(pool)
    gone, stays = queue_up(pool), queue_up(pool)
    assert not pool.granted(gone.slot)
    assert pool.queued == 1
    pool.give_back(slot)
    assert not gone.served
    assert stays.served


def test_a_grant_that_races_with_a_withdrawal_is_handed_over_not_lost() -> None:
    """Who withdraws after the grant learns of it, and its giving back serves the next."""
    pool = SlotPool(1)
    slot = take(pool)
    cancelled, following = queue_up(pool), queue_up(pool)
    pool.give_back(slot)
    assert pool.granted(cancelled.slot)
    pool.give_back(cancelled.slot)
    assert following.served


def test_a_slot_that_came_back_before_the_queue_began_is_not_overlooked() -> None:
    """Between asking in vain and lining up, a slot may have come back: it is granted at once."""
    pool = SlotPool(1)
    slot = take(pool)
    assert claim(pool) is None
    pool.give_back(slot)
    assert queue_up(pool).served


def test_growing_serves_those_in_line() -> None:
    """As many of them as there are new slots."""
    pool = SlotPool(1)
    take(pool)
    line = [queue_up(pool) for _ in range(3)]
    pool.resize(3)
    assert [each.served for each in line] == [True, True, False]


def test_a_wake_up_that_was_lost_is_made_up_for() -> None:
    """Whoever was to serve the line was interrupted: the next look does it."""
    pool = SlotPool(1)
    slot = take(pool)
    waiting = queue_up(pool)
    del pool.held[slot]
    pool.look()
    assert waiting.served


def test_the_queue_has_a_bound() -> None:
    """At `at_most` waiting, the next one is turned away."""
    pool = SlotPool(1)
    take(pool)
    assert Waiting(pool).line_up(1)
    assert not Waiting(pool).line_up(1)
    assert pool.queued == 1


def test_the_dead_do_not_fill_the_queue() -> None:
    """A waiter whose loop was closed makes room for the living."""
    pool = SlotPool(1)
    take(pool)
    loop = Loop()
    assert Waiting(pool, loop).line_up(1)
    loop.closed = True
    assert Waiting(pool).line_up(1)
    assert pool.queued == 1


def test_turning_callers_away_costs_no_look_at_each_in_line() -> None:
    """At a full queue only the loops are asked whether they were closed, once each."""
    pool = SlotPool(1)
    take(pool)
    loop = Loop()
    for _ in range(1000):
        queue_up(pool, loop)
    for _ in range(10):
        assert not Waiting(pool, loop).line_up(1000)
    assert loop.asked == 10


class Looked(dict[int, Any]):
    """Counts how often all holders are looked at."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def test_finding_the_pool_full_costs_no_look_at_each_holder() -> None:
    """Where many hold a slot, they are looked at now and then, their loops each time."""
    pool = SlotPool(1000)
    pool.held = looked = Looked()
    loop = Loop()
    for _ in range(1000):
        assert claim(pool, loop) is not None
    for _ in range(100):
        assert claim(pool) is None
    assert looked.times == 1
    loop.closed = True
    assert claim(pool) is not None


def test_a_loop_that_was_closed_is_looked_for_once() -> None:
    """What it held is free again; those who find the pool full later look at its loops as seldom as before."""
    pool = SlotPool(100)
    loop = Loop()
    slots = [take(pool) for _ in range(99)]
    assert claim(pool, loop) is not None
    assert claim(pool) is None
    loop.closed = True
    take(pool)
    pool.held = looked = Looked(pool.held)
    for _ in range(50):
        assert claim(pool) is None
    assert looked.times < 5
    assert len(slots) == 99


def test_what_a_new_loop_strands_is_found_within_some_calls() -> None:
    """A loop that came and was closed after the last look at all holders is not forgotten."""
    pool = SlotPool(100)
    slots = [take(pool) for _ in range(100)]
    assert claim(pool) is None  # looks at all
    loop = Loop()
    pool.give_back(slots[0])
    assert claim(pool, loop) is not None
    loop.closed = True
    assert any(claim(pool) is not None for _ in range(30))


def test_a_grant_to_the_dead_goes_to_the_next() -> None:
    """When thousands in line turn out to be gone, the first one alive gets the slot."""
    pool = SlotPool(1)
    slot = take(pool)
    for _ in range(5000):
        dead = queue_up(pool)
        dead.someone.gone = True
    alive = queue_up(pool)
    pool.give_back(slot)
    assert alive.served
    assert pool.in_use == 1
    assert pool.queued == 0


def test_what_a_closed_loop_holds_is_taken_back_when_the_pool_is_full() -> None:
    """A loop that was closed under its tasks strands nothing."""
    pool = SlotPool(1)
    loop = Loop()
    stranded = claim(pool, loop)
    assert stranded is not None
    assert claim(pool) is None
    loop.closed = True
    slot = take(pool)
    pool.give_back(stranded)  # what the garbage collector may do, much later
    assert pool.in_use == 1
    assert claim(pool) is None
    pool.give_back(slot)
    assert pool.in_use == 0


def test_what_a_closed_loop_holds_goes_to_those_in_line_first() -> None:
    """A newcomer that finds the stranded slot does not overtake those who wait for it."""
    pool = SlotPool(1)
    loop = Loop()
    claim(pool, loop)
    ticket = queue_up(pool)
    loop.closed = True
    assert claim(pool) is None
    assert ticket.served


class Somebody:
    """May keep a slot."""


def test_the_pool_knows_who_keeps_a_slot() -> None:
    """Only the owner of a slot that outlives its call counts as keeping one, as long as it is held."""
    pool = SlotPool(3)
    one, other = Somebody(), Somebody()
    slots = [take(pool), take(pool)]
    for slot in slots:
        pool.keep(slot, Kept(None, weakref.ref(one)))
    pool.keep(take(pool), Kept(None))
    assert pool.keeps(weakref.ref(one))
    assert not pool.keeps(weakref.ref(other))
    pool.give_back(slots[0])
    assert pool.keeps(weakref.ref(one))
    pool.give_back(slots[1])
    assert not pool.keeps(weakref.ref(one))


def test_a_slot_that_changes_hands_is_kept_by_the_last_alone() -> None:
    """Whoever had it before may ask for another one."""
    pool = SlotPool(1)
    one, other = Somebody(), Somebody()
    slot = take(pool)
    pool.keep(slot, Kept(None, weakref.ref(one)))
    pool.keep(slot, Kept(None, weakref.ref(other)))
    assert not pool.keeps(weakref.ref(one))
    assert pool.keeps(weakref.ref(other))


def test_nothing_is_known_of_an_owner_that_keeps_no_slot_any_more() -> None:
    """A long-lived pool does not collect those who once kept one."""
    pool = SlotPool(1)
    owner: Any = Somebody()
    slot = take(pool)
    pool.keep(slot, Kept(None, owner))
    pool.give_back(slot)
    owner = weakref.ref(owner)
    assert owner() is None


def test_who_is_gone_keeps_nothing() -> None:
    """A later thread or task in the same place in memory is not taken for it."""
    pool = SlotPool(1)
    one = Somebody()
    pool.keep(take(pool), Kept(None, weakref.ref(one)))
    del one
    gc.collect()
    later = [Somebody() for _ in range(100)]
    assert not any(pool.keeps(weakref.ref(each)) for each in later)


def test_a_slot_that_was_taken_back_cannot_be_kept() -> None:
    """Its number says nothing any more."""
    pool = SlotPool(1)
    slot = take(pool)
    pool.give_back(slot)
    take(pool)
    pool.keep(slot, Kept(None))
    assert pool.in_use == 1


class Course:
    """A pool of one whose slot is taken, one in line for it, and a newcomer; `over` when all have had their turn."""

    def __init__(self) -> None:
        self.pool = SlotPool(1)
        self.slot = take(self.pool)
        self.waiting = queue_up(self.pool)
        self.newcomer = Waiting(self.pool)

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            for slot in (self.newcomer.slot, self.waiting.slot, self.slot):
                stack.callback(repeated, self.pool.give_back, slot)
            if not self.pool.take(self.newcomer.slot, None):
                self.newcomer.line_up()

    def is_over(self) -> None:
        assert (self.pool.in_use, self.pool.queued) == (0, 0)
        slot = take(self.pool)
        assert claim(self.pool) is None
        late = queue_up(self.pool)
        self.pool.give_back(slot)
        assert late.served
        assert late.woken


def repeated(step: Callable[[int], object], slot: int) -> None:
    """As whoever holds a slot gives it back: once more if that was interrupted."""
    try:
        step(slot)
    except BaseException:
        step(slot)
        raise


def test_an_exception_from_outside_at_any_point_leaves_the_pool_whole() -> None:
    """A signal handler may raise between any two steps: no slot, no place in the queue and no wake-up is lost."""
    assert interrupt_everywhere(Course, Course.run, Course.is_over) > 50


def test_a_finalizer_may_give_back_at_any_point() -> None:
    """The garbage collector may end a stranded coroutine anywhere, in the midst of a locked section included."""
    for slots in (["slot"], ["waiting"], ["newcomer"], ["newcomer", "waiting"], ["slot", "newcomer"]):

        def collect(course: Course, slots: list[str] = slots) -> None:
            for one in slots:
                found = getattr(course, one)
                course.pool.give_back(found if isinstance(found, int) else found.slot)

        interrupt_everywhere(Course, Course.run, Course.is_over, act=collect)


def test_a_handler_may_go_through_the_pool_at_any_point() -> None:
    """A signal handler that takes a slot, or lines up and leaves, in the midst of anything hurts nobody."""

    def pass_by(course: Course) -> None:
        other = Waiting(course.pool)
        if not course.pool.take(other.slot, None):
            other.line_up()
        course.pool.give_back(other.slot)

    interrupt_everywhere(Course, Course.run, Course.is_over, act=pass_by)


def test_one_that_is_collected_while_it_is_served_leaves_nothing() -> None:
    """Nobody gives back for it a second time."""

    def make() -> tuple[SlotPool, int, Waiting]:
        pool = SlotPool(1)
        return pool, take(pool), queue_up(pool)

    def is_whole(made: tuple[SlotPool, int, Waiting]) -> None:
        assert (made[0].in_use, made[0].queued) == (0, 0)

    points = interrupt_everywhere(
        make,
        lambda made: made[0].give_back(made[1]),
        is_whole,
        act=lambda made: made[0].give_back(made[2].slot),
    )
    assert points > 5


def test_the_last_of_any_number_of_workers_counts() -> None:
    """Whichever ends first."""
    told: list[Callable[[], object]] = []
    workers: Any = tuple(SimpleNamespace(on_done=told.append) for _ in range(3))
    ended: list[bool] = []
    when_all_done(workers, lambda: ended.append(True))
    for _ in range(3):
        assert not ended
        told.pop()()
    assert ended == [True]


def test_nobody_is_woken_under_the_lock() -> None:
    """Waking takes locks of the event loop's own; taking them in two orders would be a deadlock."""
    pool = SlotPool(1)
    slot = take(pool)
    free: list[bool] = []
    queue_up(pool, someone=Someone(lambda: free.append(ends_elsewhere(lambda: pool.give_back(-1)))))
    pool.give_back(slot)
    assert all(free)


def test_after_fork_everything_is_free_and_nobody_waits() -> None:
    """A child starts with full capacity, and a slot of the parent's changes nothing there."""
    pool = SlotPool(2)
    slot = take(pool)
    take(pool)
    queue_up(pool)
    pool.after_fork()
    assert (pool.in_use, pool.queued) == (0, 0)
    pool.give_back(slot)
    take(pool)
    take(pool)
    assert claim(pool) is None


class Slow(AnyLoop):
    """A loop that takes long to be noted in the midst of a locked section."""

    def __init__(self) -> None:
        self.asked_for, self.go_on = threading.Event(), threading.Event()

    def __hash__(self) -> int:
        self.asked_for.set()
        self.go_on.wait(10)
        return id(self)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_full_capacity_whatever_the_parent_held() -> None:
    """The pool tells itself of a fork, though another thread held its lock at that time."""
    pool = SlotPool(1)
    take(pool)
    queue_up(pool)
    loop = Slow()
    thread = threading.Thread(target=queue_up, args=(pool, loop))
    thread.start()
    loop.asked_for.wait(10)
    child = os.fork()
    if child == 0:
        ok = claim(pool) is not None and claim(pool) is None and pool.queued == 0
        os._exit(0 if ok else 1)
    loop.go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_pool_that_is_dropped_is_collected() -> None:
    """The fork hook keeps no pool alive."""
    pool = weakref.ref(SlotPool(1))
    gc.collect()
    assert pool() is None


class LikeANaivePool(RuleBasedStateMachine):
    """A pool and a model of two lists agree after any course of events."""

    limit = 2

    def __init__(self) -> None:
        super().__init__()
        self.pool = SlotPool(self.limit)
        self.holders: list[int] = []
        self.line: list[Waiting] = []
        self.dead: list[Waiting] = []
        self.peak = 0

    def settle(self) -> None:
        """What the model says: as long as a slot is free, the first in line gets it, unless it is gone."""
        while self.line and len(self.holders) < self.limit:
            ticket = self.line.pop(0)
            if ticket in self.dead:
                continue
            assert ticket.served, "the first in line was not served"
            self.holders.append(ticket.slot)

    @rule(bound=st.sampled_from([None, 0, 1, 2]))
    def someone_comes(self, bound: int | None) -> None:
        expected = not self.line and len(self.holders) < self.limit
        if len(self.holders) >= self.limit:  # the dead are looked for where there is no slot
            self.line = [each for each in self.line if each not in self.dead]
        slot = claim(self.pool)
        assert (slot is not None) == expected
        if slot is not None:
            self.holders.append(slot)
            return
        ticket = Waiting(self.pool, Loop())
        if bound is not None and len(self.line) >= bound:
            self.line = [each for each in self.line if each not in self.dead]
        assert ticket.line_up(bound) == (bound is None or len(self.line) < bound)
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
        assert not self.pool.granted(ticket.slot)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def the_loop_of_one_in_line_is_closed(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.line))
        ticket.someone.gone = ticket.loop.closed = True
        self.dead.append(ticket)

    @rule()
    def one_comes_in_beyond_the_limit(self) -> None:
        if len(self.holders) >= self.limit:
            slot = next(self.pool.numbers)
            self.pool.lend(slot, None)
            self.holders.append(slot)

    @rule()
    def all_in_line_are_let_in(self) -> None:
        self.pool.serve(beyond=True)
        for ticket in self.line:
            if ticket not in self.dead:
                assert ticket.served
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
        assert not any(ticket.served for ticket in self.line)


LikeANaivePool.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_like_a_naive_pool = LikeANaivePool.TestCase


def test_who_is_granted_a_slot_keeps_it_through_a_shrink() -> None:
    """Also while being woken, when somebody else looks at the line."""
    pool = SlotPool(2)
    first, _ = take(pool), take(pool)
    slot = next(pool.numbers)
    assert pool.enqueue(slot, Someone(lambda: pool.resize(1)), None)
    pool.give_back(first)
    assert pool.granted(slot)
