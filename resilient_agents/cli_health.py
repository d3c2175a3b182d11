"""`resilient-agents health URL`: ask a service how it is, for containers without curl.

Exit status, as Docker's HEALTHCHECK reads it: 0 it is well enough (degraded included), 1 it is not or does not answer;
2 wrong use.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

__all__ = ["add_to"]

OK, UNHEALTHY, WRONG = 0, 1, 2

LARGEST = 1_000_000  # bytes of a report that are read


def add_to(commands: Any) -> None:
    """Make `health` one of these commands, which are what `ArgumentParser.add_subparsers` gives."""
    health: argparse.ArgumentParser = commands.add_parser("health", help="ask a running service how it is")
    health.description = (
        "Asks a health endpoint and prints what it says. Exit status 0: healthy or degraded; 1: unhealthy, not ready, "
        "or no answer."
    )
    health.add_argument("url", metavar="URL", help="such as localhost:8000/readyz; without a path /health is asked")
    health.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="seconds to wait for an answer (default 5)"
    )
    health.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    health.set_defaults(run=_health)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return value


def _health(arguments: argparse.Namespace) -> int:
    url = _address(arguments.url)
    if url is None:
        return _complain(f"{arguments.url!r} is not an http or https URL", WRONG)
    try:
        status, body = _ask(url, arguments.timeout)
    except (OSError, http.client.HTTPException) as error:  # URLError and time limits are OSErrors
        reason = getattr(error, "reason", None) or error
        return _complain(f"{url} does not answer: {reason or type(error).__name__}", UNHEALTHY)
    if not arguments.quiet:
        print("\n".join(_lines(status, body)))
    return OK if status == 200 else UNHEALTHY


def _address(text: str) -> str | None:
    """The address in full, None if it cannot be one."""
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            return None
    except ValueError:
        return None
    return urllib.parse.urlunsplit(parts if parts.path not in ("", "/") else parts._replace(path="/health"))


def _ask(url: str, timeout: float) -> tuple[int, bytes]:
    """Status and body. Proxies are left aside: the question is about the service, not the way to it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
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
    except (ValueError, AttributeError, TypeError):  # not ours: only its status means something
        return [f"HTTP {status}"]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _complain(message: str, status: int) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return status
