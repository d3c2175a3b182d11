"""The registry against models that are as simple as the promises: names under threads, reload under traffic."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from resilient_agents import BulkheadFullError, CircuitOpenError, Policy, RateLimitedError, Registry, Rejected
from resilient_agents.base.clock import clock
from resilient_agents.config import ConfigError
from tests.conftest import ManualClock

NAMES = ("a", "b", "c")
KINDS = ("policy", "circuit_breaker", "bulkhead", "keyed", "call")


def at_once(*work: Callable[[], Any]) -> None:
    """Run all at the same moment, each in a thread. Raises the first error of any."""
    barrier = threading.Barrier(len(work))
    errors: list[BaseException] = []

    def run(each: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            each()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class NamesModel(RuleBasedStateMachine):
    """Threads look up names, call and reload, all at the same moment. A name is one object for ever, and once a batch
    is over everything in use has the numbers of the configuration that was loaded last."""

    @initialize()
    def make(self) -> None:
        self.source: dict[str, Any] = {}
        self.limits = dict.fromkeys(NAMES, 1)
        self.write()
        self.registry = Registry(self.source)
        self.keyed = {name: self.registry.keyed(name, key=lambda key: key) for name in NAMES}
        self.guarded = {name: self.registry.late(name)(lambda: "done") for name in NAMES}
        self.known: dict[tuple[str, str], Any] = {}
        self.lock = threading.Lock()

    def write(self) -> None:
        self.source["policies"] = {
            name: {"circuit_breaker": {"failures": limit}, "bulkhead": limit} for name, limit in self.limits.items()
        }

    def look(self, kind: str, name: str) -> None:
        if kind == "call":
            assert self.guarded[name]() == "done"
            return
        found: Any = self.keyed[name].policy("key") if kind == "keyed" else getattr(self.registry, kind)(name)
        with self.lock:
            assert self.known.setdefault((kind, name), found) is found

    @rule(
        asked=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES)), min_size=1, max_size=6),
        limits=st.none() | st.fixed_dictionaries({name: st.integers(1, 9) for name in NAMES}),
    )
    def batch(self, asked: list[tuple[str, str]], limits: dict[str, int] | None) -> None:
        work: list[Callable[[], Any]] = [lambda kind=kind, name=name: self.look(kind, name) for kind, name in asked]  # type: ignore[misc]
        if limits is not None:
            self.limits = limits
            self.write()
            work.append(self.registry.reload)
        at_once(*work)

    @rule(asked=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES)), min_size=1, max_size=4))
    def bad_source(self, asked: list[tuple[str, str]]) -> None:
        self.source["policies"] = {"a": {"bulkhead": -1}}

        def refuse() -> None:
            with pytest.raises(ConfigError):
                self.registry.reload()

        at_once(refuse, *(lambda kind=kind, name=name: self.look(kind, name) for kind, name in asked))
        self.write()

    @invariant()
    def agree(self) -> None:
        for (kind, name), thing in getattr(self, "known", {}).items():
            limit = self.limits[name]
            if kind == "bulkhead":
                assert thing.limit == limit
            elif kind == "circuit_breaker":
                assert thing.failures == limit
            elif kind in ("policy", "keyed"):
                assert [type(layer).__name__ for layer in thing.layers] == ["CircuitBreaker", "Bulkhead"]
                assert (thing.layers[0].failures, thing.layers[1].limit) == (limit, limit)


TestNamesModel = NamesModel.TestCase
TestNamesModel.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)


NUMBERS = {
    "failures": st.integers(1, 3),
    "reset": st.sampled_from([5, 20]),
    "rate": st.sampled_from([0.5, 2]),
    "burst": st.integers(1, 4),
    "limit": st.integers(1, 4),
    "bulkhead": st.booleans(),
}


class TrafficModel(RuleBasedStateMachine):
    """Streams open and end in any order while time passes and the configuration is reloaded: each is admitted or
    refused as a breaker, a rate limit and a bulkhead with the numbers of the moment and the state of ever would have
    it. Nothing is lost, no limit exceeded, no state forgotten."""

    calls = Bundle("calls")

    @initialize(numbers=st.fixed_dictionaries(NUMBERS))
    def make(self, numbers: dict[str, Any]) -> None:
        self.before = clock.monotonic, clock.sleep
        self.time = ManualClock()
        clock.monotonic, clock.sleep = self.time, self.time.sleep
        self.source: dict[str, Any] = {}
        self.numbers = numbers
        self.write()
        self.registry = Registry(self.source)
        self.stream = self.registry.late("traffic")(numbers_forever)
        self.state, self.era, self.failed, self.until = "closed", 0, 0, 0.0
        self.probe: tuple[int, float] | None = None
        self.level, self.seen_at = 0.0, self.time.now
        self.holding: set[int] = set()
        self.started = 0

    def write(self) -> None:
        self.source["policies"] = {
            "traffic": {
                "circuit_breaker": {"failures": self.numbers["failures"], "reset_timeout": self.numbers["reset"]},
                "rate_limit": {"rate": self.numbers["rate"], "burst": self.numbers["burst"], "max_wait": 0},
                "bulkhead": {"limit": self.numbers["limit"], "queue": 0} if self.numbers["bulkhead"] else False,
            }
        }

    def teardown(self) -> None:
        if hasattr(self, "before"):
            clock.monotonic, clock.sleep = self.before

    def enter(self, state: str) -> None:
        self.state, self.era, self.failed, self.probe = state, self.era + 1, 0, None
        if state == "open":
            self.until = self.time.now + self.numbers["reset"]

    def admission(self, number: int) -> type[Rejected] | None:
        """What the model says, having taken what there is to take."""
        now = self.time.now
        if self.state == "open" and now >= self.until:
            self.enter("half-open")
        if self.state == "open":
            return CircuitOpenError
        probes = self.state == "half-open"
        if probes:
            if self.probe is not None and self.probe[1] > now:
                return CircuitOpenError
            self.probe = number, now + self.numbers["reset"]
        self.level = max(0.0, self.level - (now - self.seen_at) * self.numbers["rate"])
        self.seen_at = now
        refused: type[Rejected] | None = None
        if self.level + 1 > self.numbers["burst"] + 1e-6:
            refused = RateLimitedError
        else:
            self.level += 1
            if self.numbers["bulkhead"]:
                if len(self.holding) >= self.numbers["limit"]:
                    refused = BulkheadFullError
                else:
                    self.holding.add(number)
        if refused is not None and probes:
            self.probe = None  # a refusal inside is neutral
        return refused

    @rule(target=calls)
    def start(self) -> tuple[Any, int, int] | None:
        number = self.started
        self.started += 1
        refused = self.admission(number)
        stream = self.stream()
        if refused is not None:
            with pytest.raises(refused):
                next(stream)
            return None
        assert next(stream) == 1
        return stream, self.era, number

    @rule(call=consumes(calls), outcome=st.sampled_from(["success", "failure", "neutral"]))
    def end(self, call: tuple[Any, int, int] | None, outcome: str) -> None:
        if call is None:
            return
        stream, era, number = call
        if outcome == "neutral":
            stream.close()
        else:
            with pytest.raises(ConnectionError if outcome == "failure" else StopIteration):
                stream.throw(ConnectionError() if outcome == "failure" else Finished())
        self.holding.discard(number)
        if self.probe is not None and self.probe[0] == number:
            self.probe = None
        if era != self.era or outcome == "neutral":
            return
        if self.state == "closed":
            self.failed = self.failed + 1 if outcome == "failure" else 0
            if self.failed >= self.numbers["failures"]:
                self.enter("open")
        elif self.state == "half-open":
            self.enter("open" if outcome == "failure" else "closed")

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.time.now += seconds

    @rule(numbers=st.fixed_dictionaries(NUMBERS))
    def reload(self, numbers: dict[str, Any]) -> None:
        now = self.time.now
        self.level = max(0.0, self.level - (now - self.seen_at) * self.numbers["rate"])
        self.seen_at = now
        unbound = not any(True for _ in self.registry.policies())
        self.numbers = numbers
        self.write()
        self.registry.reload()
        if self.state == "open" and not unbound:
            self.until = min(self.until, now + numbers["reset"])

    @rule()
    def bad_reload(self) -> None:
        self.source["policies"] = {"traffic": {"bulkhead": 0}}
        with pytest.raises(ConfigError):
            self.registry.reload()
        self.write()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "started") or not self.registry.has("bulkhead", "traffic"):
            return
        assert self.registry.bulkhead("traffic").in_use == len(self.holding)
        state = self.registry.circuit_breaker("traffic").state
        assert state == ("half-open" if self.state == "open" and self.time.now >= self.until else self.state)


class Finished(Exception):
    """Ends a stream well."""


def numbers_forever() -> Generator[int, None, None]:
    with contextlib.suppress(Finished):
        while True:
            yield 1


TestTrafficModel = TrafficModel.TestCase
TestTrafficModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_threads_go_on_while_the_limit_changes() -> None:
    """Six threads queue for one to four slots through many reloads: every call comes back, at most four are inside."""
    source: dict[str, Any] = {"policies": {"x": {"bulkhead": 4, "retry": 2}}}
    registry = Registry(source)
    lock = threading.Lock()
    inside = peak = done = 0

    @registry.late("x")
    def work() -> None:
        nonlocal inside, peak, done
        with lock:
            inside += 1
            peak = max(peak, inside)
        with lock:
            inside -= 1
            done += 1

    def call() -> None:
        for _ in range(300):
            work()

    def reload() -> None:
        for turn in range(100):
            source["policies"] = {"x": {"bulkhead": turn % 4 + 1, "retry": turn % 3 + 1}}
            registry.reload()

    at_once(reload, *[call] * 6)
    assert done == 1800
    assert inside == 0
    assert peak <= 4
    assert registry.bulkhead("x").in_use == 0


def test_a_late_policy_binds_once_under_threads() -> None:
    """All threads that make the first call run the same policy."""
    for _ in range(30):
        registry = Registry({"policies": {"x": {"circuit_breaker": {"failures": 1}}}})
        policy = registry.late("x")
        guarded = policy(lambda: None)
        at_once(*[guarded] * 4)
        assert policy.strategies == (registry.policy("x"),)
        assert isinstance(policy.strategies[0], Policy)


FIRST = {"circuit_breaker": "failures", "bulkhead": "limit", "rate_limit": "rate", "gate": "max_wait"}
SECTIONS = {kind: f"{kind}s" for kind in FIRST}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Policies of strategies of their own and shared ones, in any order; names of both may be the same."""
    number = st.integers(1, 9)
    shared: dict[str, Any] = {
        section: draw(st.dictionaries(st.sampled_from(["a", "x"]), st.fixed_dictionaries({FIRST[kind]: number})))
        for kind, section in SECTIONS.items()
    }
    policies: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from([*NAMES, "default"]), min_size=1, unique=True)):
        strategies: list[Any] = []
        for kind in draw(st.lists(st.sampled_from(sorted(FIRST)), unique=True)):
            use = draw(st.sampled_from([None, *shared[SECTIONS[kind]]]))
            strategies.append({"kind": kind, FIRST[kind]: draw(number)} if use is None else {"kind": kind, "use": use})
        policies[name] = {"strategies": strategies}
    return {**shared, "policies": policies}


@given(st.lists(st.tuples(configurations(), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))))
@settings(max_examples=60, deadline=None)
def test_after_any_reload_policies_share_what_they_are_told_to(steps: list[Any]) -> None:
    """And nothing else: by name and keyed, with the numbers that were loaded last. A name stays one object."""
    source: dict[str, Any] = {"policies": {"default": {}}}
    registry = Registry(source)
    keyed = {name: registry.keyed(name, key=lambda key: key) for name in NAMES}
    used: dict[Any, Policy] = {}
    for configuration, asked, keys in steps:
        source.clear()
        source.update(configuration)
        registry.reload()
        for name in asked | {name for name in NAMES if name in used}:
            with contextlib.suppress(LookupError):
                policy = registry.policy(name)
                assert used.setdefault(name, policy) is policy
        for name in keys:
            with contextlib.suppress(LookupError):
                for key in (1, 2):
                    used[name, key] = keyed[name].policy(key)
        own: set[int] = set()
        components = {(kind, name): component for kind, name, component in registry.components()}
        for name, policy in used.items():
            written = configuration["policies"]
            spec = written.get(name[0] if isinstance(name, tuple) else name) or written.get("default")
            if spec is None:
                continue  # gone from the configuration: it stays as it was
            for layer, strategy in zip(policy.layers, spec["strategies"], strict=True):
                kind, use = strategy["kind"], strategy.get("use")
                shared = configuration[SECTIONS[kind]]
                if use is not None:
                    assert layer is components[kind, use]
                else:
                    assert id(layer) not in own
                    assert not any(layer is components.get((kind, other)) for other in shared)
                    own.add(id(layer))
                assert getattr(layer, FIRST[kind]) == shared.get(use, strategy)[FIRST[kind]]
