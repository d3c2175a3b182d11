"""What is wrong with a source: one error that lists all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ConfigError", "Problem"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: The file, "<string>", "<dict>", "preset 'http'", "environment variable X" or "change of X".
        line: Its line in the file, or None where there are no lines.
        key: The dotted key, such as "policies.openai.retry.attempts"; "" for the source as a whole.
        value: What stands there, as text; None where the problem is not about one value. Secrets are hidden.
        allowed: What is wrong, and what is allowed instead.
    """

    source: str
    line: int | None
    key: str
    value: str | None
    allowed: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        what = self.key if self.value is None else f"{self.key} = {self.value}"
        return ": ".join(part for part in (place, what, self.allowed) if part)


class ConfigError(ValueError):
    """A configuration that cannot be used. `.problems` holds all that is wrong with it, in the order of the source."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        heading = f"the configuration has {'a problem' if count == 1 else f'{count} problems'}"
        return "\n  ".join([f"{heading}:", *map(str, self.problems)])
