"""What the classifier knows by heart of messages, where a library says it nowhere else. Data and one look-up.

A phrase is searched in the message in lower case; parts around `…` must all be there. The first that fits wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from resilient_agents.base.told import Fields
from resilient_agents.classify.kinds import Kind, Phase, Rule

__all__ = ["PHRASES", "REFUSALS", "Says", "found_in", "of_phrase"]

_AUTH: Final = Rule("auth", answered=True)
_OVERLOAD: Final = Rule("overload")
_CONNECTION: Final = Rule("connection")
_LOCAL: Final = Rule("validation")
# A certificate that does not verify will not verify a second later; the dependency cannot be used, so it counts.
_UNTRUSTED: Final = Rule("connection", transient=False)


class Says(Fields):
    """What a phrase in the message of a library means."""

    phrase: str
    rule: Rule | None
    phase: Phase | None = None


_Phrases = tuple[Says, ...]

# libpq has no SQLSTATE while it connects, but hands on what the server said: "FATAL:  ...".
_LIBPQ: Final[_Phrases] = (
    Says("authentication failed", _AUTH),
    Says("no password supplied", _AUTH),
    Says("password is empty", _AUTH),
    Says("tenant or user not found", _AUTH),  # supavisor
    Says("no pg_hba.conf entry", _AUTH),
    Says("pg_hba.conf rejects", _AUTH),
    Says('role "…does not exist', _AUTH),
    Says("not permitted to log in", _AUTH),
    Says("permission denied for database", _AUTH),
    Says('database "…does not exist', Rule("not_found", answered=True)),
    Says("too many connections", _OVERLOAD),
    Says("too many clients", _OVERLOAD),
    Says("remaining connection slots are reserved", _OVERLOAD),
    Says("max clients reached", _OVERLOAD),  # supavisor
    Says("no more connections allowed", _OVERLOAD),  # pgbouncer, like the next two
    Says("query_wait_timeout", Rule("timeout")),
    Says("query timeout", Rule("timeout")),
    Says("certificate verify failed", _UNTRUSTED),
    Says("does not match host name", _UNTRUSTED),
    Says("timeout expired", Rule("timeout")),
    Says("connection already closed", _CONNECTION),
    Says("connection is closed", _CONNECTION),
    Says("failed to resolve host", None, "connect"),
    Says("could not translate host name", None, "connect"),
    Says("could not connect to server", None, "connect"),
)

PHRASES: Final[Mapping[str, _Phrases]] = MappingProxyType(
    {
        "psycopg": _LIBPQ,
        "psycopg2": _LIBPQ,
        "asyncpg": (
            Says("connection is closed", _CONNECTION),
            Says("connection was closed", _CONNECTION),
            Says("connection has been closed", _CONNECTION),
            Says("connection is lost", _CONNECTION),
            Says("connection has been released", _LOCAL),
        ),
        "redis": (
            Says("max number of clients", _OVERLOAD),
            Says("redis is busy running a script", _OVERLOAD),
            Says("misconf ", Rule("server")),  # it cannot save, and takes no writes meanwhile
            Says("too many connections", _OVERLOAD, "pool"),
            Says("no connection available", _OVERLOAD, "pool"),
            Says("timeout connecting to server", Rule("timeout"), "connect"),
            Says("certificate verify failed", _UNTRUSTED),
        ),
        "pymongo": (
            Says("certificate verify failed", _UNTRUSTED),
            Says("certificate_verify_failed", _UNTRUSTED),
            Says("timed out while checking out a connection", _OVERLOAD, "pool"),
        ),
        "grpc": (
            Says("certificate_verify_failed", _UNTRUSTED, "connect"),
            Says("certificate verify failed", _UNTRUSTED, "connect"),
            Says("failed to connect", None, "connect"),
            Says("name resolution", None, "connect"),
            Says("dns resolution", None, "connect"),
        ),
        # A broker that hangs up at once, or a proxy in front of one that is away.
        "pika": (Says("streamlosterror", _CONNECTION),),
        "kombu": (Says("access_refused", _AUTH),),
        "urllib": (  # the URL itself is wrong
            Says("unknown url type", _LOCAL, "connect"),
            Says("no host given", _LOCAL, "connect"),
        ),
    }
)

# Anthropic, Google and servers that speak OpenAI's protocol name these only in the message of a refused request.
REFUSALS: Final[tuple[tuple[str, Kind], ...]] = (
    ("prompt is too long", "context_length"),
    ("input token count", "context_length"),
    ("maximum context length", "context_length"),
    ("context window", "context_length"),
    ("credit balance is too low", "quota"),
    ("blocked by content filtering policy", "content_filter"),
    ("content management policy", "content_filter"),
)


def found_in(message: str, phrase: str) -> bool:
    """Whether all parts of a phrase are in the message."""
    first, *further = phrase.split("…")
    return first in message and all(part in message for part in further)


def of_phrase(package: str, message: str) -> Says | None:
    """What a library says in a message in lower case, None for what says nothing."""
    return next((says for says in PHRASES.get(package, ()) if found_in(message, says.phrase)), None)
