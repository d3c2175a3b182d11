"""Health endpoints and error responses over ASGI: bare, in Starlette, in FastAPI, and behind a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

import anyio
import fastapi
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute

from resilient_agents import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceeded,
    Policy,
    PolicyTimeoutError,
    RateLimitedError,
    Rejected,
    Timeout,
    cli,
    deadline,
)
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.integrations import answers
from resilient_agents.integrations.asgi import exception_handlers, health_app, rejected_handler
from tests.conftest import Harness, drive

SECRET = "postgres://user:secret@db"


@pytest.fixture(params=["asyncio", "trio"])
def h(request: pytest.FixtureRequest) -> Harness:
    """ASGI is asynchronous."""
    return Harness(request.param)


class Reply:
    def __init__(self, messages: list[Any]) -> None:
        start, body = messages
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body: bytes = body["body"]

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(app: Any, path: str, method: str = "GET", root_path: str = "") -> Reply:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": method, "path": path, "root_path": root_path, "headers": []}, receive, send)
    return Reply(sent)


class Service:
    """A monitor with one critical check, whose answer can be changed at any time."""

    def __init__(self, answer: Any = True, *, critical: bool = True, **options: Any) -> None:
        self.answer = answer
        self.runs = 0
        self.monitor = HealthMonitor(
            [HealthCheck("db", self.check, interval=1, critical=critical)], builtin=False, **options
        )

    async def check(self) -> Any:
        self.runs += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


# ------------------------------------------------------------------------------------------------------------ endpoints


async def test_a_healthy_service(h: Harness) -> None:
    """All three endpoints say 200, in the media type of health documents, and are not cached."""
    app = health_app(Service().monitor)
    for path in ("/livez", "/readyz", "/health", "/health/"):
        reply = await ask(app, path)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/health+json"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-length"] == str(len(reply.body))
        assert reply.json()["status"] == "pass"


async def test_an_unhealthy_service(h: Harness) -> None:
    """A critical failure takes the process out of traffic, and is no reason to restart it."""
    app = health_app(Service((False, "no answer")).monitor)
    assert [(await ask(app, path)).status for path in ("/livez", "/readyz", "/health")] == [200, 503, 503]
    assert (await ask(app, "/readyz")).json() == {"status": "fail"}


async def test_a_degraded_service(h: Harness) -> None:
    """What is not critical leaves the process in traffic."""
    app = health_app(Service(False, critical=False).monitor)
    assert [(await ask(app, path)).status for path in ("/livez", "/readyz", "/health")] == [200, 200, 200]
    report = (await ask(app, "/health")).json()
    assert (report["status"], report["overall_status"]) == ("warn", "degraded")


async def test_the_document_is_the_report(h: Harness) -> None:
    """`/health` is the monitor's report, with the word that the media type asks for."""
    service = Service((True, "3 ms"))
    document = (await ask(health_app(service.monitor), "/health")).json()
    assert document == {"status": "pass", **service.monitor.report()}
    assert document["checks"]["db"]["message"] == "3 ms"


async def test_details_can_be_left_out(h: Harness) -> None:
    """For an endpoint that strangers can reach."""
    app = health_app(Service(False).monitor, details=False)
    assert (await ask(app, "/health")).json() == {"status": "fail", "overall_status": "unhealthy"}


async def test_no_message_of_an_exception_leaves(h: Harness) -> None:
    """Only its type, unless asked for."""
    reply = await ask(health_app(Service(ValueError(SECRET)).monitor), "/health")
    assert b"ValueError" in reply.body
    assert b"secret" not in reply.body
    reply = await ask(health_app(Service(ValueError(SECRET), show_errors=True).monitor), "/health")
    assert b"secret" in reply.body


async def test_not_ready_before_critical_checks_have_run(h: Harness) -> None:
    """A process that has just started gets no traffic until it knows."""
    service = Service()

    async def starting() -> bool:
        await anyio.sleep(5)
        return True

    service.monitor.add(HealthCheck("starting", starting, critical=True))
    app = health_app(service.monitor)
    async with service.monitor:
        await anyio.sleep(1)
        assert (await ask(app, "/readyz")).status == 503
        assert (await ask(app, "/health")).json()["overall_status"] == "unknown"
        await anyio.sleep(5)
        assert (await ask(app, "/readyz")).status == 200


async def test_probes_run_what_is_due_where_nothing_else_does(h: Harness) -> None:
    """Mounted in an application that never started the monitor, the endpoints still tell the truth."""
    service = Service()
    app = health_app(service.monitor)
    await ask(app, "/livez")
    assert service.runs == 0, "/livez looks at nothing"
    for _ in range(3):
        await ask(app, "/readyz")
    assert service.runs == 1
    service.answer = False
    await anyio.sleep(2)
    assert (await ask(app, "/readyz")).status == 503


async def test_other_paths_and_methods(h: Harness) -> None:
    """404 and 405 as problem documents; HEAD is GET without a body."""
    app = health_app(Service().monitor)
    missing, wrong, head = (
        await ask(app, "/healthy"),
        await ask(app, "/health", "POST"),
        await ask(app, "/health", "HEAD"),
    )
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/internal/health", "/internal"),
        ("/health", "/internal"),
        ("/health", ""),
        ("/a/b/health", "/a/b/"),
        ("/internal/health", "/proxy/internal"),
        ("/health/health", "/proxy/health"),
        ("/health", "/proxy/health"),
    ],
)
async def test_where_it_is_mounted(h: Harness, path: str, root_path: str) -> None:
    """Frameworks differ in whether the path still holds what the app is mounted at; a proxy may have cut off the rest
    of the root path."""
    assert (await ask(health_app(Service().monitor), path, root_path=root_path)).status == 200


async def test_a_websocket_is_closed(h: Harness) -> None:
    """There is nothing for it here."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await health_app(Service().monitor)({"type": "websocket", "path": "/health"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
    with pytest.raises(ValueError, match="got 'other'"):
        await health_app(Service().monitor)({"type": "other"}, receive, send)


async def test_a_root_path_is_not_guessed(h: Harness) -> None:
    """What stands before a path that is served must be where the app is mounted."""
    app = health_app(Service().monitor)
    for path, root_path in (("/internal/health", ""), ("/al/health", "/internal"), ("/internal/health", "/al")):
        assert (await ask(app, path, root_path=root_path)).status == 404


async def test_served_by_itself_it_runs_the_monitor(h: Harness) -> None:
    """From the startup of the server to its shutdown, in each process that serves."""
    service = Service()
    to_app, from_app = anyio.create_memory_object_stream[Any](9), anyio.create_memory_object_stream[Any](9)
    async with anyio.create_task_group() as tasks:
        app: Any = health_app(service.monitor)
        tasks.start_soon(app, {"type": "lifespan"}, to_app[1].receive, from_app[0].send)
        await to_app[0].send({"type": "lifespan.startup"})
        assert await from_app[1].receive() == {"type": "lifespan.startup.complete"}
        await anyio.sleep(3.5)
        assert (service.monitor.running, service.runs) == (True, 4)
        await to_app[0].send({"type": "lifespan.shutdown"})
        assert await from_app[1].receive() == {"type": "lifespan.shutdown.complete"}
    assert not service.monitor.running
    for stream in (*to_app, *from_app):
        stream.close()


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Rejected("m", retry_after=2.1), 503, "3"),
        (CircuitOpenError("m", retry_after=0.0), 503, "1"),
        (BulkheadFullError("m"), 503, "1"),
        (RateLimitedError("m", retry_after=float("inf")), 503, "1"),
        (RateLimitedError("m", retry_after=1e9), 503, "86400"),
        (PolicyTimeoutError("m", limit=3), 504, None),
        (DeadlineExceeded("m"), 504, None),
    ],
)
def test_errors_of_policies_are_problems(error: Exception, status: int, retry_after: str | None) -> None:
    """503 with whole seconds to wait, or 504; the message stays inside unless asked for."""
    answer = answers.problem(error)
    assert answer is not None
    headers = dict(answer.headers)
    assert (answer.status, headers.get("retry-after")) == (status, retry_after)
    assert headers["content-type"] == "application/problem+json"
    title = "Service Unavailable" if status == 503 else "Gateway Timeout"
    assert json.loads(answer.body) == {"type": "about:blank", "title": title, "status": status}
    telling = answers.problem(error, messages=True)
    assert telling is not None
    assert json.loads(telling.body)["detail"] == "m"


def test_other_errors_are_not_ours() -> None:
    """A TimeoutError of the user's own code is no answer of a policy."""
    assert answers.problem(TimeoutError()) is None
    with pytest.raises(TypeError, match="got TimeoutError"):
        drive(rejected_handler(None, TimeoutError()))


@pytest.mark.parametrize(
    ("errors", "status", "retry_after"),
    [
        ([CircuitOpenError("shorter", retry_after=2), Rejected("m", retry_after=7)], 503, "7"),
        ([PolicyTimeoutError("shorter"), Rejected("m")], 503, "1"),
        ([ExceptionGroup("", [DeadlineExceeded("m")]), PolicyTimeoutError("other")], 504, None),
    ],
)
def test_a_group_of_such_errors_is_one_problem(errors: list[Exception], status: int, retry_after: str | None) -> None:
    """A task group wraps what its tasks raise. The longest wait counts, and a refusal before a time limit."""
    answer = answers.problem(ExceptionGroup("", errors), messages=True)
    assert answer is not None
    assert (answer.status, dict(answer.headers).get("retry-after")) == (status, retry_after)
    assert json.loads(answer.body)["detail"] == "m"


def test_a_group_with_any_other_error_is_not_ours() -> None:
    """Its handler lets it through as it is."""
    group = ExceptionGroup("", [Rejected("m"), ExceptionGroup("", [ValueError()])])
    assert answers.problem(group) is None
    with pytest.raises(ExceptionGroup) as caught:
        drive(exception_handlers()[ExceptionGroup](None, group))
    assert caught.value is group


@pytest.mark.parametrize(
    ("error", "reason"), [(Rejected("m"), "Service Unavailable"), (DeadlineExceeded("m"), "Gateway Timeout")]
)
def test_a_websocket_is_told_to_come_again(error: Exception, reason: str) -> None:
    """It cannot be given a response: it is closed, before or after it was accepted."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def failing(websocket: Any) -> None:
        raise error

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    app = Starlette(routes=[WebSocketRoute("/ws", failing)], exception_handlers=exception_handlers())
    asyncio.run(app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1013, "reason": reason}]


def failing_routes() -> list[Any]:
    breaker = CircuitBreaker(reset_timeout=60)
    breaker.open()
    guarded, limited = Policy(breaker, name="secret-name"), Policy(Timeout(0.001))

    async def rejected(request: Request) -> JSONResponse:
        await guarded.acall(anyio.sleep, 0)
        raise AssertionError

    async def late(request: Request) -> JSONResponse:
        await limited.acall(anyio.sleep, 60)
        raise AssertionError

    async def grouped(request: Request) -> JSONResponse:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rejected, request)
            tasks.start_soon(anyio.sleep, 60)
        raise AssertionError

    return [Route("/rejected", rejected), Route("/late", late), Route("/grouped", grouped)]


def starlette_app(monitor: HealthMonitor, **options: Any) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        async with monitor:
            yield

    routes = [*failing_routes(), Mount("/internal", health_app(monitor))]
    return Starlette(routes=routes, exception_handlers=exception_handlers(**options), lifespan=lifespan)


def fastapi_app(monitor: HealthMonitor, **options: Any) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        async with monitor:
            yield

    app = fastapi.FastAPI(exception_handlers=exception_handlers(**options), lifespan=lifespan)
    app.router.routes.extend(failing_routes())
    app.mount("/internal", health_app(monitor))
    return app


@contextlib.contextmanager
def serving(app: Any) -> Generator[httpx.Client, None, None]:
    """A real uvicorn on loopback, and a client of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("build", [starlette_app, fastapi_app])
def test_in_a_framework_behind_uvicorn(build: Any) -> None:
    """Mounted in Starlette and FastAPI: health where it is mounted, and policies' errors as problem documents."""
    service = Service()
    with serving(build(service.monitor)) as client:
        assert [client.get(f"/internal{path}").status_code for path in answers.PATHS] == [200, 200, 200]
        assert service.monitor.running
        assert client.get("/internal/health").headers["content-type"] == "application/health+json"
        assert client.get("/internal/nothing").status_code == 404
        rejections = client.get("/rejected"), client.get("/grouped")
        late = client.get("/late")
    for rejected in rejections:
        assert (rejected.status_code, rejected.headers["content-type"]) == (503, "application/problem+json")
        assert 55 <= int(rejected.headers["retry-after"]) <= 60
        assert "secret" not in rejected.text
    assert (late.status_code, late.headers["content-type"]) == (504, "application/problem+json")
    assert not service.monitor.running


def test_messages_on_request_behind_uvicorn() -> None:
    """With `messages=True` the problem says which policy refused, and why."""
    with serving(starlette_app(Service().monitor, messages=True)) as client:
        assert client.get("/rejected").json()["detail"].startswith("'secret-name' is open")


def test_alone_behind_uvicorn(capsys: pytest.CaptureFixture[str]) -> None:
    """The app needs no framework; the command line reads it."""
    service = Service()
    with serving(health_app(service.monitor)) as client:
        assert client.get("/readyz").status_code == 200
        assert client.head("/health").text == ""
        assert cli.main(["health", str(client.base_url)]) == 0
        assert capsys.readouterr().out.splitlines() == ["healthy (HTTP 200)", "  healthy    db (critical)"]
        assert service.monitor.running
    assert not service.monitor.running


def test_a_deadline_of_the_caller_is_504() -> None:
    """A request that sets itself a deadline, and a bulkhead that has no slot left."""
    busy = Policy(Bulkhead(1, queue=0))

    async def late(request: Request) -> JSONResponse:
        with deadline(0.001):
            await Policy(Timeout(60)).acall(anyio.sleep, 60)
        raise AssertionError

    async def full(request: Request) -> JSONResponse:
        async def inner() -> None:
            await busy.acall(anyio.sleep, 0)

        await busy.acall(inner)
        raise AssertionError

    app = Starlette(routes=[Route("/late", late), Route("/full", full)], exception_handlers=exception_handlers())
    with serving(app) as client:
        assert client.get("/late").status_code == 504
        assert (client.get("/full").status_code, client.get("/full").headers["retry-after"]) == (503, "1")
