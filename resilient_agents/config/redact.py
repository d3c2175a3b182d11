"""What is hidden wherever a configuration is shown: in errors, in `repr` and in `config show`."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["HIDDEN", "looks_secret", "redacted", "without_numbers", "without_values"]

HIDDEN = "***"

_SECRET = re.compile(r"secret|token|passw|passphrase|pwd|key|credential|auth|private|dsn|cookie|session", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^\s\"'<>]*@")  # up to the last @: a password may hold any of the other characters
_QUOTED = re.compile(r"(?<=\bgot ).+|(?<=\()[^()]*\d[^()]*(?=\))", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\b\d[\d.]*(e[-+]?\d+)?")


def looks_secret(variable: str) -> bool:
    """Does the name of an environment variable say that its value should not be shown?"""
    return _SECRET.search(variable) is not None


def without_values(error: str) -> str:
    """A constructor's message without the values that it quotes, as "got 5" and "window (5)": where one of the options
    is a secret it may quote that one, and in another spelling."""
    return _QUOTED.sub(HIDDEN, error)


def without_numbers(text: str) -> str:
    """The same for a warning, all of whose numbers are values."""
    return _NUMBER.sub(HIDDEN, text)


def redacted(value: Any) -> Any:
    """`value` without the user and password of URLs in it."""
    if isinstance(value, str):
        return _USERINFO.sub(f"{HIDDEN}@", value)
    if isinstance(value, dict):
        return {redacted(key): redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list) else value
