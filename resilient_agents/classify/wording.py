"""What the classifier knows by heart of messages, where a library says it nowhere else. Data and one look-up.

A phrase is searched in the message in lower case; parts around `…` must all be there. The first that fits wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from resilient_agents.classify.kinds import Kind, Rule

__all__ = ["PHRASES", "REFUSALS", "UNTRUSTED", "found_in", "of_phrase"]

_AUTH: Final = Rule("auth", answered=True)
_OVERLOAD: Final = Rule("overload")
_CONNECTION: Final = Rule("connection")
_LOCAL: Final = Rule("validation")
UNTRUSTED: Final = Rule("connection", transient=False)
"""A certificate that does not verify will not verify a second later; the dependency cannot be used, so it counts."""

_Phrases = tuple[tuple[str, Rule], ...]

# libpq has no SQLSTATE while it connects, but hands on what the server said: "FATAL:  ...".
_LIBPQ: Final[_Phrases] = (
    ("authentication failed", _AUTH),
    ("no password supplied", _AUTH),
    ("no pg_hba.conf entry", _AUTH),
    ("pg_hba.conf rejects", _AUTH),
    ('role "…does not exist', _AUTH),
    ("not permitted to log in", _AUTH),
    ("permission denied for database", _AUTH),
    ('database "…does not exist', Rule("not_found", answered=True)),
    ("too many connections", _OVERLOAD),
    ("too many clients", _OVERLOAD),
    ("remaining connection slots are reserved", _OVERLOAD),
    ("certificate verify failed", UNTRUSTED),
    ("does not match host name", UNTRUSTED),
    ("timeout expired", Rule("timeout")),
    ("connection already closed", _CONNECTION),
    ("connection is closed", _CONNECTION),
)

PHRASES: Final[Mapping[str, _Phrases]] = MappingProxyType(
    {
        "psycopg": _LIBPQ,
        "psycopg2": _LIBPQ,
        "asyncpg": (
            ("connection is closed", _CONNECTION),
            ("connection was closed", _CONNECTION),
            ("connection has been closed", _CONNECTION),
            ("connection is lost", _CONNECTION),
            ("connection has been released", _LOCAL),
        ),
        "redis": (
            ("max number of clients", _OVERLOAD),
            ("too many connections", _OVERLOAD),
            ("no connection available", _OVERLOAD),
            ("certificate verify failed", UNTRUSTED),
        ),
        "pymongo": (
            ("certificate verify failed", UNTRUSTED),
            ("certificate_verify_failed", UNTRUSTED),
            ("timed out while checking out a connection", _OVERLOAD),
        ),
        "grpc": (("certificate_verify_failed", UNTRUSTED), ("certificate verify failed", UNTRUSTED)),
        "kombu": (("access_refused", _AUTH),),
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
    return all(part in message for part in phrase.split("…"))


def of_phrase(package: str, message: str) -> Rule | None:
    """The rule for what a library says in a message in lower case, None for what says nothing."""
    return next((rule for phrase, rule in PHRASES.get(package, ()) if found_in(message, phrase)), None)
