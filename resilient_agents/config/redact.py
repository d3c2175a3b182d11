"""What is hidden wherever a configuration is shown: in errors, in `repr` and in `config show`.

A value is hidden by the name that it stands under, a variable's or a key's, and by its looks: the user of a URL, what
follows `password=`, a token that begins as the well-known ones do.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["HIDDEN", "looks_secret", "redacted", "without_numbers", "without_userinfo", "without_values"]

HIDDEN = "***"

_SECRET = re.compile(
    r"secret|token|passw|passphrase|passcode|pwd|key|cred|auth|private|dsn|cookie|session|jwt|bearer|signature|cert|salt"
    # as words of their own only: "patience" is no secret
    r"|(?<![a-z])(?:pass|pat|pin|pem|pw|otp|totp|sas|sig|hmac|licen[cs]e)(?![a-z])",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"""(?<![\w.-])([\w.-]++)["']?\s*+(?:=|:(?!-))\s*+|\b(bearer|basic)\s+(?=[\w.~+/=-]{6})""", re.IGNORECASE
)
_VALUE = re.compile(r"""(?:(?:bearer|basic)\s+)?("[^"]*"|'[^']*'|[^\s&;,"'})\]]+)""", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(?:[spr]k[-_][\w-]{6,}|eyJ[\w-]{5,}(?:\.[\w-]*){0,2}|gh[opsur]_\w{6,}|github_pat_\w+|glpat-[\w-]+"
    r"|xox[a-z]-[\w-]+|A(?:KI|SI)A[A-Z0-9]{12,}|AIza[\w-]{20,}|hf_\w{8,})"
)
_URL = re.compile(r"://[^\s\"'<>]+")
_QUOTED = re.compile(r"(?<=\bgot )(.+)|(?<=\()[^()]+(?=\))", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\b\d[\d.]*(e[-+]?\d+)?")


def looks_secret(name: str) -> bool:
    """Does the name of a variable or of a key say that its value should not be shown?"""
    return _SECRET.search(name) is not None


def without_values(error: str) -> str:
    """A constructor's message without the values that it quotes, as "got 5" and "window (5)": where one of the options
    is a secret it may quote that one, and in another spelling."""
    return _QUOTED.sub(lambda found: HIDDEN if found[1] is not None or re.search(r"\d", found[0]) else found[0], error)


def without_numbers(text: str) -> str:
    """The same for a warning, all of whose numbers are values."""
    return _NUMBER.sub(HIDDEN, text)


def without_userinfo(text: str) -> str:
    """The name of a file or a key, in which only a URL could hold a secret."""
    # up to the last @: a password may hold any of the other characters
    return _URL.sub(lambda found: f"://{HIDDEN}@{found[0].rpartition('@')[2]}" if "@" in found[0] else found[0], text)


def redacted(value: Any) -> Any:
    """`value` without what looks like a secret inside its texts."""
    if isinstance(value, str):
        return _TOKEN.sub(HIDDEN, _without_named(without_userinfo(value)))
    if isinstance(value, dict):
        return {without_userinfo(key): redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list) else value


def _without_named(text: str) -> str:
    """Without what follows a secret's name, such as `password=`, or the word `Bearer`."""
    parts: list[str] = []
    at = 0
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end())
        if value is not None and name.start() >= at and (name[1] is None or looks_secret(name[1])):
            parts += [text[at : name.end()], HIDDEN]
            at = value.end()
    return "".join([*parts, text[at:]])
