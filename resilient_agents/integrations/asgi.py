"""Health endpoints and error responses for ASGI servers and frameworks, none of which is needed.

```python
app = Starlette(routes=[Mount("/", health_app(monitor))], exception_handlers=exception_handlers())
```
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final

from resilient_agents.errors import PolicyTimeoutError, Rejected
from resilient_agents.health import HealthMonitor, get_health_monitor
from resilient_agents.integrations import answers

__all__ = [
    "Response",
    "exception_handlers",
    "group_handler",
    "health_app",
    "policy_timeout_handler",
    "rejected_handler",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]
"""Starlette's types ask a handler for a response of its own class, its code for any ASGI app: hence Any."""


TRY_AGAIN_LATER: Final = 1013  # of a websocket (IANA's registry of close codes)


class Response:
    """An answer as an ASGI app, which is what Starlette and FastAPI take from an exception handler. A websocket, which
    can be given none, is closed."""

    def __init__(self, answer: answers.Answer) -> None:
        self.answer = answer
        self.status_code = answer.status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": self.answer.phrase})
            return
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.answer.headers]
        await send({"type": "http.response.start", "status": self.answer.status, "headers": headers})
        body = b"" if scope.get("method") == "HEAD" else self.answer.body
        await send({"type": "http.response.body", "body": body})


def health_app(monitor: HealthMonitor | None = None, *, details: bool = True) -> ASGIApp:
    """An ASGI app with `/livez`, `/readyz` and `/health` (GET and HEAD), to mount anywhere or to serve by itself.

    `monitor`: by default that of the process, looked up at the first request. Served by itself it starts and stops the
    monitor; mounted, a framework does not tell it when, so start it with `async with monitor` in the application's
    lifespan. Where the monitor does not run, `/readyz` and `/health` first run the checks that are due.
    `details=False` leaves the checks and the summary out of `/health`.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch = monitor if monitor is not None else get_health_monitor()
        if scope["type"] == "lifespan":
            await _lifespan(watch, receive, send)
        elif scope["type"] == "http":
            await Response(await _answer(watch, scope, details=details))(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise ValueError(f"health_app serves http, websocket and lifespan, got {scope['type']!r}")

    return app


async def _answer(monitor: HealthMonitor, scope: Scope, *, details: bool) -> answers.Answer:
    path = _path(scope)
    if path not in answers.PATHS:
        return answers.not_found()
    if scope["method"] not in ("GET", "HEAD"):
        return answers.not_allowed()
    if path == answers.LIVE:
        return answers.live()
    await monitor.arefresh()
    return answers.health(monitor, path, details=details)


def _path(scope: Scope) -> str:
    """The path below the one at which the app is mounted. Servers and frameworks differ in whether `path` still holds
    all of `root_path`, none of it, or only its end: where the app is mounted, without what a proxy has cut off."""
    path: str = scope["path"]
    root = str(scope.get("root_path", "")).rstrip("/")
    for start, character in enumerate(root):
        if character == "/" and path.startswith(root[start:] + "/"):
            return path[len(root) - start :].rstrip("/")
    return path.rstrip("/")


async def _lifespan(monitor: HealthMonitor, receive: Receive, send: Send) -> None:
    await receive()
    async with contextlib.AsyncExitStack() as stack:
        if not monitor.running:
            await stack.enter_async_context(monitor)
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def rejected_handler(request: Any, error: Any) -> Any:
    """503 with Retry-After, as problem+json, for `Rejected`: an open circuit, a full bulkhead, a spent rate limit."""
    return _handled(error, messages=False)


async def policy_timeout_handler(request: Any, error: Any) -> Any:
    """504, as problem+json, for `PolicyTimeoutError`, deadlines included."""
    return _handled(error, messages=False)


async def group_handler(request: Any, error: Any) -> Any:
    """503 or 504 for an exception group of nothing but these errors, as a task group raises it; any other goes on."""
    return _handled(error, messages=False)


def exception_handlers(*, messages: bool = False) -> dict[Any, Handler]:
    """The handlers by the error each is for: `Starlette(exception_handlers=exception_handlers())`, or FastAPI.

    They answer for what endpoints and dependencies raise; what a middleware raises, no handler of these frameworks
    sees. `messages=True` puts the error's message into `detail`; it names the policy and the reason.
    """

    async def with_message(request: Any, error: Any) -> Any:
        return _handled(error, messages=True)

    if messages:
        return dict.fromkeys((Rejected, PolicyTimeoutError, ExceptionGroup), with_message)
    return {
        Rejected: rejected_handler,
        PolicyTimeoutError: policy_timeout_handler,
        ExceptionGroup: group_handler,
    }


def _handled(error: Any, *, messages: bool) -> Response:
    answer = answers.problem(error, messages=messages)
    if answer is not None:
        return Response(answer)
    if isinstance(error, ExceptionGroup):
        raise error
    raise TypeError(f"this handler is for Rejected and PolicyTimeoutError, got {type(error).__name__}") from error
