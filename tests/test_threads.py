"""Worker threads: bounded, left behind where they must be, and never counted wrongly."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import pytest

from resilient_agents import Policy
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.base.clock import clock
from resilient_agents.core import threads
from resilient_agents.core.threads import Worker, Workers
from resilient_agents.errors import PolicyTimeoutError, Rejected

WAIT = 30.0


def finished(worker: Worker) -> Any:
    """What the work gave, once it has ended."""
    ended = threading.Event()
    worker.on_done(ended.set)
    assert ended.wait(WAIT)
    return worker.take()


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Lets the workers of a test go, in any case at its end."""
    event = threading.Event()
    yield event
    event.set()


def test_a_thread_is_used_again() -> None:
    """One call after another runs on one thread, also at a limit of one."""
    workers = Workers(1, 1, "timeout")
    thread = finished(workers.start(threading.current_thread, "p"))
    for _ in range(5):
        until(lambda: thread in workers.serving)
        assert finished(workers.start(threading.current_thread, "p")) is thread


def test_no_more_than_the_limit_run_at_once(go: threading.Event) -> None:
    """At the limit of busy threads a call is rejected, and admitted again once one ends."""
    workers = Workers(3, 3, "timeout")
    busy = [workers.start(lambda: go.wait(WAIT), "p") for _ in range(3)]
    with pytest.raises(
        Rejected, match="'p' has 3 worker threads busy, 0 of them with calls that outran their time limit"
    ):
        workers.start(lambda: None, "p")
    go.set()
    assert [finished(worker) for worker in busy] == [True] * 3
    assert finished(workers.start(lambda: 1, "p")) == 1


def test_a_slot_of_an_abandoned_call_comes_back_when_its_worker_ends(go: threading.Event) -> None:
    """An abandoned call counts until its thread has really ended it."""
    workers = Workers(9, 2, "timeout")
    left = [workers.start(lambda: go.wait(WAIT), "p") for _ in range(2)]
    for worker in left:
        workers.leave(worker)
    assert workers.abandoned == 2
    with pytest.raises(Rejected):
        workers.start(lambda: None, "p")
    go.set()
    for worker in left:
        finished(worker)
    assert workers.abandoned == 0
    assert finished(workers.start(lambda: 1, "p")) == 1


def test_abandoning_what_has_just_ended_counts_nothing() -> None:
    """A worker that ends while it is being given up is not counted for ever."""
    workers = Workers(1, 1, "timeout")
    worker = workers.start(lambda: 1, "p")
    finished(worker)
    workers.leave(worker)
    assert workers.abandoned == 0


def test_errors_of_every_kind_are_carried() -> None:
    """What the work raises comes out where it is taken, also what is not an Exception; the worker keeps none of it."""
    workers = Workers(1, 1, "timeout")

    class Stop(BaseException): ...

    def work() -> None:
        raise Stop

    worker = workers.start(work, "p")
    with pytest.raises(Stop) as caught:
        finished(worker)
    assert worker.outcome is None
    reference = weakref.ref(caught.value)
    del caught
    assert reference() is None


def test_work_runs_in_a_copy_of_the_context() -> None:
    """The work sees the caller's context variables and cannot change them."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    user.set("ada")

    def work() -> str:
        before = user.get()
        user.set("eve")
        return before

    assert finished(Workers(1, 1, "timeout").start(work, "p")) == "ada"
    assert user.get() == "ada"


def test_a_callback_that_fails_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises takes no thread away."""
    workers = Workers(1, 1, "timeout")
    go = threading.Event()

    def fail() -> None:
        raise ValueError("callback")

    worker = workers.start(lambda: go.wait(WAIT), "p")
    worker.on_done(fail)
    go.set()
    finished(worker)
    assert finished(workers.start(lambda: 1, "p")) == 1
    assert "a callback of a worker thread failed" in caplog.text


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread without work goes away, and the next call gets a new one."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.001)
    workers = Workers(1, 1, "timeout")
    thread = finished(workers.start(threading.current_thread, "p"))
    thread.join(WAIT)
    assert not thread.is_alive()
    assert thread not in workers.serving
    assert finished(workers.start(threading.current_thread, "p")) is not thread


def test_work_handed_to_a_thread_that_is_about_to_end_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose idle time is up in the moment in which it is handed work does the work."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.0)
    workers = Workers(4, 4, "timeout")
    for number in range(300):
        assert finished(workers.start(lambda number=number: number, "p")) == number


def test_work_that_comes_when_idle_time_is_up_is_done_by_the_thread_that_was_there() -> None:
    """A thread that stops waiting looks once more, for work that counts on it."""
    workers = Workers(4, 4, "timeout")
    really = clock.get

    def too_late(queue: Any, seconds: float) -> Any:
        if threading.current_thread() is not thread:  # one that another test left idle
            return really(queue, seconds)
        until(lambda: not queue.empty())
        raise Empty

    thread = finished(workers.start(threading.current_thread, "p"))
    until(lambda: thread in workers.serving)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "get", too_late)
        assert finished(workers.start(threading.current_thread, "p")) is thread  # it waits in the real way as yet
        until(lambda: thread in workers.serving)
        assert finished(workers.start(threading.current_thread, "p")) is thread
        until(lambda: thread in workers.serving)
    assert finished(workers.start(threading.current_thread, "p")) is thread  # which may still wait in the other way


def test_a_thread_that_cannot_start_takes_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no thread, the call is rejected, never done later, and the pool is as before."""
    workers = Workers(1, 1, "timeout")
    done: list[int] = []

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Rejected, match=r"no worker thread could be started for 'p' \(can't start"):
            workers.start(lambda: done.append(1), "p")
    assert finished(workers.start(lambda: 1, "p")) == 1
    assert not done


def test_a_worker_that_is_left_before_its_thread_comes_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on it is not counted, and who wants to know is told, also who asks later."""
    workers = Workers(1, 1, "timeout")
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: None)
        worker = workers.start(lambda: done.append("ran"), "p")
    worker.on_done(lambda: done.append("told"))
    workers.leave(worker)
    worker.on_done(lambda: done.append("told later"))
    assert done == ["told", "told later"]
    assert (workers.busy, workers.abandoned) == (0, 0)
    assert finished(workers.start(lambda: 1, "p")) == 1
    assert len(done) == 2


def test_of_two_that_come_at_the_same_time_the_first_gets_the_last_thread() -> None:
    """Not neither of them."""
    second_came, first_looked = threading.Event(), threading.Event()
    refused: list[Rejected] = []

    class Last(Workers):
        def caps(self) -> tuple[int, int]:
            if threading.current_thread() is second:
                second_came.set()
                assert first_looked.wait(WAIT)
            else:
                second.start()
                assert second_came.wait(WAIT)
            return 1, 1

    def come() -> None:
        try:
            workers.start(lambda: 2, "p")
        except Rejected as error:
            refused.append(error)

    workers, second = Last(1, 1, "timeout"), threading.Thread(target=come)
    release = threading.Event()
    first = workers.start(lambda: release.wait(WAIT), "p")
    first_looked.set()
    second.join(WAIT)
    release.set()
    assert finished(first)
    assert len(refused) == 1


def test_no_thread_holds_up_the_exit_of_the_interpreter() -> None:
    """A call that was left behind may run for ever."""
    assert finished(Workers(1, 1, "timeout").start(threading.current_thread, "p")).daemon


def test_many_threads_share_one_pool() -> None:
    """Under a storm of starts, some of them given up, no more than the limit run at once and nothing stays counted."""
    limit = 4
    workers = Workers(limit, limit, "timeout")
    lock = threading.Lock()
    running = peak = done = rejected = 0

    def work() -> None:
        nonlocal running, peak, done
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0)
        with lock:
            running -= 1
            done += 1

    def storm(seed: int) -> None:
        nonlocal rejected
        for number in range(100):
            try:
                worker = workers.start(work, "p")
            except Rejected:
                with lock:
                    rejected += 1
                continue
            if (seed + number) % 3 == 0:
                workers.leave(worker)
                if worker.cancel():
                    with lock:
                        rejected += 1
            else:
                finished(worker)

    storms = [threading.Thread(target=storm, args=(seed,)) for seed in range(8)]
    for thread in storms:
        thread.start()
    for thread in storms:
        thread.join(WAIT)
    until(lambda: workers.busy == 0 and workers.abandoned == 0)
    assert peak <= limit
    assert done + rejected == 800
    assert finished(workers.start(lambda: 1, "p")) == 1


def until(condition: Callable[[], bool]) -> None:
    """Give other threads the processor until `condition` holds."""
    give_up = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0)


def test_a_value_that_comes_in_the_moment_of_expiry_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the worker ends between the end of the wait and the look at it, its value is returned rather than thrown
    away.
    """
    policy = Policy(Timeout(0.01, thread=True))
    inside, go = threading.Event(), threading.Event()

    def work() -> str:
        inside.set()
        assert go.wait(WAIT)
        return "paid"

    real = threads.Worker.on_done

    def on_done(self: Worker, callback: Any) -> None:
        def held() -> None:  # the wake-up comes too late, the value is there
            ended.set()

        ended = threading.Event()
        real(self, held)
        assert inside.wait(WAIT)
        go.set()
        assert ended.wait(WAIT)

    monkeypatch.setattr(threads.Worker, "on_done", on_done)
    assert policy.call(work) == "paid"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_fresh_pool(go: threading.Event) -> None:
    """After a fork the child has all its capacity, whatever the parent's threads were doing."""
    workers = Workers(1, 1, "timeout")
    workers.leave(workers.start(lambda: go.wait(WAIT), "p"))
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if finished(workers.start(lambda: 7, "p")) == 7 and workers.abandoned == 0 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert workers.abandoned == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_inside_the_work_leaves_no_debt() -> None:
    """A child that is forked by the work itself goes on with that work, and its pool counts from nothing."""
    workers = Workers(1, 1, "timeout")
    parent = os.getpid()
    go = threading.Event()

    def work() -> int:
        assert go.wait(WAIT)
        return os.fork()

    def in_child() -> None:
        if os.getpid() != parent:
            os._exit(0 if (workers.busy, workers.abandoned) == (0, 0) else 1)

    worker = workers.start(work, "p")
    worker.on_done(in_child)
    workers.leave(worker)
    go.set()
    assert os.waitpid(finished(worker), 0)[1] == 0


def test_an_abandoned_call_does_not_hold_up_the_exit_of_the_interpreter() -> None:
    """A process whose call hangs in a worker thread ends all the same."""
    program = """
import threading
from resilient_agents import Policy
from resilient_agents.adapters.timeout import Timeout
from resilient_agents.errors import PolicyTimeoutError
try:
    Policy(Timeout(0.01, thread=True)).call(threading.Event().wait)
except PolicyTimeoutError:
    print("expired")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("expired\n", "")


def test_many_callers_of_one_timeout_each_get_their_own(go: threading.Event) -> None:
    """Callers from many threads run at the same time in the pool of one Timeout; each gets its own value or its own
    expiry.
    """
    together = threading.Barrier(8)
    policy = Policy(Timeout(30, thread=True))
    got: list[int] = []

    def work(number: int) -> int:
        together.wait(WAIT)
        return number

    callers = [
        threading.Thread(target=lambda number=number: got.append(policy.call(work, number))) for number in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT)
    assert sorted(got) == list(range(8))

    hanging = Policy(Timeout(0.01, thread=True))
    expired = threading.Semaphore(0)

    def expire() -> None:
        with pytest.raises(PolicyTimeoutError):
            hanging.call(go.wait, WAIT)
        expired.release()

    callers = [threading.Thread(target=expire) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in callers:
        assert expired.acquire(timeout=WAIT)


def test_what_is_told_of_a_worker_s_end_may_wait_for_another_worker() -> None:
    """The thread that tells it is not yet free, and so the other one gets a thread of its own."""
    workers = Workers(5, 5, "timeout")
    go_on, told = threading.Event(), threading.Event()
    came: list[bool] = []

    def tell() -> None:
        ended = threading.Event()
        workers.start(lambda: None, "p").on_done(ended.set)
        came.append(ended.wait(2))
        told.set()

    workers.start(go_on.wait, "p").on_done(tell)
    go_on.set()
    assert told.wait(10)
    assert came == [True]
