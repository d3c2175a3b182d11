"""A threaded sync application in the manner of Django: views, a middleware around them, a WSGI callable."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from resilient_agents.integrations.wsgi import health_app, problem
from tests.servers import SLOTS, service

Reply = tuple[str, list[tuple[str, str]], bytes]

if "BUSY_PARENT" in os.environ:
    service.be_a_busy_parent()

both = threading.Barrier(SLOTS, timeout=30)
peak = 0


def work() -> Any:
    return service.work()


def trip() -> Any:
    service.breaker.open()
    return "open"


def together() -> Any:
    """As many calls inside at once as there are slots."""

    def inside() -> int:
        global peak
        peak = max(peak, service.bulkhead.in_use)
        both.wait()
        return peak

    return service.policy.call(inside)


views: dict[str, Callable[[], Any]] = {
    "/work": work,
    "/trip": trip,
    "/together": together,
    "/state": service.state,
}


def get_response(path: str) -> Reply:
    view = views[path]
    return "200 OK", [("content-type", "application/json")], json.dumps(view()).encode()


def resilience(get_response: Callable[[str], Reply]) -> Callable[[str], Reply]:
    """The middleware: what policies raise becomes a response."""

    def middleware(path: str) -> Reply:
        try:
            return get_response(path)
        except Exception as error:
            answer = problem(error)
            if answer is None:
                raise
            return answer.line, list(answer.headers), answer.body

    return middleware


handler = resilience(get_response)


def django_like(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, headers, body = handler(environ["PATH_INFO"])
    start_response(status, headers)
    return [body]


application = health_app(django_like, monitor=service.monitor)
