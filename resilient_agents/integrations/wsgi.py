"""Health endpoints and error responses for WSGI servers and frameworks (Django, Flask, gunicorn's sync workers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from resilient_agents.health import HealthMonitor, get_health_monitor
from resilient_agents.integrations import answers
from resilient_agents.integrations.answers import problem

__all__ = ["WSGIApp", "health_app", "problem"]

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def health_app(
    application: WSGIApp | None = None, *, monitor: HealthMonitor | None = None, details: bool = True
) -> WSGIApp:
    """A WSGI app with `/livez`, `/readyz` and `/health` (GET and HEAD); anything else goes to `application`, if given.

    `monitor`: by default that of the process. It is started, in a thread of its own, by the first `/readyz` or
    `/health`: in the worker that answers, and never in a server's parent process, where threads would be lost at a
    fork. The first answer of a worker waits for the checks. `details=False` leaves the checks and the summary out of
    `/health`.
    """

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", "")).rstrip("/")
        if path not in answers.PATHS and application is not None:
            return application(environ, start_response)
        method = environ["REQUEST_METHOD"]
        answer = _answer(monitor, path, method, details=details)
        start_response(answer.line, list(answer.headers))
        return [b"" if method == "HEAD" else answer.body]

    return app


def _answer(monitor: HealthMonitor | None, path: str, method: str, *, details: bool) -> answers.Answer:
    if path not in answers.PATHS:
        return answers.not_found()
    if method not in ("GET", "HEAD"):
        return answers.not_allowed()
    if path == answers.LIVE:
        return answers.live()
    watch = monitor if monitor is not None else get_health_monitor()
    if not watch.running:
        watch.refresh()
        watch.start()
    return answers.health(watch, path, details=details)
