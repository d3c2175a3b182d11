"""Health: checks on their own intervals, one report, and a guard that looks at it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import multiprocessing
import os
import pickle
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Policy, Rejected, Retry, events
from resilient_agents.health import (
    HealthCheck,
    HealthMonitor,
    HealthStatus,
    get_health_monitor,
    open_circuits,
    require_healthy,
    saturated_bulkheads,
)
from resilient_agents.health import (
    entry as entry_module,
)
from resilient_agents.health import (
    monitor as monitor_module,
)
from resilient_agents.health.check import judge
from resilient_agents.health.report import overall, ready
from tests.conftest import Events, Harness, ManualClock
from tests.interruptions import Interrupt, interrupt_everywhere

WAIT = 30.0
HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = HealthStatus


@pytest.fixture(params=["asyncio", "trio"])
def h(request: pytest.FixtureRequest) -> Harness:
    """A monitor runs on an event loop."""
    return Harness(request.param)


@pytest.fixture
def published() -> Generator[Events, None, None]:
    told = Events()
    undo = events.subscribe(told)
    yield told
    undo()


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Lets hung checks go, in any case at the end of a test."""
    event = threading.Event()
    yield event
    event.set()


class Counting:
    """An async check that knows when it was called, and answers what it is told to."""

    def __init__(self, answer: Any = True, *, takes: float = 0.0) -> None:
        self.answer = answer
        self.takes = takes
        self.calls: list[float] = []
        self.cancelled = 0

    async def __call__(self) -> Any:
        self.calls.append(round(anyio.current_time()))
        try:
            await anyio.sleep(self.takes)
        except BaseException:
            self.cancelled += 1
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def bare(*checks: HealthCheck, **options: Any) -> HealthMonitor:
    return HealthMonitor(checks, builtin=False, **options)


def only(monitor: HealthMonitor) -> Any:
    """The report of the only check."""
    (check,) = monitor.report()["checks"].values()
    return check


# ---------------------------------------------------------------------------------------------------- what answers mean


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (True, HEALTHY, ""),
        (False, UNHEALTHY, ""),
        (HealthStatus.DEGRADED, DEGRADED, ""),
        ("degraded", DEGRADED, ""),
        ((True, "3 ms"), HEALTHY, "3 ms"),
        ((HealthStatus.UNKNOWN, "no idea"), UNKNOWN, "no idea"),
        (("unhealthy", "gone"), UNHEALTHY, "gone"),
        (None, UNKNOWN, "the check returned NoneType, not a bool or a status"),
        ("fine", UNKNOWN, "the check returned str, not a bool or a status"),
        (1, UNKNOWN, "the check returned int, not a bool or a status"),
        ((True, "a", "b"), UNKNOWN, "the check returned tuple, not a bool or a status"),
    ],
)
def test_an_answer_is_a_bool_a_status_or_a_pair(answer: Any, status: HealthStatus, message: str) -> None:
    """What a check returns; anything else is unknown, and says so."""
    assert judge(answer) == (status, message)


async def test_an_error_is_unhealthy_and_shows_its_type_only(h: Harness) -> None:
    """The message of an exception may hold a key: it stays inside unless asked for."""
    secret = ConnectionError("postgres://user:secret@db")
    monitor, telling = (
        bare(HealthCheck("db", Counting(secret))),
        bare(HealthCheck("db", Counting(secret)), show_errors=True),
    )
    await monitor.arefresh()
    await telling.arefresh()
    assert (only(monitor)["status"], only(monitor)["message"]) == ("unhealthy", "ConnectionError")
    assert only(telling)["message"] == "ConnectionError: postgres://user:secret@db"
    assert "secret" not in repr(monitor.history("db"))


@pytest.mark.parametrize(
    ("standings", "status", "is_ready"),
    [
        ([], HEALTHY, True),
        ([(HEALTHY, True), (HEALTHY, False)], HEALTHY, True),
        ([(HEALTHY, True), (UNHEALTHY, False)], DEGRADED, True),
        ([(HEALTHY, True), (DEGRADED, False)], DEGRADED, True),
        ([(DEGRADED, True)], DEGRADED, True),
        ([(UNHEALTHY, True), (HEALTHY, False)], UNHEALTHY, False),
        ([(UNHEALTHY, True), (UNKNOWN, True)], UNHEALTHY, False),
        ([(UNKNOWN, True), (UNHEALTHY, False)], UNKNOWN, False),
        ([(UNKNOWN, False), (HEALTHY, False)], HEALTHY, True),
        ([(UNKNOWN, False)], UNKNOWN, True),
    ],
)
def test_critical_failures_are_unhealthy_others_degraded(
    standings: list[tuple[HealthStatus, bool]], status: HealthStatus, is_ready: bool
) -> None:
    """Only a critical check can take the process out of traffic."""
    assert (overall(standings), ready(standings)) == (status, is_ready)


async def test_the_report(h: Harness) -> None:
    """The report has this shape, and JSON takes it."""
    monitor = bare(
        HealthCheck("db", Counting(True, takes=0.5), critical=True),
        HealthCheck("cache", Counting((False, "no answer"))),
        HealthCheck("mail", Counting(("degraded", "slow"))),
    )
    before = datetime.now(UTC)
    await monitor.arefresh()
    monitor.add(HealthCheck("new", Counting()))
    report = json.loads(json.dumps(monitor.report()))
    for name in ("db", "cache", "mail"):
        at = datetime.fromisoformat(report["checks"][name].pop("last_check"))
        assert before - timedelta(seconds=1) <= at <= datetime.now(UTC)
    assert report["checks"]["db"].pop("duration") == pytest.approx(0.5)
    assert report["checks"]["cache"].pop("duration") == report["checks"]["mail"].pop("duration") == pytest.approx(0)
    assert report == {
        "overall_status": "degraded",
        "checks": {
            "db": {"status": "healthy", "message": "", "critical": True},
            "cache": {"status": "unhealthy", "message": "no answer", "critical": False},
            "mail": {"status": "degraded", "message": "slow", "critical": False},
            "new": {
                "status": "unknown",
                "last_check": None,
                "message": "has not run yet",
                "duration": None,
                "critical": False,
            },
        },
        "summary": {
            "total_checks": 4,
            "healthy_checks": 1,
            "degraded_checks": 1,
            "unhealthy_checks": 1,
            "unknown_checks": 1,
        },
    }


# -------------------------------------------------------------------------------------------------------------- running


async def test_each_check_has_its_own_interval(h: Harness) -> None:
    """Checks run at once and then every `interval`, measured from start to start."""
    often, seldom = Counting(takes=1), Counting()
    start = round(h.now())
    async with bare(HealthCheck("often", often, interval=10), HealthCheck("seldom", seldom, interval=25)):
        await anyio.sleep(60.5)
    assert often.calls == [start + second for second in (0, 10, 20, 30, 40, 50, 60)]
    assert seldom.calls == [start, start + 25, start + 50]


async def test_a_check_that_outlasts_its_interval_is_not_run_twice_at_a_time(h: Harness) -> None:
    """Beats that pass meanwhile are left out."""
    slow = Counting(takes=25)
    start = round(h.now())
    async with bare(HealthCheck("slow", slow, interval=10, timeout=60)):
        await anyio.sleep(89)
    assert slow.calls == [start, start + 30, start + 60]


async def test_a_check_has_its_own_timeout(h: Harness) -> None:
    """An async check is cancelled at its timeout, and the others do not wait for it."""
    slow, fast = Counting(takes=1000), Counting()
    monitor = bare(HealthCheck("slow", slow, timeout=3), HealthCheck("fast", fast, timeout=1))
    async with monitor:
        await anyio.sleep(2)
        assert monitor.statuses() == {"slow": UNKNOWN, "fast": HEALTHY}
        await anyio.sleep(2)
        check = monitor.report()["checks"]["slow"]
    assert (check["status"], check["message"]) == ("unhealthy", "no answer within 3 s")
    assert check["duration"] == pytest.approx(3)
    assert slow.cancelled == 1


async def test_a_timeout_error_of_the_check_is_its_own(h: Harness) -> None:
    """What the check raises is not taken for our limit."""
    monitor = bare(HealthCheck("db", Counting(TimeoutError("inner"))))
    await monitor.arefresh()
    assert only(monitor)["message"] == "TimeoutError"


@pytest.mark.parametrize(
    "error", [SystemExit(3), asyncio.CancelledError(), BaseExceptionGroup("", [SystemExit(3)])], ids=repr
)
async def test_nothing_that_an_async_check_raises_ends_the_monitor(h: Harness, error: BaseException) -> None:
    """A CancelledError of something that the check awaited is its failure, and so is any other."""
    odd, fine = Counting(error), Counting()
    monitor = bare(HealthCheck("odd", odd, interval=10), HealthCheck("fine", fine, interval=10))
    async with monitor:
        await anyio.sleep(25)
        assert monitor.running
    assert (len(odd.calls), len(fine.calls)) == (3, 3)
    assert monitor.statuses() == {"odd": UNHEALTHY, "fine": HEALTHY}
    assert monitor.report()["checks"]["odd"]["message"] == type(error).__name__


def test_a_native_cancellation_is_no_answer(published: Events) -> None:
    """A program that ends cancels what runs, as asyncio does: no check of it failed."""
    slow = Counting(takes=1000)
    monitor = bare(HealthCheck("db", slow))
    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        tasks.append(asyncio.create_task(monitor.run()))
        await anyio.wait_all_tasks_blocked()

    asyncio.run(main())
    assert slow.cancelled == 1
    assert monitor.history("db") == ()
    assert published == []
    assert not monitor.running


class Stubborn(Counting):
    """A check that ignores its cancellation until it is through."""

    async def __call__(self) -> Any:
        with anyio.CancelScope(shield=True):
            return await super().__call__()


async def test_a_check_that_ignores_its_cancellation_is_unhealthy(h: Harness, published: Events) -> None:
    """From its timeout on, while it still runs, and when it has answered: an answer that comes late is none."""
    stubborn = Stubborn(takes=20)
    monitor = bare(HealthCheck("db", stubborn, timeout=3, interval=10), HealthCheck("fine", Counting(), interval=5))
    async with monitor:
        await anyio.sleep(2)
        assert monitor.statuses()["db"] is UNKNOWN
        await anyio.sleep(2)
        check = monitor.report()["checks"]["db"]
        assert (check["status"], check["message"]) == ("unhealthy", "no answer within 3 s")
        assert check["duration"] == pytest.approx(4)
        assert check["last_check"] is not None
        assert monitor.history("db") == ()
        await anyio.sleep(17)
        (result,) = monitor.history("db")
        assert (result.status, result.duration) == (UNHEALTHY, pytest.approx(20))
    changes = [
        (event.previous, event.status) for event in published.of(events.HealthChecked) if event.health_check == "db"
    ]
    assert changes[0] == ("unknown", "unhealthy")


async def test_a_result_grows_old(h: Harness) -> None:
    """A monitor that has stopped does not show yesterday's weather for ever."""
    monitor = bare(HealthCheck("db", Counting(), interval=10, timeout=5, critical=True))
    async with monitor:
        await anyio.sleep(1)
    assert monitor.ready
    await anyio.sleep(30)
    assert not monitor.ready
    assert (only(monitor)["status"], only(monitor)["message"]) == ("unknown", "has not run for too long")
    assert only(monitor)["last_check"] is not None


async def test_history_is_bounded(h: Harness) -> None:
    """The last results of each check are kept, the newest last, and no more than that."""
    flapping = Counting()
    monitor = bare(HealthCheck("db", flapping, interval=1), history=3)
    async with monitor:
        await anyio.sleep(5.5)
        flapping.answer = (False, "gone")
        await anyio.sleep(1)
    assert [(result.status, result.message) for result in monitor.history("db")] == [
        (HEALTHY, ""),
        (HEALTHY, ""),
        (UNHEALTHY, "gone"),
    ]
    with pytest.raises(LookupError, match="there is no health check 'cache'"):
        monitor.history("cache")


async def test_checks_come_and_go_while_it_runs(h: Harness) -> None:
    """A check that is added runs at once, one that is removed no more."""
    first, second = Counting(), Counting()
    monitor = bare(HealthCheck("first", first, interval=10))
    start = round(h.now())
    async with monitor:
        await anyio.sleep(5)
        monitor.add(HealthCheck("second", second, interval=10))
        monitor.remove("first")
        await anyio.sleep(12)
    assert first.calls == [start]
    assert second.calls == [start + 5, start + 15]
    assert list(monitor.report()["checks"]) == ["second"]


def test_names_are_unique() -> None:
    """Two checks of one name are a mistake."""
    monitor = bare(HealthCheck("db", bool))
    with pytest.raises(ValueError, match="there is a health check 'db' already"):
        monitor.add(HealthCheck("db", bool))
    with pytest.raises(LookupError, match="there is no health check 'cache'"):
        monitor.remove("cache")


async def test_it_runs_in_a_task_group(h: Harness) -> None:
    """`start_soon(monitor.run)` runs it until the group is cancelled, and it may run again."""
    check = Counting()
    monitor = bare(HealthCheck("db", check, interval=10))
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(monitor.run)
            await anyio.sleep(5)
            assert monitor.running
            tasks.cancel_scope.cancel()
        assert not monitor.running
        await anyio.sleep(10)
    assert len(check.calls) == 2


async def test_stop_ends_run(h: Harness) -> None:
    """Also a `run` in somebody's task group ends at `stop`, with a check in flight."""
    slow = Counting(takes=8)
    monitor = bare(HealthCheck("db", slow))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        await anyio.sleep(5)
        monitor.stop()
    assert slow.cancelled == 1
    assert not monitor.running
    assert await monitor.arefresh()
    assert only(monitor)["status"] == "healthy", "what was cut off runs again"


async def test_it_starts_again_right_after_stop(h: Harness) -> None:
    """Also while a check of before is still being cancelled: it goes on to its end, and is not run twice at a time."""
    stubborn, fine = Stubborn(takes=20), Counting()
    monitor = bare(HealthCheck("stubborn", stubborn, interval=10), HealthCheck("fine", fine, interval=10))
    start = round(h.now())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(monitor.run)
        await anyio.sleep(5)
        monitor.stop()
        assert not monitor.running
        tasks.start_soon(monitor.run)
        await anyio.sleep(10)
        assert monitor.running
        assert fine.calls == [start, start + 10]
        assert stubborn.calls == [start]
        await anyio.sleep(20)
        assert stubborn.calls == [start, start + 30], "the next beat after its end"
        monitor.stop()


async def test_blocks_do_not_overlap(h: Harness) -> None:
    """A block whose monitor was stopped has still to end before the next one."""
    monitor = bare(HealthCheck("db", Counting()))
    async with monitor:
        monitor.stop()
        with pytest.raises(RuntimeError, match="was stopped in an `async with` that goes on"):
            async with monitor:
                pass
    async with monitor:
        assert monitor.running


async def test_it_runs_once_at_a_time(h: Harness) -> None:
    """A second start in the same process is an error, and changes nothing."""
    monitor = bare()
    async with monitor:
        with pytest.raises(RuntimeError, match="runs already"):
            await monitor.run()
        with pytest.raises(RuntimeError, match="runs already"):
            async with monitor:
                pass
        with pytest.raises(RuntimeError, match="runs already"), monitor:
            pass
        monitor.start()
        assert monitor.running
    assert not monitor.running


async def test_an_empty_block_leaves_nothing_running(h: Harness) -> None:
    """A block that ends before its tasks began stops the monitor too."""
    monitor = bare(HealthCheck("db", Counting()))
    async with monitor:
        pass
    assert not monitor.running
    assert (await monitor.arefresh())["overall_status"] == "healthy"


async def test_an_error_of_the_block_comes_out_as_itself(h: Harness) -> None:
    """Not wrapped in a group."""
    with pytest.raises(ValueError, match="mine"):
        async with bare(HealthCheck("db", Counting())):
            await anyio.sleep(1)
            raise ValueError("mine")


# ------------------------------------------------------------------------------------------------------------ on demand


async def test_a_refresh_runs_what_is_due(h: Harness) -> None:
    """Where nothing runs in the background, asking runs the checks whose interval has passed."""
    often, seldom = Counting(), Counting()
    monitor = bare(HealthCheck("often", often, interval=5), HealthCheck("seldom", seldom, interval=50))
    for _ in range(3):
        assert (await monitor.arefresh())["overall_status"] == "healthy"
        await anyio.sleep(4)
    assert (len(often.calls), len(seldom.calls)) == (2, 1)


async def test_a_refresh_leaves_a_running_monitor_alone(h: Harness) -> None:
    """Then the report is what is known."""
    slow = Counting(takes=5)
    monitor = bare(HealthCheck("db", slow, critical=True))
    async with monitor:
        await anyio.sleep(1)
        assert (await monitor.arefresh())["overall_status"] == "unknown"
        await anyio.sleep(5)
        assert (await monitor.arefresh())["overall_status"] == "healthy"
    assert len(slow.calls) == 1


async def test_refreshes_at_the_same_time_share_a_run(h: Harness) -> None:
    """The second caller waits for the check that the first one runs."""
    slow = Counting(takes=5)
    monitor = bare(HealthCheck("db", slow, critical=True))
    reports: list[str] = []

    async def ask() -> None:
        reports.append((await monitor.arefresh())["overall_status"])

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    assert reports == ["healthy"] * 3
    assert len(slow.calls) == 1


async def test_a_forced_refresh_runs_all_checks_now(h: Harness) -> None:
    """Due or not, while the monitor runs too; then the interval begins anew."""
    check = Counting()
    monitor = bare(HealthCheck("db", check, interval=50))
    await monitor.arefresh()
    assert (await monitor.arefresh(force=True))["overall_status"] == "healthy"
    assert len(check.calls) == 2
    async with monitor:
        await anyio.sleep(40)
        check.answer = False
        assert (await monitor.arefresh(force=True))["overall_status"] == "degraded"
        await anyio.sleep(49)
        assert len(check.calls) == 3
        await anyio.sleep(2)
        assert len(check.calls) == 4


async def test_a_forced_refresh_waits_for_what_runs(h: Harness) -> None:
    """The scheduler's run of a check serves it, and what the scheduler cut off is made up for."""
    slow = Counting(takes=5)
    monitor = bare(HealthCheck("db", slow, critical=True))
    reports: list[str] = []

    async def ask() -> None:
        reports.append((await monitor.arefresh(force=True))["overall_status"])

    async with anyio.create_task_group() as tasks, monitor:
        await anyio.sleep(1)
        tasks.start_soon(ask)
        await anyio.sleep(5)
        assert reports == ["healthy"]
        assert len(slow.calls) == 1
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.sleep(1)
    assert reports == ["healthy"] * 3
    assert len(slow.calls) == 2


async def test_a_refresh_that_is_cancelled_is_made_up_for(h: Harness) -> None:
    """A probe that hangs up leaves no check behind that nobody would run again."""
    slow = Counting(takes=5)
    monitor = bare(HealthCheck("db", slow))
    with anyio.move_on_after(1):
        await monitor.arefresh()
    assert slow.cancelled == 1
    assert (await monitor.arefresh())["overall_status"] == "healthy"


async def test_a_refresh_takes_over_what_was_cut_off(h: Harness) -> None:
    """Who waited for the check of a probe that hung up gets an answer all the same, and still from one run."""
    slow = Counting(takes=5)
    monitor = bare(HealthCheck("db", slow, critical=True))
    reports: list[str] = []

    async def hang_up() -> None:
        with anyio.move_on_after(2):
            await monitor.arefresh()

    async def ask() -> None:
        await anyio.sleep(1)
        reports.append((await monitor.arefresh())["overall_status"])

    async with anyio.create_task_group() as tasks:
        for caller in (hang_up, ask, ask):
            tasks.start_soon(caller)
    assert reports == ["healthy"] * 2
    assert len(slow.calls) == 2


# ---------------------------------------------------------------------------------------------------------- sync checks


def test_blocking_programs_refresh() -> None:
    """`refresh` runs sync and async checks from blocking code."""
    threads: set[int] = set()

    def sync() -> bool:
        threads.add(threading.get_ident())
        return True

    async def asynchronous() -> tuple[bool, str]:
        await asyncio.sleep(0)
        return True, "async"

    monitor = bare(HealthCheck("sync", sync), HealthCheck("async", asynchronous), HealthCheck("lambda", asynchronous))
    report = monitor.refresh()
    assert report["summary"]["healthy_checks"] == 3
    assert report["checks"]["async"]["message"] == "async"
    assert threads != {threading.get_ident()}, "a sync check runs in a worker thread"


def test_a_plain_function_may_return_a_coroutine() -> None:
    """Only the call shows whether there is something to await."""

    async def ping() -> str:
        return "degraded"

    monitor = bare(HealthCheck("db", lambda: ping()))
    assert monitor.refresh()["checks"]["db"]["status"] == "degraded"


def test_blocking_programs_may_force_a_refresh() -> None:
    """Also of a monitor that runs in a thread of its own."""
    calls: list[int] = []
    monitor = bare(HealthCheck("db", lambda: not calls.append(1), interval=3600))
    for force in (False, False, True):
        monitor.refresh(force=force)
    assert len(calls) == 2
    with monitor:
        monitor.refresh(force=True)
        assert len(calls) >= 3


def test_as_much_history_as_anybody_likes() -> None:
    """Also more than a machine can count."""
    assert HealthMonitor([HealthCheck("db", lambda: True)], history=10**30).describe()["history"] == 10**30


@pytest.mark.parametrize("running", [False, True])
async def test_a_check_may_refresh_its_own_monitor(h: Harness, running: bool) -> None:
    """It does not wait for itself, nor for another check that does the same, also of another monitor."""
    force = {"force": True} if running else {}

    async def ask() -> bool:
        await asking[0].arefresh(**force)
        return (await asking[1].arefresh(**force))["checks"]["plain"]["status"] == "healthy"

    plain = HealthCheck("plain", answer_at_once, interval=3600)
    asking = [bare(HealthCheck("one", ask), HealthCheck("two", ask)), bare(HealthCheck("three", ask), plain)]
    began = time.monotonic()
    if running:
        async with asking[0], asking[1]:
            await asking[1].arefresh(force=True)
    report = await asking[0].arefresh(force=True)
    assert {check["status"] for check in report["checks"].values()} == {"healthy"}
    assert time.monotonic() - began < 5


def test_a_blocking_check_may_refresh_its_own_monitor() -> None:
    """Nor does it there, where an event loop of its own is made for it."""
    monitor = bare(HealthCheck("db", lambda: bool(monitor.refresh(force=True)), timeout=WAIT))
    began = time.monotonic()
    assert monitor.refresh()["overall_status"] == "healthy"
    with monitor:
        assert monitor.refresh(force=True)["overall_status"] == "healthy"
    assert time.monotonic() - began < WAIT / 2


async def test_a_refresh_that_a_check_left_behind_waits_like_any_other(h: Harness) -> None:
    """It is inside the check no longer than that runs."""
    asked, left = anyio.Event(), []

    async def later() -> None:
        await asked.wait()
        left.append((await monitor.arefresh(force=True))["checks"]["slow"]["status"])

    async def once() -> bool:
        if not left:
            left.append("begun")
            tasks.start_soon(later)
        return True

    async def slow() -> bool:
        asked.set()
        await anyio.sleep(0.05)
        return True

    monitor = bare(HealthCheck("once", once), HealthCheck("slow", slow))
    async with anyio.create_task_group() as tasks:
        await monitor.arefresh()
    assert left == ["begun", "healthy"]


async def test_refresh_is_refused_on_an_event_loop(h: Harness) -> None:
    """It would block the loop; the error names the remedy."""
    with pytest.raises(RuntimeError, match="await monitor.arefresh()"):
        bare(HealthCheck("db", Counting())).refresh()
    async with bare(HealthCheck("db", Counting())) as monitor:
        with pytest.raises(RuntimeError, match="await monitor.arefresh()"):
            monitor.refresh(force=True)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_refresh_in_a_thread_of_an_event_loop(backend: str) -> None:
    """A thread that was given the loop's context is no event loop: its `refresh` is not refused."""
    context: list[contextvars.Context] = []

    async def main() -> None:
        context.append(contextvars.copy_context())

    anyio.run(main, backend=backend)
    assert context[0].run(bare(HealthCheck("db", Counting())).refresh)["overall_status"] == "healthy"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()])
def test_nothing_that_a_sync_check_raises_reaches_the_monitor(error: BaseException) -> None:
    """Whatever it is, it is that check's failure."""

    def check() -> bool:
        raise error

    monitor = bare(HealthCheck("odd", check), HealthCheck("fine", lambda: True))
    monitor.refresh()
    assert monitor.statuses() == {"odd": UNHEALTHY, "fine": HEALTHY}
    assert monitor.report()["checks"]["odd"]["message"] == type(error).__name__


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; bounded."""
    waiting = threading.Event()
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError("it did not happen")


def test_hung_checks_starve_nobody(go: threading.Event) -> None:
    """With more hung checks than workers, the others go on, and no check ever has a second thread."""
    hung = [0] * 6
    healthy = threading.Semaphore(0)

    def hang(number: int) -> Callable[[], bool]:
        def check() -> bool:
            hung[number] += 1
            return go.wait(WAIT)

        return check

    def fine() -> bool:
        healthy.release()
        return True

    checks = [HealthCheck(f"hung {n}", hang(n), timeout=0.02, interval=0.02, critical=True) for n in range(6)]
    monitor = bare(*checks, HealthCheck("fine", fine, timeout=WAIT, interval=0.01), workers=2)
    before = threading.active_count()
    with monitor:
        for _ in range(20):
            assert healthy.acquire(timeout=WAIT)
        until(lambda: all(len(monitor.history(check.name)) >= 3 for check in checks))
        statuses = monitor.statuses()
        messages = {check["message"] for name, check in monitor.report()["checks"].items() if name != "fine"}
        # the monitor's own, two that may be idle or at work, and one for each that hangs
        assert threading.active_count() - before <= 1 + 2 + 6
    assert statuses.pop("fine") is HEALTHY
    assert set(statuses.values()) == {UNHEALTHY}
    assert all(re.fullmatch(r"has been running for \d+ s and does not end", message) for message in messages)
    assert hung == [1] * 6


def test_a_check_that_hung_and_ended_runs_again(go: threading.Event) -> None:
    """Its late answer is dropped; the next run is a new one."""
    ended = threading.Event()

    def check() -> bool:
        go.wait(WAIT)
        if not ended.is_set():
            ended.set()
            return False
        return True

    monitor = bare(HealthCheck("db", check, timeout=0.02, interval=0.01))
    with monitor:
        until(lambda: len(monitor.history("db")) >= 2)
        assert monitor.statuses()["db"] is UNHEALTHY
        go.set()
        until(lambda: monitor.statuses()["db"] is HEALTHY)
    assert ended.is_set()


def test_a_late_coroutine_is_dropped_quietly(go: threading.Event) -> None:
    """A plain function that hangs and then returns a coroutine leaves no warning that nobody awaited it."""
    returned = threading.Event()

    async def ping() -> bool:
        return True

    def check() -> Any:
        go.wait(WAIT)
        coroutine = ping()
        made.append(coroutine)
        return coroutine

    made: list[Any] = []
    monitor = bare(HealthCheck("db", check, timeout=0.02))
    assert monitor.refresh()["checks"]["db"]["message"] == "no answer within 0.02 s"
    go.set()
    until(lambda: bool(made) and made[0].cr_frame is None)
    returned.set()


@pytest.mark.parametrize("place", [0.001, WAIT])
def test_slow_checks_starve_nobody(go: threading.Event, monkeypatch: pytest.MonkeyPatch, place: float) -> None:
    """A check keeps its place for a moment only, or for as long as its thread works: others need not wait until those
    that hang have run out of time."""
    monkeypatch.setattr(entry_module, "PLACE", place)

    async def hanging() -> bool:
        return await anyio.to_thread.run_sync(go.wait, WAIT)

    hang: Any = (lambda: hanging()) if place == WAIT else (lambda: go.wait(WAIT))
    slow = [HealthCheck(f"slow {n}", hang, timeout=WAIT) for n in range(6)]
    monitor = bare(*slow, HealthCheck("fine", lambda: True, timeout=WAIT, interval=0.01), workers=2)
    with monitor:
        until(lambda: len(monitor.history("fine")) >= 3)
        assert set(monitor.statuses().values()) == {HEALTHY, UNKNOWN}
        go.set()
        until(lambda: set(monitor.statuses().values()) == {HEALTHY})


def test_no_more_than_workers_run_at_a_time(go: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync checks wait for a place, and the wait is not their own time."""
    monkeypatch.setattr(entry_module, "PLACE", WAIT)
    began: list[object] = []
    seen: list[int] = []

    def wait() -> bool:
        began.append(None)
        return go.wait(WAIT)

    async def when_all_others_began() -> bool:
        while len(began) < 2:
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        seen.append(len(began))
        go.set()
        return True

    checks = [HealthCheck(str(number), wait) for number in range(6)]
    monitor = bare(*checks, HealthCheck("last", when_all_others_began), workers=2)
    assert monitor.refresh()["summary"]["healthy_checks"] == 7
    assert seen == [2]


def test_start_and_stop_a_thread() -> None:
    """`start` runs it in a daemon thread, may be called again, and `stop` ends it."""
    ran = threading.Semaphore(0)
    threads: list[threading.Thread] = []

    async def check() -> bool:
        threads.append(threading.current_thread())
        ran.release()
        return True

    monitor = bare(HealthCheck("db", check, interval=0.01))
    monitor.stop()
    for _ in range(2):
        monitor.start()
        monitor.start()
        for _ in range(3):
            assert ran.acquire(timeout=WAIT)
        monitor.stop()
        assert not monitor.running
    assert threads[0].daemon
    assert not threads[0].is_alive()
    assert not threads[-1].is_alive()
    assert threads[0] is not threads[-1]


def test_a_check_may_stop_its_monitor() -> None:
    """From the monitor's own thread `stop` does not wait for itself."""
    monitor = bare()

    async def check() -> bool:
        monitor.stop()
        return True

    monitor.add(HealthCheck("last", check))
    monitor.start()
    until(lambda: bool(monitor.history("last")))
    assert [result.status for result in monitor.history("last")] == [HEALTHY]
    until(lambda: not any(thread.name == "resilient-agents-health" for thread in threading.enumerate()))
    assert not monitor.running


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_cannot_start_its_loop_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of file descriptors, `start` comes back and nothing runs; it can be tried again."""
    monitor = bare(HealthCheck("db", lambda: True))

    def out_of_descriptors(*_: object) -> None:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(anyio, "run", out_of_descriptors)
        monitor.start()
        until(lambda: not any(thread.name == "resilient-agents-health" for thread in threading.enumerate()))
        assert not monitor.running
    with monitor:
        until(lambda: monitor.statuses()["db"] is HEALTHY)


def test_stop_while_another_thread_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the decision to start and the start of the thread, `stop` waits for both, and nothing runs on."""
    monitor = bare(HealthCheck("db", lambda: True))
    stopped: list[bool] = []

    class Late(threading.Thread):
        def start(self) -> None:
            other.start()
            until(lambda: not monitor.running or not other.is_alive())
            super().start()

    other = threading.Thread(target=lambda: (monitor.stop(), stopped.append(True)))
    with monkeypatch.context() as patch:
        patch.setattr(monitor_module.threading, "Thread", Late)
        patch.setattr(monitor_module, "STOPPING_TAKES", WAIT)
        monitor.start()
    other.join(WAIT)
    assert stopped == [True]
    assert not any(thread.name == "resilient-agents-health" for thread in threading.enumerate())
    assert not monitor.running


def test_many_threads_refresh() -> None:
    """Refreshes from sixteen threads run a check once, and all get its answer."""
    runs: list[int] = []
    barrier = threading.Barrier(16, timeout=WAIT)
    reports: list[str] = []

    def check() -> bool:
        runs.append(1)
        return True

    monitor = bare(HealthCheck("db", check, interval=1000, critical=True))

    def ask() -> None:
        barrier.wait()
        reports.append(monitor.refresh()["overall_status"])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert reports == ["healthy"] * 16
    assert runs == [1]


def _in_child(monitor: HealthMonitor, answers: Any) -> None:
    fresh = (monitor.running, monitor.statuses()["db"].value, monitor.history("db"))
    monitor.start()
    until(lambda: monitor.statuses()["db"] is HEALTHY)
    monitor.stop()
    answers.put((*fresh, monitor.statuses()["db"].value))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_anew(go: threading.Event) -> None:
    """The child's monitor does not run, knows nothing, holds no lock of the parent's, and can be started."""
    monitor = bare(HealthCheck("db", lambda: True, interval=0.01), HealthCheck("hung", lambda: go.wait(WAIT)))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with monitor:
        until(lambda: monitor.statuses()["db"] is HEALTHY)
        with monitor._lock:  # as if another thread held it
            child = context.Process(target=_in_child, args=(monitor, answers), daemon=True)
            child.start()
        assert answers.get(timeout=WAIT) == (False, "unknown", (), "healthy")
        child.join(WAIT)
        assert child.exitcode == 0
        assert monitor.running


# ------------------------------------------------------------------------------------------------------------- built-in


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Only the components of this test are looked at."""
    components: dict[str, list[Any]] = {"circuit_breaker": [], "bulkhead": []}
    monkeypatch.setattr("resilient_agents.base.instances.each", lambda kind: components.get(kind, []))
    return components


def refreshed(monitor: HealthMonitor) -> HealthMonitor:
    monitor.refresh()
    return monitor


def test_components_are_looked_at_by_default() -> None:
    """A monitor knows of the breakers and bulkheads of this process without being told."""
    breaker = CircuitBreaker("looked-at-by-default")
    breaker.open()
    report = refreshed(HealthMonitor()).report()
    assert list(report["checks"]) == ["circuit_breakers", "bulkheads"]
    assert "looked-at-by-default" in report["checks"]["circuit_breakers"]["message"]


def test_an_open_circuit_degrades(alone: dict[str, list[Any]], manual_clock: ManualClock) -> None:
    """A third party that is down does not take this process out of traffic."""
    monitor = HealthMonitor([HealthCheck("db", lambda: True, critical=True)])
    alone["circuit_breaker"] += [CircuitBreaker("third-party"), CircuitBreaker("fine")]
    alone["circuit_breaker"][0].open()
    refreshed(monitor)
    assert monitor.overall_status is DEGRADED
    assert monitor.ready
    assert monitor.report()["checks"]["circuit_breakers"]["message"] == "open: third-party"


def test_a_critical_circuit_decides(alone: dict[str, list[Any]], manual_clock: ManualClock) -> None:
    """Open, a dependency named critical makes the service unhealthy; half-open it does not, or no traffic would probe
    it."""
    breaker = CircuitBreaker("own-database", reset_timeout=60)
    alone["circuit_breaker"].append(breaker)
    monitor = HealthMonitor(critical=["own-database"])
    assert refreshed(monitor).overall_status is HEALTHY
    breaker.open()
    manual_clock.now += 10
    assert refreshed(monitor).overall_status is UNHEALTHY
    assert not monitor.ready
    manual_clock.now += 60
    assert refreshed(monitor).overall_status is DEGRADED
    assert monitor.report()["checks"]["circuit_breakers"]["message"] == "half-open: own-database"
    assert monitor.ready
    breaker.close()
    manual_clock.now += 10
    assert refreshed(monitor).overall_status is HEALTHY


def test_a_shadow_circuit_says_nothing(alone: dict[str, list[Any]]) -> None:
    """It refuses nothing."""
    breaker = CircuitBreaker("only-watching", shadow=True)
    breaker.open()
    alone["circuit_breaker"].append(breaker)
    assert refreshed(HealthMonitor(critical=["only-watching"])).overall_status is HEALTHY


def test_a_shadow_bulkhead_says_nothing(alone: dict[str, list[Any]]) -> None:
    """It refuses nothing, however many are inside."""
    bulkhead = Bulkhead(1, queue=0, shadow=True)
    alone["bulkhead"].append(bulkhead)
    monitor = HealthMonitor()
    status = Policy(bulkhead).call(lambda: refreshed(monitor).overall_status)
    assert status is HEALTHY


def test_a_message_names_a_few(alone: dict[str, list[Any]]) -> None:
    """A breaker for each of a thousand hosts does not make a report of a thousand lines."""
    alone["circuit_breaker"] += [CircuitBreaker(f"host {n}") for n in range(8)]
    alone["circuit_breaker"].append(CircuitBreaker())
    for breaker in alone["circuit_breaker"]:
        breaker.open()
    message = refreshed(HealthMonitor()).report()["checks"]["circuit_breakers"]["message"]
    assert message == "open: host 0, host 1, host 2, host 3, host 4 and 4 more"


class Slots:
    """What a bulkhead shows of itself."""

    shadow = False

    def __init__(self, in_use: int, queued: int, queue: int | None, name: str | None = "pool") -> None:
        self.limit = 2
        self.in_use, self.queued, self.queue, self.name = in_use, queued, queue, name


@pytest.mark.parametrize(
    ("in_use", "queued", "queue", "status", "critical_status", "message"),
    [
        (1, 0, None, HEALTHY, HEALTHY, ""),
        (2, 0, None, HEALTHY, HEALTHY, ""),
        (2, 0, 3, HEALTHY, HEALTHY, ""),
        (2, 1, None, DEGRADED, DEGRADED, "queueing: pool"),
        (2, 2, 3, DEGRADED, DEGRADED, "queueing: pool"),
        (2, 3, 3, DEGRADED, UNHEALTHY, "refusing: pool"),
        (2, 0, 0, DEGRADED, UNHEALTHY, "refusing: pool"),
        (1, 0, 0, HEALTHY, HEALTHY, ""),
    ],
)
def test_a_saturated_bulkhead_degrades(
    alone: dict[str, list[Any]],
    in_use: int,
    queued: int,
    queue: int | None,
    status: HealthStatus,
    critical_status: HealthStatus,
    message: str,
) -> None:
    """All slots in use is what a bulkhead is for; that calls wait or are refused is worth a word."""
    alone["bulkhead"].append(Slots(in_use, queued, queue))
    for check, expected in ((saturated_bulkheads(), status), (saturated_bulkheads(critical=["pool"]), critical_status)):
        monitor = refreshed(bare(check))
        assert monitor.statuses() == {"bulkheads": expected}
        assert only(monitor)["message"] == message
        assert check.critical == (check.name == "bulkheads" and expected is critical_status and check.critical)


def test_a_real_bulkhead_is_seen(go: threading.Event) -> None:
    """What is checked is the bulkhead that calls go through."""
    bulkhead = Bulkhead(1, queue=0)
    bulkhead.name = "real"
    inside = threading.Event()
    thread = threading.Thread(target=Policy(bulkhead).call, args=(lambda: (inside.set(), go.wait(WAIT)),))
    thread.start()
    assert inside.wait(WAIT)
    monitor = refreshed(bare(saturated_bulkheads()))
    assert monitor.overall_status is DEGRADED
    assert "real" in only(monitor)["message"]
    go.set()
    thread.join(WAIT)


# ---------------------------------------------------------------------------------------------------------------- guard


def test_calls_do_not_start_while_unhealthy() -> None:
    """The guard refuses before anything inside it runs, and lets through again once the service is well."""
    answer: list[Any] = [False]
    monitor = bare(HealthCheck("db", lambda: answer[0], critical=True, interval=1e-9))
    ran: list[int] = []
    policy = Policy(require_healthy(monitor=monitor), Retry(3), name="orders")
    told = Events()
    policy.observe(told)
    monitor.refresh()
    with pytest.raises(Rejected, match="'orders' does not start: the service is unhealthy") as refused:
        policy.call(ran.append, 1)
    assert (refused.value.policy, refused.value.strategy) == ("orders", "require_healthy")
    assert [event.strategy for event in told.of(events.CallRejected)] == ["require_healthy"]
    assert ran == []
    answer[0] = True
    monitor.refresh()
    policy.call(ran.append, 2)
    assert ran == [2]


@pytest.mark.parametrize(
    ("status", "options", "passes"),
    [
        ("healthy", {"degraded": False}, True),
        ("degraded", {}, True),
        ("degraded", {"degraded": False}, False),
        ("unhealthy", {}, False),
        ("unknown", {"degraded": False}, True),
    ],
)
def test_what_the_guard_lets_through(status: str, options: dict[str, Any], passes: bool) -> None:
    """Degraded passes unless told otherwise; unknown passes always: nobody said that anything is wrong."""
    monitor = refreshed(bare(HealthCheck("db", lambda: status, critical=True)))

    @require_healthy("db", monitor=monitor, **options)
    def work() -> str:
        return "done"

    if passes:
        assert work() == "done"
    else:
        with pytest.raises(Rejected, match=f"'db' is {status}"):
            work()


async def test_the_guard_says_when_to_come_again(h: Harness) -> None:
    """While the monitor runs, the refusal carries the time until its next check."""
    monitor = bare(HealthCheck("db", Counting(False), critical=True, interval=30))
    async with monitor:
        await anyio.sleep(10)
        with pytest.raises(Rejected) as refused:
            await Policy(require_healthy(monitor=monitor)).acall(Counting())
    assert refused.value.retry_after == pytest.approx(20)


def test_the_guard_looks_at_named_checks_only() -> None:
    """Calls that need one thing are not refused because of another; a name that does not exist is an error."""
    monitor = refreshed(
        bare(HealthCheck("db", lambda: False, critical=True), HealthCheck("cache", lambda: True, critical=True))
    )
    assert Policy(require_healthy("cache", monitor=monitor)).call(lambda: 1) == 1
    with pytest.raises(LookupError, match="there is no health check 'cahce', only 'db', 'cache'"):
        Policy(require_healthy("cahce", monitor=monitor)).call(lambda: 1)


def test_the_guard_uses_the_monitor_of_the_process() -> None:
    """Without `monitor=` it is `get_health_monitor()`, one for the process."""
    mine = get_health_monitor()
    assert get_health_monitor() is mine
    mine.add(HealthCheck("db", lambda: False, critical=True))
    try:
        mine.refresh()
        with pytest.raises(Rejected):
            require_healthy()(lambda: 1)()
    finally:
        mine.remove("db")


def test_the_guard_describes_itself() -> None:
    """As plain data, like every strategy."""
    guard = require_healthy("db", monitor=bare(HealthCheck("db", bool)))
    assert Policy(guard, name="p").describe()["strategies"] == [
        {"strategy": "require_healthy", "checks": ["db"], "degraded": True, "overall_status": "unknown"}
    ]
    assert repr(guard) == "require_healthy('db', degraded=True)"


# ------------------------------------------------------------------------------------------------------ events, options


async def test_each_run_is_an_event(h: Harness, published: Events) -> None:
    """It says what was found, what before, how long it took, and nothing that the check said."""
    flapping = Counting(takes=2)
    async with bare(HealthCheck("db", flapping, interval=10, critical=True)):
        await anyio.sleep(5)
        flapping.answer = (False, "secret")
        await anyio.sleep(10)
    two: Any = pytest.approx(2)
    assert published == [
        events.HealthChecked("", "db", "healthy", "unknown", two, True),
        events.HealthChecked("", "db", "unhealthy", "healthy", two, True),
    ]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: HealthCheck("", bool), ValueError, "name must be a non-empty string, got ''"),
        (lambda: HealthCheck("db", True), TypeError, "check must be a function without arguments, got bool"),  # type: ignore[arg-type]
        (lambda: HealthCheck("db", bool, timeout=0), ValueError, "timeout must be more than 0 seconds"),
        (lambda: HealthCheck("db", bool, interval=-1), ValueError, "interval must be more than 0 seconds"),
        (lambda: HealthCheck("db", bool, critical="yes"), TypeError, "critical must be True or False"),  # type: ignore[arg-type]
        (lambda: HealthCheck("db", bool, description=3), TypeError, "description must be a string"),  # type: ignore[arg-type]
        (lambda: HealthMonitor([bool]), TypeError, "a monitor runs HealthCheck objects, got type"),  # type: ignore[list-item]
        (lambda: HealthMonitor(critical="openai"), TypeError, "critical must be a collection of names"),
        (lambda: HealthMonitor(critical=["x"], builtin=False), ValueError, "critical names dependencies"),
        (lambda: HealthMonitor(history=0), ValueError, "history must be at least 1"),
        (lambda: HealthMonitor(workers=0), ValueError, "workers must be at least 1"),
        (lambda: open_circuits(critical=[3]), TypeError, "critical must be a collection of names"),  # type: ignore[list-item]
        (lambda: require_healthy(bool), TypeError, "require_healthy takes names of checks"),  # type: ignore[arg-type]
        (lambda: require_healthy(monitor=3), TypeError, "monitor must be a HealthMonitor or None"),  # type: ignore[arg-type]
        (lambda: require_healthy(degraded=3), TypeError, "degraded must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_fail_at_once(build: Callable[[], object], error: type[Exception], message: str) -> None:
    """When the object is built, naming the argument, the rule and the value."""
    with pytest.raises(error, match=message):
        build()


def test_durations_may_be_timedeltas() -> None:
    """As everywhere."""
    check = HealthCheck("db", bool, timeout=timedelta(seconds=2), interval=timedelta(minutes=1))  # type: ignore[arg-type]
    assert (check.timeout, check.interval) == (2.0, 60.0)


def test_a_check_has_these_defaults() -> None:
    """Positional order and defaults are a promise."""
    check = HealthCheck("db", bool)
    assert (check.timeout, check.interval, check.critical, check.description) == (10.0, 30.0, False, "")
    assert HealthCheck("db", bool, 1.0, 2.0, True, "orders") == HealthCheck(
        "db", bool, timeout=1.0, interval=2.0, critical=True, description="orders"
    )


def test_a_monitor_describes_itself_and_refuses_to_be_copied() -> None:
    """Options and checks as plain data; its state belongs to one process."""
    monitor = bare(HealthCheck("db", bool, description="orders"))
    assert json.loads(json.dumps(monitor.describe()))["checks"] == [
        {"name": "db", "timeout": 10.0, "interval": 30.0, "critical": False, "description": "orders"}
    ]
    assert repr(monitor) == "HealthMonitor('db') <unknown>"
    with pytest.raises(TypeError, match="live state"):
        pickle.dumps(monitor)


def test_an_interrupted_refresh_leaves_no_check_to_nobody() -> None:
    """Who comes after it runs the check, and does not wait for one that has gone."""

    def check(monitor: HealthMonitor) -> None:
        began = time.monotonic()
        assert monitor.refresh(force=True)["overall_status"] == "healthy"
        assert time.monotonic() - began < WAIT / 2

    def run(monitor: HealthMonitor) -> None:
        try:
            monitor.refresh(force=True)
        except* Interrupt:  # in a group, where a task of the refresh was interrupted
            pass

    make = lambda: HealthMonitor([HealthCheck("x", answer_at_once, timeout=WAIT)], builtin=False)  # noqa: E731
    assert interrupt_everywhere(make, run, check, inside=os.path.dirname(monitor_module.__file__)) > 10


async def answer_at_once() -> bool:
    return True
