"""The logging observer tells the same story to the standard `logging`."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from resilient_agents import events
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.backoff import fixed
from resilient_agents.base import instances
from resilient_agents.policy import Policy
from resilient_agents.strategies.fallback import Fallback
from resilient_agents.telemetry import LogObserver
from tests.conftest import Harness
from tests.telemetry.test_names import every_event
from tests.telemetry.test_spans import HTTPError, Tells, fail, flaky, ok

OWN = "resilient_agents.events"


def lines(caplog: pytest.LogCaptureFixture, name: str = OWN) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == name]


def facts(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k.startswith(("resilient_agents.", "error.", "http."))}


async def test_the_story_of_a_retried_call(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Attempts are info, a handled failure is a warning, and a success says nothing louder."""
    caplog.set_level(logging.INFO, OWN)
    policy = Policy(Retry(3, wait=fixed(1.5, jitter=None)), name="search")
    policy.observe(LogObserver())
    await h.call(policy, flaky(1))
    assert lines(caplog) == [
        ("INFO", "search: attempt 1: failure in 0 s: overload (503)"),
        ("WARNING", "search: attempt 1 is retried in 1.5 s (backoff): overload (503)"),
        ("INFO", "search: attempt 2: success in 0 s"),
    ]


async def test_the_callers_error_is_an_error(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """What the caller sees go wrong is logged as an error, once."""
    caplog.set_level(logging.DEBUG, OWN)
    policy = Policy(Retry(2, wait=fixed(1, jitter=None)), name="search")
    policy.observe(LogObserver())
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    assert [line for line in lines(caplog) if line[0] == "ERROR"] == [
        ("ERROR", "search: failure after 2 attempts in 1 s: overload (503)")
    ]
    assert ("WARNING", "search: gave up after 2 attempts in 1 s (stop): overload (503)") in lines(caplog)


async def test_the_facts_stand_in_extra(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Each record carries its facts under the names of the telemetry table, for structured logs."""
    caplog.set_level(logging.INFO, OWN)
    policy = Policy(Retry(2, wait=fixed(1, jitter=None)), name="search")
    policy.observe(LogObserver())
    await h.call(policy, flaky(1, 429))
    _, retry, _ = (record for record in caplog.records if record.name == OWN)
    assert facts(retry) == {
        "resilient_agents.policy": "search",
        "resilient_agents.attempt": 1,
        "resilient_agents.delay": 1.0,
        "resilient_agents.reason": "backoff",
        "error.type": "rate_limit",
        "http.response.status_code": 429,
    }
    formatter = logging.Formatter("%(levelname)s %(resilient_agents.policy)s %(error.type)s")
    assert formatter.format(retry) == "WARNING search rate_limit"


async def test_no_message_is_logged(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """No error's message, argument or result reaches a record."""
    caplog.set_level(logging.DEBUG, OWN)
    policy = Policy(Fallback(value="RESULT"), Retry(2, wait=fixed(1)), CircuitBreaker("c", failures=1), name="p")
    policy.observe(LogObserver())
    await h.call(policy, fail)
    records = [record for record in caplog.records if record.name == OWN]
    assert len(records) > 5
    for record in records:
        assert "SECRET" not in str(vars(record))
        assert "RESULT" not in str(vars(record))
        assert record.exc_info is None


def circuits(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [line for line in lines(caplog) if "circuit '" in line[1]]


async def test_a_circuit_that_opens_is_an_error(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Opened is an error, half-open a warning, closed info."""
    caplog.set_level(logging.INFO, OWN)
    policy = Policy(CircuitBreaker("openai", failures=1, reset_timeout=10), name="p")
    policy.observe(LogObserver())
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    await h.sleep(11)
    await h.call(policy, ok)
    assert circuits(caplog) == [
        ("ERROR", "p: circuit 'openai' closed -> open"),
        ("WARNING", "p: circuit 'openai' open -> half-open"),
        ("INFO", "p: circuit 'openai' half-open -> closed"),
    ]


def test_changes_outside_a_call_are_logged_once_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    """A manual `open()` is logged once by each logger, however many observers use it, and not after they are gone."""
    gc.collect()
    before = instances.each("log_observer")
    caplog.set_level(logging.INFO, OWN)
    other = logging.getLogger("other")
    observers = [LogObserver(), LogObserver(), LogObserver(other)]
    breaker = CircuitBreaker("openai")
    breaker.open()
    assert circuits(caplog) == [("ERROR", "circuit 'openai' closed -> open")]
    assert [record.name for record in caplog.records].count("other") == 1
    caplog.clear()
    del observers
    gc.collect()
    assert instances.each("log_observer") == before
    breaker.close()
    assert not before or circuits(caplog)
    assert bool(circuits(caplog)) == bool(before)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.CallRejected("p", "bulkhead"), ("WARNING", "p: rejected by bulkhead")),
        (
            events.CallRejected("p", "circuit_breaker", 12.25, "openai"),
            ("WARNING", "p: rejected by circuit_breaker 'openai', try again in 12.2 s"),
        ),
        (
            events.CallRejected("p", "circuit_breaker", None, "openai", True),
            ("WARNING", "p: would be rejected by circuit_breaker 'openai'"),
        ),
        (events.TimeoutExpired("p", "timeout", 2.0), ("WARNING", "p: timeout of 2 s expired")),
        (
            events.LateResult("p", 2.0, 0.5),
            ("WARNING", "p: came back 0.5 s after its limit of 2 s; the value was returned"),
        ),
        (events.FallbackUsed("p", None), ("WARNING", "p: fallback used")),
        (events.FallbackUsed("p", None, "claude"), ("WARNING", "p: fallback claude used")),
        (
            events.CallEnded("p", "fallback", 2, 0.5, fallback="claude"),
            ("INFO", "p: fallback claude after 2 attempts in 0.5 s"),
        ),
        (events.Waited("p", "rate_limit", 0.25), ("DEBUG", "p: waited 0.25 s for rate_limit")),
        (
            events.CircuitOpened("p", "c", "closed", "open", True),
            ("WARNING", "p: circuit 'c' closed -> open (shadow)"),
        ),
    ],
)
def test_the_other_events(event: events.Event, expected: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Every other event has its line and its severity."""
    caplog.set_level(logging.DEBUG, OWN)
    policy = Policy(Tells(event), name="p")
    policy.observe(LogObserver())
    policy.call(int)
    assert expected in lines(caplog)


def test_every_event_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """An event that is added to the package needs a line here."""
    caplog.set_level(logging.DEBUG)
    observer = LogObserver()
    for event in every_event():
        caplog.clear()
        observer(event)
        assert len(lines(caplog)) == 1, event


def test_a_logger_that_is_off_costs_no_record(caplog: pytest.LogCaptureFixture) -> None:
    """Below the logger's level nothing is made."""
    caplog.set_level(logging.CRITICAL, OWN)
    policy = Policy(name="p")
    policy.observe(LogObserver())
    policy.call(int)
    assert lines(caplog) == []


def test_a_logger_must_be_one() -> None:
    """What is no logger is refused."""
    with pytest.raises(TypeError, match="logger must be a logging.Logger or None, got str"):
        LogObserver("resilient_agents")  # type: ignore[arg-type]


def test_a_summary_must_be_a_bool() -> None:
    """The error names the argument and the value."""
    with pytest.raises(TypeError, match="summary must be True or False, got 'yes'"):
        LogObserver(summary="yes")  # type: ignore[arg-type]


async def test_a_summary_is_one_line_for_each_call(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """Outcome, attempts, time, waits and kinds of failure stand in one line when the call has ended."""
    caplog.set_level(logging.DEBUG)
    policy = Policy(Retry(3, wait=fixed(1, jitter=None)), RateLimit(1, per=4, burst=1), name="p")
    undo = policy.observe(LogObserver(summary=True))
    await h.call(policy, flaky(2))
    await h.call(policy, ok)
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    undo()
    assert lines(caplog) == [
        (
            "WARNING",
            (
                "p: success after 3 attempts in 8 s; waited 2 s between attempts; waited 6 s in line; "
                "attempts failed: overload x 2"
            ),
        ),
        ("INFO", "p: success after 1 attempt in 4 s; waited 4 s in line"),
        (
            "ERROR",
            (
                "p: failure after 3 attempts in 12 s: overload (503); waited 2 s between attempts; "
                "waited 10 s in line; attempts failed: overload x 3"
            ),
        ),
    ]
    told = vars(caplog.records[0])
    assert (told["resilient_agents.waited"], told["resilient_agents.retry_waited"]) == pytest.approx((6, 2))


async def test_a_summary_tells_of_state_changes(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """A circuit belongs to no call alone, so its changes are lines of their own."""
    policy = Policy(CircuitBreaker(f"summed {h.runtime}", failures=1), name="p")
    undo = policy.observe(LogObserver(summary=True))
    with pytest.raises(HTTPError):
        await h.call(policy, fail)
    undo()
    assert lines(caplog)[0] == ("ERROR", f"p: circuit 'summed {h.runtime}' closed -> open")
