"""Errors that need a look of their own: gRPC, MCP, aiohttp, SQLSTATE, sqlite and errno.

A reader takes an error of its class, whose attributes it does not trust, and returns the rule it finds and the
dependency's own code, None for what is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resilient_agents.classify.codes import WEAK_CODES, of_errno, of_mcp, of_sqlite, of_sqlstate
from resilient_agents.classify.facts import cause_of, context_of, get, message_of, mro_of, name_of, package_of
from resilient_agents.classify.kinds import BROKEN_REPLY, CANCELLED, Rule

__all__ = ["READERS", "Reader", "grpc_pushback", "read_sqlstate"]

Reader = Callable[[BaseException], tuple[Rule | None, str | None]]


def read_sqlstate(error: BaseException) -> tuple[Rule | None, str | None]:
    """The reader of every class that has none of its own: asyncpg, psycopg and their like keep a SQLSTATE."""
    state = get(error, "sqlstate") or get(error, "pgcode")
    if isinstance(state, str) and len(state) == 5 and state.isascii() and state.isalnum():
        return of_sqlstate(state.upper()), state
    return None, None


def _read_errno(error: BaseException) -> tuple[Rule | None, str | None]:
    number = get(error, "errno")
    return (of_errno(number) if isinstance(number, int) else None), None


def _read_sqlite(error: BaseException) -> tuple[Rule | None, str | None]:
    name = get(error, "sqlite_errorname")
    if isinstance(name, str):
        return of_sqlite(name), name
    return (Rule("conflict", answered=True) if "locked" in message_of(error) else None), None


def _read_mcp(error: BaseException) -> tuple[Rule | None, str | None]:
    code = get(get(error, "error"), "code")
    return (of_mcp(code), str(code)) if type(code) is int else (None, None)


def _read_grpc(error: BaseException) -> tuple[Rule | None, str | None]:
    name = get(_called(error, "code"), "name")
    if not isinstance(name, str):
        return None, None
    if name == "CANCELLED":
        return CANCELLED, name
    kind = WEAK_CODES.get(name.lower())
    return (Rule(kind, answered=True) if kind else None), name


def _read_aiohttp(error: BaseException) -> tuple[Rule | None, str | None]:
    """aiohttp reports a malformed reply as a 400 that no server sent; the parser's error is in its context."""
    inner = cause_of(error) or context_of(error)
    if inner is not None and get(error, "headers") is None:
        mro = mro_of(type(inner))
        if any(name_of(c) == "HttpProcessingError" and package_of(c) == "aiohttp" for c in mro):
            return BROKEN_REPLY, None
    return None, None


def _called(error: BaseException, name: str) -> Any:
    method = get(error, name)
    try:
        return method() if callable(method) else None
    except Exception:
        return None


def grpc_pushback(error: BaseException) -> float | None:
    """Seconds from `grpc-retry-pushback-ms`, negative where it forbids a retry, None without one."""
    metadata = _called(error, "trailing_metadata")
    try:
        for key, value in metadata or ():
            if key == "grpc-retry-pushback-ms":
                text = value.decode("ascii") if isinstance(value, bytes) else str(value)
                return int(text) / 1000.0 if text.isascii() and text.isdigit() and len(text) < 16 else -1.0
    except Exception:
        return None
    return None


READERS: Final[dict[tuple[str, str], Reader]] = {
    ("grpc", "RpcError"): _read_grpc,
    ("mcp", "MCPError"): _read_mcp,
    ("mcp", "McpError"): _read_mcp,
    ("aiohttp", "ClientResponseError"): _read_aiohttp,
    ("sqlite3", "OperationalError"): _read_sqlite,
    ("builtins", "OSError"): _read_errno,
}
