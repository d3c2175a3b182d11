"""A policy in which what was recorded takes the place of the user's code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from resilient_agents.adapters.rate_limit import RateLimit
from resilient_agents.adapters.retry import Retry
from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.errors import Rejected
from resilient_agents.policy import Policy
from resilient_agents.simulate.blocking import BlockingCalls
from resilient_agents.simulate.script import playing
from resilient_agents.strategies.chaos import Chaos
from resilient_agents.strategies.fallback import Fallback
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
    had again, and what a function of the user's decided is taken from what followed. `threads`: where blocking calls
    run, None where there are none. `remade`: rate limits that policies share, by what stood in their place.
    """

    def __init__(
        self, policy: Policy, *, same: bool, threads: BlockingCalls | None, remade: dict[int, RateLimit]
    ) -> None:
        self.same = same
        self.retries = same and any(isinstance(layer, Retry) for layer in policy.layers)
        self._writes = policy.writes is not None
        self._leaves = any(getattr(layer, "thread", None) or getattr(layer, "races", False) for layer in policy.layers)
        self._threads = threads
        self._remade = remade
        recast = self._recast(policy, alone=False)
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

    def _run_blocking(self) -> str:
        assert self._threads is not None
        answer: str = self._threads.wait_for(playing.get().run())
        return answer

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
                made.append(_like(strategy, continue_with=self._goes_on))
            elif isinstance(strategy, RateLimit) and (callable(strategy.cost) or strategy.settle is not None):
                made.append(self._rate_limit(strategy))
            elif isinstance(strategy, Chaos):
                continue  # what it did is in the recording, as what the dependency did
            elif isinstance(strategy, StreamTimeout):
                made.append(_like(strategy, complete=None, preamble=None))
            else:
                made.append(strategy)
            alone = alone or getattr(strategy, "races", False)
        return Policy(*made, name=policy.name, idempotent=None if self.same else policy.idempotent)

    def _goes_on(self, *_: object) -> Any:
        script = playing.get()
        return self._items_blocking() if script.call.blocking else script.items()

    def _fallback(self, strategy: Fallback) -> Fallback:
        """It answers as it did, as often as it did, and for what it did."""
        options: dict[str, Any] = {"on": strategy.on}
        if self.same and strategy.on != _default(Fallback, "on"):
            options["on"] = lambda error: isinstance(error, Rejected) or playing.get().call.fell_back
        if strategy.when is not None:
            options["when"] = lambda _: playing.get().replaces()
        if strategy.to:
            return Fallback(to=[self._stand_in] * len(strategy.to), **options)
        if callable(strategy.handler):
            return Fallback(self._stand_in, **options)
        return Fallback(value=strategy.value, **options)

    def _rate_limit(self, strategy: RateLimit) -> RateLimit:
        """It takes what it took, once for all policies that share it."""
        made = self._remade.get(id(strategy))
        if made is None:
            options: dict[str, Any] = {}
            if callable(strategy.cost):
                options["cost"] = lambda *_: min(playing.get().cost(), strategy.burst)
            if strategy.settle is not None:
                options["settle"] = lambda _: playing.get().settled()
            made = self._remade[id(strategy)] = _like(strategy, **options)
        return made

    def _retry(self, strategy: Retry, *, alone: bool) -> Retry:
        options: dict[str, Any] = dict.fromkeys(("before", "after", "before_sleep", "when"))
        if self.same:
            options["wait"] = partial(_recorded_wait, alone=alone)
            if strategy.when is not None or strategy.on != _default(Retry, "on") or self._writes:
                options["on"] = _Decided(alone=alone)
        retry: Retry = _like(strategy, **options)
        return retry


def _like(strategy: Any, **options: Any) -> Any:
    """The same strategy but for these options."""
    return type(strategy)(**{option: getattr(strategy, option) for option in strategy.OPTIONS} | options)


def _default(kind: type, option: str) -> Any:
    return inspect.signature(kind).parameters[option].default


async def _run() -> str:
    return await playing.get().run()


def _items() -> Any:
    return playing.get().items()


def _recorded_wait(state: Any, *, alone: bool) -> float:
    return playing.get().wait(state.attempt_number, alone=alone)


class _Decided:
    """Which errors were tried again, where a function of the user's decides that."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone

    def __call__(self, error: BaseException) -> bool:
        return not isinstance(error, Rejected) and playing.get().tried_again(alone=self._alone)
