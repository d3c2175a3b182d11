"""`Chaos`: calls that fail, are late or wrong on purpose, where they are to be and nowhere else."""

from __future__ import annotations

import logging
import threading
from datetime import date
from typing import Any

import pytest

from resilient_agents import (
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Policy,
    PolicyTimeoutError,
    Registry,
    Retry,
    Timeout,
    chaos,
    classify,
    fixed,
)
from resilient_agents.base import instances
from resilient_agents.config import ConfigError, loads, show
from resilient_agents.core.call import Call, Proceed
from resilient_agents.events import ChaosInjected, Event
from resilient_agents.health import HealthMonitor, HealthStatus
from resilient_agents.registry.experiments import start_what_the_environment_says
from resilient_agents.testing import FakeClock, capture_events, failing
from tests.conftest import Harness

PERSISTENT = Retry(3, wait=fixed(1))


async def work(*args: Any, **kwargs: Any) -> str:
    return "worked"


async def items() -> Any:
    for number in range(1, 6):
        yield number


def items_of(h: Harness) -> Any:
    return (lambda: iter(range(1, 6))) if h.blocking else items


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overload", "overload"),
        ("auth", "auth"),
        (ConnectionError, "connection"),
        (lambda: TimeoutError("x"), "timeout"),
    ],
)
async def test_calls_fail_as_they_are_told(h: Harness, error: Any, kind: str) -> None:
    """With an error of that kind, retried like any other, without the function being called."""
    script = failing(*[1] * 3)
    policy = Policy(PERSISTENT, Chaos(error=error))
    with capture_events() as captured, pytest.raises(Exception) as caught:
        await h.call(policy, script if h.blocking else script.coroutine)
    failure = classify(caught.value)
    assert failure.kind == kind
    assert len(captured.of(ChaosInjected)) == (3 if failure.transient else 1)
    assert not script.calls


async def test_a_share_of_the_calls_fails(h: Harness) -> None:
    """About that share, and the same ones under the same seed."""

    async def outcomes(seed: str) -> list[bool]:
        policy = Policy(Chaos(error="server", error_rate=0.3, seed=seed))
        got: list[bool] = []
        for _ in range(200):
            try:
                await h.call(policy, work)
                got.append(True)
            except Exception:
                got.append(False)
        return got

    one, again, other = await outcomes("one"), await outcomes("one"), await outcomes("other")
    assert one == again != other
    assert 30 <= one.count(False) <= 90


async def test_calls_are_late(h: Harness) -> None:
    """By so much, and a limit around them cuts them off where it could the function."""
    start = h.now()
    assert await h.call(Policy(Chaos(latency=5)), work) == "worked"
    assert h.now() == start + 5
    if not h.blocking:
        with pytest.raises(PolicyTimeoutError):
            await h.call(Policy(Timeout(2), Chaos(latency=5)), work)
        assert h.now() == start + 7


def test_a_late_call_is_left_behind_with_its_thread() -> None:
    """As the function would be under `Timeout(thread=True)`."""
    with FakeClock() as clock:
        policy = Policy(Timeout(2, thread=True), Chaos(latency=60))
        with pytest.raises(PolicyTimeoutError):
            policy.call(threading.get_ident)
        assert clock.now >= 2
        assert Policy(Timeout(90, thread=True), Chaos(latency=60)).call(int) == 0


async def test_calls_are_answered_in_place_of_the_function(h: Harness) -> None:
    """With the result that is given."""
    assert await h.call(Policy(Chaos(result={"answer": 42})), work) == {"answer": 42}


async def test_when_chooses_by_arguments(h: Harness) -> None:
    """The others are left alone."""
    policy = Policy(Chaos(error="server", when=lambda *_, model="": model == "big"))
    assert await h.call(policy, work, model="small") == "worked"
    with pytest.raises(Exception, match="chaos: server"):
        await h.call(policy, work, model="big")


async def test_a_stream_breaks_off(h: Harness) -> None:
    """Before the item that is named; before the first it is retried."""
    policy = Policy(PERSISTENT, Chaos(error=ConnectionError, at=3))
    got: list[int] = []
    stream = policy.stream(items_of(h))
    with pytest.raises(ConnectionError):
        if h.blocking:
            for item in stream:
                got += [item]
        else:
            async for item in stream:
                got += [item]
    assert got == [1, 2]
    first = Policy(PERSISTENT, Chaos(error=ConnectionError, at=1))
    with capture_events() as captured, pytest.raises(ConnectionError):
        await h.items(first.stream(items_of(h)))
    assert len(captured.of(ChaosInjected)) == 3


async def test_a_stream_ends_early(h: Harness) -> None:
    """As if it were complete."""
    for at, expected in ((1, []), (2, [1]), (5, [1, 2, 3, 4]), (9, [1, 2, 3, 4, 5])):
        policy = Policy(Chaos(truncate=True, at=at))
        assert await h.items(policy.stream(items_of(h))) == expected


async def test_a_stream_stands_still(h: Harness) -> None:
    """Before the item that is named, for so long."""
    start = h.now()
    policy = Policy(Chaos(latency=30, at=4))
    assert await h.items(policy.stream(items_of(h))) == [1, 2, 3, 4, 5]
    assert h.now() == start + 30


async def test_named_policies_are_disturbed_from_outside(h: Harness) -> None:
    """For as long as the block lasts, also within other policies and through functions that are guarded already; other
    names are left alone."""
    tool, other = Policy(name="tool"), Policy(name="other")
    outer = Policy(Fallback(value="instead", on=Exception), tool)
    guarded = tool(h.fn(work))

    async def call() -> Any:
        result = guarded()
        return result if h.blocking else await result

    assert await call() == "worked"
    with chaos("tool", error="overload") as injected:
        with pytest.raises(Exception, match="chaos: overload"):
            await call()
        assert await h.call(outer, work) == "instead"
        assert await h.call(other, work) == "worked"
        with chaos("tool", result="nested"), pytest.raises(Exception, match="overload"):
            await call()
    assert injected.describe()["inside"] == "tool"
    assert await call() == "worked"
    assert await h.call(outer, work) == "worked"


def test_a_breaker_around_it_opens() -> None:
    """Chaos stands innermost, so that every strategy sees it."""
    policy = Policy(CircuitBreaker(failures=2), name="test_a_breaker_around_it_opens")
    with chaos("test_a_breaker_around_it_opens", error="connection"):
        for _ in range(2):
            with pytest.raises(Exception, match="chaos"):
                policy.call(int)
        with pytest.raises(CircuitOpenError):
            policy.call(int)


def test_it_announces_itself(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log when it is made, and in health for as long as it lives, of monitors made before and after."""
    monkeypatch.setattr(instances, "live", {})  # what other tests keep alive is out of sight
    before = HealthMonitor()
    assert "chaos" not in before.statuses()
    with caplog.at_level(logging.WARNING, "resilient_agents"), chaos("x", error="server", error_rate=0.5):
        assert "chaos is on in 'x': Chaos(error='server', error_rate=0.5)" in caplog.text
        for monitor in (before, HealthMonitor()):
            monitor.refresh()
            assert monitor.statuses()["chaos"] is HealthStatus.DEGRADED
            assert "on: x" in str(monitor.report())
        assert "chaos" not in HealthMonitor(builtin=False).statuses()
    del monitor
    before.refresh()


CONFIGURATION = """
[policies.tool]
timeout = 5
[chaos.tool]
error = "overload"
error_rate = 1.0
[profiles.calm.chaos]
tool = false
[profiles.production]
"""


def test_a_configuration_disturbs_policies() -> None:
    """From when it is loaded, until one without it is; a profile may switch it off."""
    registry = Registry(loads(CONFIGURATION, env={}))
    policy = registry.policy("tool")
    with pytest.raises(Exception, match="chaos: overload"):
        policy.call(int)
    registry.configure(loads(CONFIGURATION, env={}, profile="calm"))
    assert policy.call(int) == 0
    registry.configure(loads(CONFIGURATION, env={"RESILIENT_AGENTS__CHAOS__TOOL__ERROR": "auth"}))
    with pytest.raises(Exception, match="chaos: auth"):
        policy.call(int)
    registry.configure({"policies": {"tool": {"timeout": 5}}})
    assert policy.call(int) == 0


@pytest.mark.parametrize(
    ("toml", "result"),
    [
        ('"from the cache"', "from the cache"),
        ('{ id = 7, tags = ["a", { deep = true }], on = 2026-11-28 }', {"id": 7, "tags": ["a", {"deep": True}],
                                                                       "on": date(2026, 11, 28)}),
        ('["${ANSWER:-42}"]', [42]),
        ("0", 0),
    ],
)  # fmt: skip
def test_a_configuration_gives_results(toml: str, result: Any) -> None:
    """Any value of TOML, in place of the function's answer; `config show` prints it so that it loads again."""
    text = f"[policies.tool]\ntimeout = 5\n[chaos.tool]\nresult = {toml}\n"
    registry = Registry(loads(text, env={}))
    assert registry.policy("tool").call(str) == result
    config = loads(f'[[policies.p.strategies]]\nkind = "chaos"\nresult = {toml}', env={})
    for each in (config, loads(show(config, "p"), env={})):
        assert each.policies["p"].build().call(str) == result


def test_chaos_for_a_policy_that_is_not_there_is_a_warning() -> None:
    """It may be for one that code makes, or a slip: the nearest name is said."""
    (warning,) = loads(CONFIGURATION.replace("[chaos.tool]", "[chaos.tol]"), env={}).warnings
    assert (warning.policy, warning.place) == ("tol", "<string>:4")
    assert warning.message.startswith("chaos.tol: disturbs no policy of this configuration; did you mean 'tool'?")
    assert loads(CONFIGURATION, env={}).warnings == ()


def test_mistakes_in_a_configuration_are_named() -> None:
    """All at once, with their places."""
    with pytest.raises(ConfigError) as caught:
        loads('[chaos]\nc = 5\n[chaos.a]\nerror = "slow"\n[chaos.b]\nlatenzy = 3\n', env={})
    said = str(caught.value)
    assert all(part in said for part in ("error must be one of", "latency", "must be a table, or false"))
    with pytest.raises(ConfigError, match="is code and can be given in Python only"):
        loads('[chaos.a]\nerror = "server"\nwhen = "http_failure"\n', env={})
    with pytest.raises(ConfigError, match=r"a problem:\n .*chaos.a.result.x\[0\]: is too large"):
        loads("[chaos.a]\nresult = { x = [9223372036854775808] }", env={})
    with pytest.raises(ConfigError, match=r"r.toml:1: policies.p: Chaos must be the innermost .*, got Retry after it"):
        loads("policies.p.strategies = [{ kind = 'chaos', latency = 1 }, { kind = 'retry' }]", source="r.toml", env={})
    with pytest.raises(ConfigError, match="told twice"):
        loads(CONFIGURATION, env={}, profile="production")
    told = {"RESILIENT_AGENTS_CHAOS_IN_PRODUCTION": "yes"}
    assert loads(CONFIGURATION, env=told, profile="production").chaos.keys() == {"tool"}


def test_the_environment_disturbs_policies() -> None:
    """Without a configuration, in TOML."""
    policy = Policy(name="test_the_environment")
    said = 'test_the_environment = { error = "server" }'
    experiments = start_what_the_environment_says({"RESILIENT_AGENTS_CHAOS": said})
    assert experiments is not None
    with pytest.raises(Exception, match="chaos: server"):
        policy.call(int)
    experiments.become({})
    assert policy.call(int) == 0
    assert start_what_the_environment_says({}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai", ":1: is not TOML: "),
        ("x = " + "[" * 9000, ": is not TOML: nested too deeply"),
        ('[x]\nerror = "slow"', ":2: chaos.x.error = 'slow': error must be one of"),
    ],
)
def test_mistakes_in_the_environment_are_named(text: str, message: str) -> None:
    """The variable, and the line in it."""
    with pytest.raises(ConfigError) as caught:
        start_what_the_environment_says({"RESILIENT_AGENTS_CHAOS": text})
    assert f"environment variable RESILIENT_AGENTS_CHAOS{message}" in str(caught.value)


def test_in_production_it_must_be_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile alone refuses it, with the remedy."""
    monkeypatch.setenv("RESILIENT_AGENTS_PROFILE", "production")
    with pytest.raises(RuntimeError, match="RESILIENT_AGENTS_CHAOS_IN_PRODUCTION=yes"):
        Chaos(error="server")
    with pytest.raises(RuntimeError, match="told twice"), chaos("x", error="server"):
        pass
    with pytest.raises(ConfigError, match="told twice"):
        loads('chaos.x.error = "server"', env={})
    monkeypatch.setenv("RESILIENT_AGENTS_CHAOS_IN_PRODUCTION", "yes")
    Chaos(error="server")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "one of error, latency, result and truncate must be given"),
        ({"error": "slow"}, ValueError, "error must be one of timeout, connection"),
        ({"error": 3}, TypeError, "error must be an exception"),
        ({"error": "server", "error_rate": 0}, ValueError, "error_rate must be greater than 0"),
        ({"latency": -1}, ValueError, "latency must be at least 0"),
        ({"error": "server", "result": 1}, ValueError, "only one of error, result and truncate"),
        ({"truncate": True}, ValueError, "truncate needs at"),
        ({"result": 1, "at": 2}, ValueError, "result takes the place of a whole call"),
        ({"error": "server", "at": 0}, ValueError, "at must be at least 1"),
        ({"error": "server", "when": 3}, TypeError, "when must be callable"),
        ({"error": "server", "seed": 1.5}, TypeError, "seed must be a string"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each names the option, the rule and the value when it is built."""
    with pytest.raises(error, match=message):
        Chaos(**options)


@pytest.mark.parametrize(
    "strategies",
    [
        (Chaos(latency=1), Retry(3)),
        (Policy(Timeout(3), Chaos(latency=1)), Retry(3)),
        (Chaos(latency=1), Chaos(error="server"), Retry(3)),
        (Retry(2), Policy(Policy(Chaos(latency=1))), Policy(Retry(3))),
    ],
    ids=str,
)
def test_it_must_be_innermost(strategies: tuple[Any, ...]) -> None:
    """Further out it would stand in the place of nothing: a policy that has it there is refused when it is made."""
    after = type(strategies[-1]).__name__
    with pytest.raises(ValueError, match=f"Chaos must be the innermost strategy, .* put it last, got {after} after it"):
        Policy(*strategies)
    Policy(Retry(3), Policy(Timeout(3), Chaos(latency=1)), Chaos(error="server"))


class Replay(Chaos):
    """Another strategy in the place of the dependency."""


def test_what_must_be_innermost_is_named() -> None:
    """Whatever it is that nothing may stand inside of, the message says it."""
    with pytest.raises(ValueError, match="Replay must be the innermost strategy, .* put it last, got Retry after it"):
        Policy(Policy(Replay(error="server")), Retry(3))


class Answers:
    """One in the place of the dependency that has nothing but what it must have."""

    innermost = True

    async def execute(self, proceed: Proceed, call: Call) -> str:
        return "answered"


async def test_what_stands_innermost_needs_no_name(h: Harness) -> None:
    """A strategy of the user's own in the place of the dependency may be watched like any other."""
    policy = Policy(Retry(2), Answers())
    events: list[Event] = []
    policy.observe(events.append)
    assert await h.call(policy, lambda: "called") == "answered"
    assert events


def test_a_policy_must_have_a_name() -> None:
    """What is to be disturbed is named."""
    with pytest.raises(ValueError, match="must be the name of a policy, got ''"), chaos("", error="server"):
        pass


def test_what_it_says_of_itself() -> None:
    """Options as plain data; functions and errors by name."""
    made = Chaos(error=ConnectionError, latency=1.5, when=callable, seed="x")
    described = made.describe()
    assert described["strategy"] == "chaos"
    assert (described["error"], described["latency"], described["at"]) == ("ConnectionError", 1.5, None)
    assert described["seed"] == "x"
    assert repr(Chaos(latency=2)) == "Chaos(error=None, latency=2)"
