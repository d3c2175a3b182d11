"""Health endpoints and error responses over WSGI, checked by the standard library's validator."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from resilient_agents import CircuitOpenError
from resilient_agents.health import HealthCheck, HealthMonitor
from resilient_agents.integrations.wsgi import health_app, problem

SECRET = "postgres://user:secret@db"


class Service:
    def __init__(self) -> None:
        self.answer: Any = True
        self.threads: list[str] = []
        self.monitor = HealthMonitor([HealthCheck("db", self.check, critical=True, interval=1000)], builtin=False)

    def check(self) -> Any:
        self.threads.append(threading.current_thread().name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def service() -> Generator[Service, None, None]:
    made = Service()
    yield made
    made.monitor.stop()


def ask(app: Any, path: str, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method, "SCRIPT_NAME": "", "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    answered: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        answered.extend((status, dict(headers)))
        return lambda _: None

    body = validator(app)(environ, start_response)
    content = b"".join(body)
    body.close()  # type: ignore[attr-defined]
    return answered[0], answered[1], content


def inner(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"the application"]


def test_the_first_probe_starts_the_monitor(service: Service) -> None:
    """In the worker that is asked: it waits for the checks, once, and then the monitor's own thread runs them."""
    app = health_app(inner, monitor=service.monitor)
    assert ask(app, "/livez")[0] == "200 OK"
    assert not service.monitor.running
    assert ask(app, "/readyz")[0] == "200 OK"
    assert service.monitor.running
    assert ask(app, "/readyz/")[0] == "200 OK"
    assert len(service.threads) == 1


def test_an_unhealthy_service(service: Service) -> None:
    """503 where the process should not get traffic, without the message of the exception."""
    service.answer = ValueError(SECRET)
    app = health_app(monitor=service.monitor)
    status, headers, body = ask(app, "/health")
    assert (status, headers["content-type"]) == ("503 Service Unavailable", "application/health+json")
    assert json.loads(body) == {"status": "fail", **service.monitor.report()}
    assert b"secret" not in body
    assert ask(app, "/readyz")[0] == "503 Service Unavailable"
    assert ask(app, "/livez")[0] == "200 OK"
    assert json.loads(ask(health_app(monitor=service.monitor, details=False), "/health")[2]) == {
        "status": "fail",
        "overall_status": "unhealthy",
    }


def test_everything_else_goes_to_the_application(service: Service) -> None:
    """Without one it is a 404."""
    assert ask(health_app(inner, monitor=service.monitor), "/")[2] == b"the application"
    assert ask(health_app(monitor=service.monitor), "/")[0] == "404 Not Found"


def test_methods(service: Service) -> None:
    """GET and HEAD, which has no body."""
    app = health_app(monitor=service.monitor)
    status, headers, _ = ask(app, "/livez", "POST")
    assert (status, headers["allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    assert ask(app, "/livez", "HEAD")[2] == b""


def test_probes_at_the_same_time(service: Service) -> None:
    """The first probes of a worker may come together: one of them starts the monitor, all get an answer."""
    app = health_app(monitor=service.monitor)
    together = threading.Barrier(8, timeout=30)
    answers: list[str] = []

    def probe() -> None:
        together.wait()
        answers.append(ask(app, "/readyz")[0])

    threads = [threading.Thread(target=probe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["200 OK"] * 8
    assert len(service.threads) == 1


def test_errors_of_policies_become_responses() -> None:
    """For the middleware of any framework: status line, headers and body."""
    answer = problem(CircuitOpenError("secret", retry_after=3.2))
    assert answer is not None
    assert (answer.line, dict(answer.headers)["retry-after"]) == ("503 Service Unavailable", "4")
    assert b"secret" not in answer.body
