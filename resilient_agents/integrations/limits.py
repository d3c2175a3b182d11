"""Rate limits that do as servers say: a hook for clients of httpx, which sees the headers of every answer.

```python
requests, tokens = RateLimit(60, per=60), RateLimit(100_000, per=60, cost=estimate)
http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [learn_limits_async(requests=requests, tokens=tokens)]})
client = AsyncOpenAI(http_client=http)
```

What the SDKs return has no headers any more, so a policy around their calls cannot see what is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from resilient_agents.adapters.rate_limit import RateLimit

__all__ = ["learn_limits", "learn_limits_async"]


def learn_limits(**limits: RateLimit) -> Callable[[Any], None]:
    """An event hook of httpx: each limit learns from every response (see `RateLimit.learn`).

    `httpx.Client(event_hooks={"response": [learn_limits(requests=limit)]})`. The names say of what: `requests`,
    `tokens`, or any other that the headers have, `input_tokens` for "input-tokens". Raises TypeError for what is no
    RateLimit, and without any.
    """
    if not limits:
        raise TypeError("learn_limits needs a limit, such as requests=RateLimit(...)")
    for name, limit in limits.items():
        if not isinstance(limit, RateLimit):
            raise TypeError(f"{name} must be a RateLimit, got {limit!r}")
    learning = [(limit, name.replace("_", "-")) for name, limit in limits.items()]

    def hook(response: Any) -> None:
        for limit, of in learning:
            limit.learn(response, of)

    return hook


def learn_limits_async(**limits: RateLimit) -> Callable[[Any], Awaitable[None]]:
    """The same for `httpx.AsyncClient`."""
    learn = learn_limits(**limits)

    async def hook(response: Any) -> None:
        learn(response)

    return hook
