"""`resilient-agents health URL`: ask a service how it is, for containers without curl.

Exit status, as Docker's HEALTHCHECK reads it: 0 it is well enough (degraded included), 1 it is not or does not answer;
2 wrong use. No redirect is followed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

__all__ = ["add_to"]

OK, UNHEALTHY, WRONG = 0, 1, 2

LARGEST = 1_000_000  # bytes of a report that are read
LONGEST = 86_400.0  # seconds to wait


def add_to(commands: Any) -> None:
    """Make `health` one of these commands, which are what `ArgumentParser.add_subparsers` gives."""
    health: argparse.ArgumentParser = commands.add_parser("health", help="ask a running service how it is")
    health.description = (
        "Asks a health endpoint and prints what it says. Exit status 0: healthy or degraded; 1: unhealthy, not ready, "
        "or no answer."
    )
    health.add_argument("url", metavar="URL", help="such as localhost:8000/readyz; without a path /health is asked")
    health.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="seconds to wait for the whole answer (default 5)"
    )
    health.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    health.set_defaults(run=_health)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {LONGEST:.0f}, got {text}")
    return value


def _health(arguments: argparse.Namespace) -> int:
    url = _address(arguments.url)
    if url is None:
        return _complain(f"{arguments.url!r} is not an http or https URL", WRONG)
    if "@" in urllib.parse.urlsplit(url).netloc:  # and it is not repeated: logs keep what a probe says
        return _complain("the URL of a health endpoint takes no user name or password", WRONG)
    try:
        status, body = _ask(url, arguments.timeout)
    except (OSError, http.client.HTTPException) as error:  # URLError and time limits are OSErrors
        reason = getattr(error, "reason", None) or error
        return _complain(f"{url} does not answer: {reason or type(error).__name__}", UNHEALTHY)
    if not arguments.quiet:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print("\n".join(_lines(status, body)).encode(encoding, "replace").decode(encoding))
    return OK if status == 200 else UNHEALTHY


def _address(text: str) -> str | None:
    """The address in full, None if it cannot be one."""
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            return None
        parts.hostname.encode("idna")  # as the lookup of its address will
    except ValueError:
        return None
    rest = parts.path + parts.query
    if not (rest.isascii() and rest.isprintable()) or " " in parts.netloc + rest:
        return None
    return urllib.parse.urlunsplit(parts if parts.path not in ("", "/") else parts._replace(path="/health"))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer: what stands elsewhere, a login page perhaps, is not how the service is."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


def _ask(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and body, all of it within `timeout`: a socket's own limit begins anew with each byte, and a name's lookup
    has none. Proxies are left aside: the question is about the service, not the way to it."""
    answers: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_exchange(url, timeout))
        except Exception as error:  # for the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _exchange(url: str, timeout: float) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
    request = urllib.request.Request(url, headers={"Accept": "application/health+json, application/json;q=0.9"})
    try:
        with opener.open(request, timeout=timeout) as response:
            return response.status, response.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(LARGEST)


def _lines(status: int, body: bytes) -> list[str]:
    """The report for people: one line for all, one for each check."""
    try:
        report = json.loads(body)
        said: Any = report.get("overall_status") or report.get("status") or status
        checks: dict[str, dict[str, Any]] = report.get("checks") or {}
        lines = [f"{said} (HTTP {status})"]
        for name, check in checks.items():
            critical = " (critical)" if check.get("critical") else ""
            message = f": {check['message']}" if check.get("message") else ""
            lines.append(f"  {check.get('status', '?'):<10} {name}{critical}{message}")
    except (ValueError, AttributeError, TypeError, RecursionError):  # not ours: only its status means something
        return [f"HTTP {status}"]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _complain(message: str, status: int) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return status
