"""A policy in which what was recorded takes the place of the user's code."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from resilient_agents.adapters.bulkhead import Bulkhead
from resilient_agents.adapters.circuit_breaker import CircuitBreaker
from resilient_agents.adapters.native.circuit_breaker import NativeBreaker
from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.classify import is_transient
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.core.match import matcher
from resilient_agents.core.setup import place_of
from resilient_agents.errors import Rejected
from resilient_agents.health import RequireHealthy
from resilient_agents.policy import Policy
from resilient_agents.simulate.as_recorded import (
    Decided,
    Refusal,
    Timed,
    counts,
    counts_natively,
    counts_result,
    ended_otherwise,
    is_bad,
    yes,
)
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.calls import Recorded
from resilient_agents.simulate.script import playing
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.strategies.fallback import Fallback
from resilient_agents.strategies.gate import Gate
from resilient_agents.strategies.hedge import Hedge
from resilient_agents.strategies.resume import Resume
from resilient_agents.strategies.stream_timeout import StreamTimeout

__all__ = ["Recast", "configuration"]


def configuration(policy: Policy) -> str:
    """The fingerprint that spans of its calls carry."""
    writes = policy.writes
    return fingerprint(policy.layers if writes is None else (*policy.layers, writes))


class Recast:
    """The policy, guarding what was recorded in place of a function, and in which no code of the user's runs.

    `same`: it is the one that was in force. Its retries then wait as long as they did, for their jitter is not to be
    had again, and what a function of the user's decided is in the recording. `calls`: those that it is to play.
    `threads`: where blocking calls run, None where there are none. `remade`: what policies share, by what stood in its
    place. `notes`: what goes another way than it would, in words;
    `doubts`: what may have gone another way.
    """

    def __init__(
        self,
        policy: Policy,
        calls: Sequence[Recorded],
        *,
        same: bool,
        threads: BlockingCalls | None,
        remade: dict[int, Any],
    ) -> None:
        self.same = same
        self._layers = policy.layers
        self.retries = same and any(isinstance(layer, Retry) for layer in policy.layers)
        self._writes = policy.writes is not None
        self._leaves = any(getattr(layer, "thread", None) or getattr(layer, "races", False) for layer in policy.layers)
        self._threads = threads
        self._remade = remade
        self.notes: set[str] = set()
        self.doubts: set[str] = set()
        self._chaotic = any(call.chaos for call in calls)
        owners = [layer for layer in policy.layers if getattr(layer, "owns_attempts", False)]
        self._innermost_owner = owners[-1] if owners else None
        self._charged = any("run_budget" in call.refused for call in calls)
        recast = self._recast(policy, alone=False)
        if self._charged and not owners:
            recast = Policy(Refusal("run_budget"), recast)
        self._made: dict[str, Callable[[], Any]] = {
            "": partial(recast.acall, _run),
            "blocking": partial(recast.call, self._run_blocking),
            "stream": partial(recast.stream, _items),
            "blocking stream": partial(recast.stream, self._items_blocking),
        }

    def guarded(self, called: str) -> Callable[[], Any]:
        """What is to be called in this way."""
        return self._made[called]

    def stops(self, called: str) -> bool:
        """Can it end a function that is called like this before its time? A thread can be left behind at most."""
        return self._leaves or not called.startswith("blocking")

    # ------------------------------------------------------------------------------------------------ the recorded code

    def _run_blocking(self) -> Any:
        assert self._threads is not None
        return self._threads.wait_for(playing.get().run())

    def _items_blocking(self) -> Generator[str, None, None]:
        assert self._threads is not None
        items = playing.get().items()
        try:
            while True:
                try:
                    item = self._threads.wait_for(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._threads.wait_for(items.aclose())

    def _stand_in(self, *_: object) -> Any:
        script = playing.get()
        if script.call.blocking:
            assert self._threads is not None
            return self._threads.wait_for(script.stand_in())
        return script.stand_in()

    # --------------------------------------------------------------------------------------------------- its strategies

    def _recast(self, policy: Policy, *, alone: bool) -> Policy:
        """`alone`: each request of a hedge around it passes it by itself."""
        made: list[Any] = []
        for strategy in policy.strategies:
            if isinstance(strategy, Policy):
                made.append(self._recast(strategy, alone=alone))
            elif isinstance(strategy, Fallback):
                made.append(self._fallback(strategy))
            elif isinstance(strategy, Retry):
                made.append(self._retry(strategy, alone=alone))
            elif isinstance(strategy, Resume):
                made.append(_like(strategy, continue_with=self._goes_on, **self._chosen(strategy)))
            elif isinstance(strategy, Hedge):
                made.append(_like(strategy, **self._chosen(strategy)))
            elif isinstance(strategy, CircuitBreaker):
                made.append(self._circuit_breaker(strategy))
            elif isinstance(strategy, RateLimit) and (callable(strategy.cost) or strategy.settle is not None):
                made.append(self._rate_limit(strategy))
            elif hasattr(strategy, "native"):
                made.append(self._native(strategy, alone=alone))
            elif isinstance(strategy, Chaos):
                made += self._chaos(strategy)
            elif isinstance(strategy, RequireHealthy):
                made.append(Refusal("require_healthy"))
            elif isinstance(strategy, StreamTimeout):
                made.append(_like(strategy, complete=None, preamble=None))
            else:
                made.append(strategy)
            if strategy is self._innermost_owner and self._charged:
                made.append(Refusal("run_budget"))
            self._doubt(strategy)
            if getattr(strategy, "follows", None) is not None:
                self.notes.add("a limit that learns from a server's headers keeps its rate: headers are not recorded")
            alone = alone or getattr(strategy, "races", False)
        return Policy(*made, name=policy.name, idempotent=None if self.same else policy.idempotent)

    def _doubt(self, strategy: Any) -> None:
        if isinstance(strategy, CircuitBreaker | RateLimit | Bulkhead | Gate) and strategy.name is None:
            self.doubts.add("which key a call had, if its policy is keyed, is not recorded: all are played as of one")
        if isinstance(strategy, RateLimit) and strategy.follows is None:
            self.doubts.add("what learn_limits told a limit, if it did, is not recorded")
        elif isinstance(strategy, Gate):
            self.doubts.add("what a gate heard from responses that were returned, not raised, is not recorded")

    def _goes_on(self, *_: object) -> Any:
        script = playing.get()
        return self._items_blocking() if script.call.blocking else script.items()

    def _chaos(self, strategy: Chaos) -> list[Chaos]:
        """What chaos did when calls were recorded, they met as what the dependency did."""
        if self.same:
            return []
        if self._chaotic:
            self.notes.add("a Chaos of the policy is left out: what chaos did is in the recording already")
            return []
        if strategy.when is not None:
            self.notes.add("a Chaos with when= is left out: arguments of calls are not recorded")
            return []
        return [strategy]

    def place(self, strategy: Any) -> str:
        """What spans call it."""
        return place_of(strategy, self._layers)

    def _chosen(self, strategy: Hedge | Resume) -> dict[str, Any]:
        """For which errors it did what it does, where a function of the user's decides that."""
        if not self.same or strategy.on == is_transient:
            return {}
        place = self.place(strategy)
        return {"on": lambda error: yes(playing.get().decided(place), default=is_transient(error))}

    def _circuit_breaker(self, strategy: CircuitBreaker) -> Any:
        """It counts as it did, once for all policies that share it."""
        options: dict[str, Any] = {"name": None, "on": partial(counts, strategy, matcher(strategy.on))}
        if strategy.when is not None:
            options["when"] = partial(counts_result, strategy)
        return self._once(strategy, partial(self._timed, strategy, options))

    def _timed(self, strategy: CircuitBreaker, options: dict[str, Any]) -> CircuitBreaker:
        made = Timed(**_options(strategy) | options)
        made.timed = strategy
        return made

    def _once(self, strategy: Any, make: Callable[[], Any]) -> Any:
        if id(strategy) not in self._remade:
            self._remade[id(strategy)] = make()
        return self._remade[id(strategy)]

    def _native(self, strategy: Any, *, alone: bool) -> Any:
        """A native object that calls functions of the user's, in whose place is what they said; without its hooks and
        listeners, and sleeping as the call does."""
        if not getattr(strategy, "owns_attempts", False):
            return self._once(strategy, partial(_native_breaker, strategy))
        parts: dict[str, Any] = {"sleep": time.sleep, "before": None, "after": None, "before_sleep": None}
        if strategy.native.retry_error_callback:
            parts["retry_error_callback"] = ended_otherwise
        if self.same:
            decided = Decided("", alone=alone)
            parts |= _recorded_waits(alone=alone)
            parts["retry"] = lambda state: decided(state.outcome.exception())
        return strategy.native.copy(**parts)

    def _fallback(self, strategy: Fallback) -> Fallback:
        """It answers as it did, as often as it did, and for what it did."""
        options: dict[str, Any] = {"on": strategy.on}
        place = self.place(strategy)
        if self.same and strategy.on != _default(Fallback, "on"):
            # What was passed over has not been asked about.
            options["on"] = lambda error: yes(
                playing.get().decided(place), default=isinstance(error, Rejected) or is_transient(error)
            )
        if strategy.when is not None and self.same:
            options["when"] = lambda _: playing.get().decided(place, of_result=True) is not None
        elif strategy.when is not None:
            options["when"] = lambda _: playing.get().replaces()
        if strategy.to:
            return Fallback(to=[self._stand_in] * len(strategy.to), **options)
        if callable(strategy.handler):
            return Fallback(self._stand_in, **options)
        return Fallback(value=strategy.value, **options)

    def _rate_limit(self, strategy: RateLimit) -> Any:
        """It takes what it took, once for all policies that share it."""
        options: dict[str, Any] = {}
        if callable(strategy.cost):
            options["cost"] = lambda *_: min(playing.get().cost(), strategy.burst)
        if strategy.settle is not None:
            options["settle"] = lambda _: playing.get().settled()
        return self._once(strategy, partial(_like, strategy, **options))

    def _retry(self, strategy: Retry, *, alone: bool) -> Retry:
        options: dict[str, Any] = dict.fromkeys(("before", "after", "before_sleep", "when"))
        if self.same:
            options |= _recorded_waits(alone=alone)
            decided = Decided(self.place(strategy), alone=alone)
            if strategy.on != _default(Retry, "on") or self._writes:
                options["on"] = decided
            if strategy.judges_results:
                options["when"] = decided
        elif strategy.when is not None:
            options["when"] = is_bad
        retry: Retry = _like(strategy, **options)
        return retry


def _native_breaker(strategy: Any) -> NativeBreaker:
    """One with the same numbers, in memory."""
    native: NativeBreaker = strategy.native
    own = native.is_system_error
    return NativeBreaker(
        fail_max=native.fail_max,
        reset_timeout=native.reset_timeout,
        success_threshold=native.success_threshold,
        exclude=[lambda error: not counts_natively(strategy, error, own)],
    )


def _like(strategy: Any, **options: Any) -> Any:
    """The same strategy but for these options."""
    return type(strategy)(**_options(strategy) | options)


def _options(strategy: Any) -> dict[str, Any]:
    return {option: getattr(strategy, option) for option in strategy.OPTIONS}


def _default(kind: type, option: str) -> Any:
    return inspect.signature(kind).parameters[option].default


async def _run() -> Any:
    return await playing.get().run()


def _items() -> Any:
    return playing.get().items()


def _recorded_waits(*, alone: bool) -> dict[str, Callable[[Any], Any]]:
    return {
        "wait": lambda state: playing.get().wait(state.attempt_number, alone=alone),
        "before_sleep": lambda state: playing.get().waits(state.attempt_number, alone=alone),
    }
