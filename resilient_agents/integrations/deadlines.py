"""Deadlines that travel: what is left of a `deadline()` on its way out with a request, and one that a request brought.

```python
client = httpx.AsyncClient(event_hooks={"request": [limit_requests_async()]})   # out
app = DeadlineMiddleware(app)                                                   # in
```

`time_left()` is for any client that takes a timeout in seconds, such as a gRPC stub or a session of MCP.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from resilient_agents.base.durations import seconds as check_seconds
from resilient_agents.deadline import deadline, remaining
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.integrations import answers
from resilient_agents.integrations.asgi import ASGIApp, Message, Receive, Response, Scope, Send

__all__ = [
    "DeadlineMiddleware",
    "grpc_timeout",
    "limit_requests",
    "limit_requests_async",
    "time_left",
    "timedelta_left",
]

GRPC_TIMEOUT = "grpc-timeout"
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def time_left(at_most: float | timedelta | None = None) -> float | None:
    """Seconds that a request begun now may take: until the deadline in force, and `at_most` (seconds or a timedelta).

    0.0 when the deadline has passed; None where there is neither. `stub.Ask(request, timeout=time_left(5))`.
    """
    own = None if at_most is None else check_seconds(at_most, "at_most")
    limits = [limit for limit in (remaining(), own) if limit is not None]
    return max(0.0, min(limits)) if limits else None


def timedelta_left(at_most: float | timedelta | None = None) -> timedelta | None:
    """The same as a timedelta, as the MCP SDK wants it before its version 2:
    `session.call_tool(name, read_timeout_seconds=timedelta_left(30))`. From then on it takes `time_left(30)`."""
    left = time_left(at_most)
    return None if left is None else timedelta(seconds=left)


def limit_requests(header: str | None = None) -> Callable[[Any], None]:
    """An event hook of httpx: no request of the client waits for anything longer than until the deadline in force.

    `httpx.Client(event_hooks={"request": [limit_requests()]})`. httpx has a limit for each step (connecting, each read,
    each write, a free connection), and each of them is shortened to what is left when the request begins; a policy
    around the call ends it as a whole. `header` also tells the server: "grpc-timeout" in gRPC's spelling ("250m"), any
    other name in seconds ("0.25"). Raises DeadlineExceeded, without a request, when nothing is left.
    """

    def hook(request: Any) -> None:
        left = remaining()
        if left is None:
            return
        if left <= 0:
            raise DeadlineExceeded("no time is left for this request", strategy="deadline", limit=0.0)
        limits: dict[str, Any] = request.extensions.get("timeout") or {}
        steps = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {step: _shorter(limits.get(step), left) for step in steps}
        if header is not None:
            request.headers[header] = _spelled(left) if header.lower() == GRPC_TIMEOUT else f"{left:.6f}"

    return hook


def limit_requests_async(header: str | None = None) -> Callable[[Any], Awaitable[None]]:
    """The same for `httpx.AsyncClient`."""
    limit = limit_requests(header)

    async def hook(request: Any) -> None:
        limit(request)

    return hook


def grpc_timeout(text: str) -> float | None:
    """Seconds of a `grpc-timeout` header, such as "250m" or "5S"; None for anything else.

    Source: the gRPC specification, "gRPC over HTTP2": at most eight digits and one of H, M, S, m, u, n.
    """
    found = re.fullmatch(r"([0-9]{1,8})([HMSmun])", text.strip())
    return None if found is None else int(found[1]) * _UNITS[found[2]]


class DeadlineMiddleware:
    """An ASGI middleware: each request is handled under the deadline that it brought.

    Args:
        app: The application.
        header: What says how long the caller waits, "grpc-timeout" in gRPC's spelling (default), any other in seconds.
        at_most: How long a request may take whatever it says, in seconds or as a timedelta; by default as long as it
            says. Applies to requests that say nothing, too.

    Policies inside end with the deadline; what they raise then (`DeadlineExceeded`) becomes a 504, if the response has
    not begun. A header that cannot be read counts as none. Raises TypeError or ValueError, when built, for an
    `at_most` that is not positive and finite.
    """

    def __init__(self, app: ASGIApp, *, header: str = GRPC_TIMEOUT, at_most: float | timedelta | None = None) -> None:
        self.app = app
        self.header = header.lower()
        self.at_most = None if at_most is None else check_seconds(at_most, "at_most", zero=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = self._seconds(scope) if scope["type"] == "http" else None
        if seconds is None:
            await self.app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if seconds <= 0:
                raise DeadlineExceeded("the request came too late", strategy="deadline", limit=0.0)
            with deadline(seconds):
                await self.app(scope, receive, sending)
        except Exception as error:
            answer = answers.problem(error)
            if begun or answer is None or answers.out_of_time(error) is None:
                raise
            await Response(answer)(scope, receive, send)

    def _seconds(self, scope: Scope) -> float | None:
        name = self.header.encode("latin-1")
        values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
        told = _read(self.header, values[-1]) if values else None
        limits = [limit for limit in (told, self.at_most) if limit is not None]
        return min(limits) if limits else None


def _read(header: str, value: str) -> float | None:
    if header == GRPC_TIMEOUT:
        return grpc_timeout(value)
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _spelled(seconds: float) -> str:
    """In gRPC's spelling, rounded down: the server is to be done before its caller is."""
    for unit, length in (("u", 1e-6), ("m", 1e-3), ("S", 1.0)):
        if seconds / length < 10**8:
            return f"{max(1, int(seconds / length))}{unit}"
    return "99999999S"


def _shorter(limit: float | None, left: float) -> float:
    return left if limit is None else min(limit, left)
