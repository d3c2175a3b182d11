"""Who writes the name that another library or a hand-written pattern has for it is told what it is called here."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    HealthCheck,
    HealthMonitor,
    Hedge,
    Policy,
    RateLimit,
    Registry,
    Retry,
    RetryBudget,
    StreamTimeout,
    Timeout,
    bulkhead,
    circuit_breaker,
    deadline,
    exponential,
    fibonacci,
    fixed,
    get_bulkhead,
    get_circuit_breaker,
    linear,
    rate_limit,
    resilient,
    retry,
    run_budget,
    timeout,
)
from resilient_agents.base.spelling import ELSEWHERE, nearest
from resilient_agents.config import ConfigError, load
from tests.test_docs import PAGES


@pytest.mark.parametrize(
    ("make", "theirs", "ours"),
    [
        (circuit_breaker, "failure_threshold", "failures"),
        (CircuitBreaker, "failure_threshold", "failures"),
        (CircuitBreaker, "timeout_duration", "reset_timeout"),
        (CircuitBreaker, "half_open_max_calls", "half_open_calls"),
        (CircuitBreaker, "monitor_window", "window"),
        (CircuitBreaker, "success_threshold", "successes"),
        (CircuitBreaker, "expected_exceptions", "on"),
        (retry, "max_attempts", "attempts"),
        (Retry, "base_delay", "wait"),
        (Retry, "strategy", "wait"),
        (Retry, "on_retry", "before_sleep"),
        (bulkhead, "max_concurrent", "limit"),
        (lambda **options: Bulkhead(3, **options), "timeout", "max_wait"),
        (lambda **options: Bulkhead(3, **options), "max_queue_size", "queue"),
        (lambda **options: Bulkhead(3, **options), "isolation_strategy", "isolation"),
        (lambda **options: get_bulkhead("spelling", **options), "max_concurrent", "limit"),
        (lambda **options: get_circuit_breaker("spelling", **options), "failure_threshold", "failures"),
        (rate_limit, "requests_per_second", "rate"),
        (lambda **options: RateLimit(3, **options), "period", "per"),
        (timeout, "timeout_seconds", "seconds"),
        (lambda **options: Hedge(3, **options), "extras", "extra"),
        (lambda **options: Fallback(str, **options), "handle", "handler"),
        (RetryBudget, "ration", "ratio"),
        (exponential, "base_delay", "base"),
        (exponential, "max_delay", "max"),
        (linear, "base_delay", "base"),
        (fibonacci, "multiplyer", None),
        (fixed, "base_delay", "delay"),
        (resilient, "request_timeout", "attempt_timeout"),
        (resilient, "circuit_breaker", "breaker"),
        (resilient, "max_retries", "retry"),
        (HealthCheck, "check_function", "check"),
        (HealthMonitor, "worker", "workers"),
        (Policy, "nmae", "name"),
        (Registry, "profil", "profile"),
    ],
)
def test_options(make: Callable[..., Any], theirs: str, ours: str | None) -> None:
    """In Python as in files."""
    with pytest.raises(TypeError, match=f"'?{theirs}'?.*") as caught:
        make(**{theirs: 5})
    meant = re.search(r"did you mean '(\w+)'", str(caught.value))
    assert (meant and meant[1]) == ours


@pytest.mark.parametrize("make", [CircuitBreaker, retry])
def test_what_is_another_strategy_s_option(make: Callable[..., Any]) -> None:
    """It says where it belongs, not what is spelled alike."""
    name = "request_timeout" if make is CircuitBreaker else "jitter"
    with pytest.raises(TypeError, match=r"did you mean (a Timeout inside it, .*attempt_timeout|an option of its wait)"):
        make(**{name: 5})


@pytest.mark.parametrize(
    ("thing", "theirs", "ours"),
    [
        (CircuitBreaker(), "is_open", "state"),
        (CircuitBreaker(), "get_metrics", "metrics"),
        (CircuitBreaker(), "get_state", "state"),
        (CircuitBreaker(), "reset", "close"),
        (CircuitBreaker(), "force_open", "open"),
        (Bulkhead(3), "get_metrics", "metrics"),
        (Retry(), "get_stats", "metrics"),
        (Policy(), "call_async", "acall"),
        (Policy(), "execute_async", "acall"),
        (Policy(), "get_metrics", "describe"),
        (HealthMonitor(), "register_health_check", "add"),
        (HealthMonitor(), "start_monitoring", "start"),
        (HealthMonitor(), "stop_monitoring", "stop"),
        (HealthMonitor(), "get_health_status", "report"),
        (HealthMonitor(), "get_system_health", "report"),
        (HealthMonitor(), "run_checks", "refresh"),
        (Registry(), "get_policy", "policy"),
        (Registry(), "get_circuit_breaker", "circuit_breaker"),
        (RateLimit(3), "get_stats", "metrics"),
    ],
    ids=str,
)
def test_attributes(thing: Any, theirs: str, ours: str) -> None:
    """Methods and attributes likewise."""
    with pytest.raises(AttributeError, match=f"has no attribute '{theirs}'; did you mean '{ours}'"):
        getattr(thing, theirs)


@pytest.mark.parametrize(
    "strategy", [CircuitBreaker(), Bulkhead(3), RateLimit(3), Retry(), Timeout(3), Hedge(1)], ids=str
)
@pytest.mark.parametrize("name", ["call", "call_async", "execute_async"])
def test_strategies_do_not_call(strategy: Any, name: str) -> None:
    """By hand a breaker calls; here a policy does."""
    with pytest.raises(AttributeError, match=r"Policy\(\.\.\.\)\.call\(fn\), or await"):
        getattr(strategy, name)


def test_names_of_others_are_not_listed() -> None:
    """Neither `dir` nor `hasattr` knows them, of an object or its class."""
    listed = dir(CircuitBreaker())
    assert "state" in listed
    assert "is_open" not in listed
    assert not hasattr(CircuitBreaker, "is_open")
    assert not hasattr(CircuitBreaker(), "is_open")


def test_attributes_of_strategies_are_read_at_full_speed() -> None:
    """The interpreter specialises such reads, which it does not where a class has a `__getattr__`."""
    for strategy in (Retry(), CircuitBreaker(), Bulkhead(3), RateLimit(3), Policy()):
        assert not hasattr(type(strategy), "__getattr__")


def test_what_nobody_means_is_an_ordinary_error() -> None:
    """Whoever asks `hasattr`, copies or pickles finds nothing unusual."""
    assert not hasattr(Policy(), "xyzzy")
    assert not hasattr(Policy(), "__wrapped__")
    assert copy.copy(Retry(7)).attempts == pickle.loads(pickle.dumps(Retry(7))).attempts == 7
    assert list(inspect.signature(Timeout).parameters) == ["seconds", "thread"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'seconds'"):
        Timeout()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: StreamTimeout(20), "StreamTimeout takes first_item, idle, .*, thread by name only, got 20$"),
        (lambda: Retry(3, OSError), "Retry takes attempts without a name, on, .* by name only, got <class 'OSError'>$"),
        (lambda: RateLimit(1, 2, 3), "RateLimit takes rate and per without a name, burst, .* got 3$"),
    ],
)
def test_an_option_that_wants_its_name_says_so(make: Callable[[], object], said: str) -> None:
    """The error names the options, rather than count arguments."""
    with pytest.raises(TypeError, match=f"^{said}"):
        make()


def test_whoever_inherits_may_take_what_it_wants_by_position() -> None:
    """What counts is the constructor of the class itself."""

    class Both(Retry):
        def __init__(self, attempts: int, on: type[Exception]) -> None:
            super().__init__(attempts, on=on)

    assert Both(2, OSError).on is OSError


@pytest.mark.parametrize("block", [lambda: deadline(3), lambda: run_budget(3)])
def test_a_plain_with_is_told_of(block: Callable[[], Any]) -> None:
    """`async with` on what a plain `with` enters, in async code, too."""

    async def enter() -> None:
        async with block():
            pass

    with pytest.raises(TypeError, match=r"^(deadline|run_budget)\(\.\.\.\) is entered by a plain `with`"):
        asyncio.run(enter())


def test_a_warning_names_the_line_that_made_the_strategy() -> None:
    """Nothing of ours stands between."""
    first = CircuitBreaker("spelled")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CircuitBreaker(name=first.name)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("table", "theirs", "meant"),
    [
        ({"request_timeout": 10}, "request_timeout", "'attempt_timeout'"),
        ({"circuit_breaker": {"request_timeout": 10}}, "request_timeout", "a Timeout inside it"),
        ({"bulkhead": {"limit": 3, "timeout": 5}}, "timeout", "'max_wait'"),
        ({"retry": {"jitter": True}}, "jitter", "an option of its wait"),
        ({"retry": {"wait": {"kind": "exponential", "base_delay": 1}}}, "base_delay", "'base'"),
    ],
)
def test_files(table: dict[str, Any], theirs: str, meant: str) -> None:
    """Configuration files know the same names."""
    with pytest.raises(ConfigError, match=f"{theirs}.*did you mean {meant}"):
        load({"policies": {"p": table}}, env={})


def test_every_name_of_others_has_a_row() -> None:
    """On the page for those who come from a pattern of their own."""
    page = (PAGES / "coming-from.md").read_text()
    rows = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| ") and "|" in line[1:])
    assert [name for name in ELSEWHERE if not re.search(rf"\b{name}\b", rows)] == []


def test_a_long_list_is_cut() -> None:
    """Thousands of names help nobody, and cost time for each mistake."""
    assert nearest("x", [f"name{n}" for n in range(5000)]).endswith("name99 and 4900 more")
