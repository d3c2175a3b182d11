"""Rate limits that do as servers say (see classify/limits.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_agents.adapters.paced import Paced
from resilient_agents.base.clock import clock
from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected

if TYPE_CHECKING:
    from resilient_agents.classify.limits import Window

__all__ = ["Learning"]


class Learning(Paced):
    """Base of such limits. `_follows`: of what they learn from whatever passes through, None for nothing; `_flat`: what
    every call costs; None where a call, or its outcome, has to be asked for anything."""

    rate: float
    per: float
    burst: float
    _follows: str | None = None
    _flat: float | None

    def learn(self, headers: object, of: str = "requests") -> None:
        """Do as a server says: the headers of an answer (any mapping), or what has them, such as an error, a raw
        response or a stream. Those of openai, azure, groq, anthropic and their like are read.

        of: "requests" (default) or "tokens", or as the headers name it ("input-tokens"). What they say becomes `rate`
        and `per`, and `burst` where that was the rate; and no more starts than the server says is left. Headers that
        say nothing change nothing. Raises ValueError for an `of` that is no name.
        """
        from resilient_agents.classify.limits import stated  # few limits learn

        said = stated(headers, _checked_of(of))
        if said is None:
            return
        window = said.window
        with self._lock:
            now = clock.monotonic()
            if window is not None:
                self._adopt(now, said.limit, window)
            if said.remaining is not None:
                self._gcra.leave(now, said.remaining)
        self._tell_next(self._gcra)

    def _adopt(self, now: float, limit: float, window: Window) -> None:
        """Where headers are vague, what is known stays if it fits them; with another limit the slower of both."""
        per = window.likely
        if window.least <= self.per <= window.most and (limit == self.rate or self.per > per):
            per = self.per
        if (limit, per) == (self.rate, self.per):
            return
        burst = max(1.0, limit) if self.burst == max(1.0, self.rate) or self.burst > limit else self.burst
        # First, so that a handler that learns meanwhile does not take for done what is not.
        self._gcra.change(now, limit / per, burst)
        self.rate, self.per, self.burst = limit, per, burst

    @property
    def follows(self) -> str | None:
        """Of what it learns from whatever passes through; None for nothing."""
        return self._follows

    def follow(self, of: str = "requests") -> None:
        """`learn` from now on from whatever passes through: errors, raw responses and streams. Parsed results mostly
        have no headers: `integrations.limits` has a hook for clients of httpx, which sees all answers."""
        self._follows = _checked_of(of)
        self._flat = None

    async def _following(self, proceed: Proceed, call: Call) -> Any:
        of = self._follows or ""
        try:
            result = await proceed(call)
        except Exception as error:
            if not isinstance(error, Rejected):
                self.learn(error, of)
            raise
        self.learn(result.source if call.rare.closers is not None else result, of)
        return result


def _checked_of(of: object) -> str:
    if not isinstance(of, str) or not of:
        raise ValueError(f'of must be a name such as "requests" or "tokens", got {of!r}')
    return of
