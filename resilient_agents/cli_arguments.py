"""What several commands read from the command line."""

from __future__ import annotations

import argparse
from typing import Any

from resilient_agents.base.spelling import nearest

__all__ = ["Parser", "count"]


class Parser(argparse.ArgumentParser):
    """One that has options which are written with their value: `--fix=policy` beside `--fix`."""

    values: tuple[str, ...] = ()
    """These options."""

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """Say what was meant by a value that is none of theirs."""
        for each in (given[0] if given else named.get("args")) or ():
            option, equals, value = each.partition("=")
            known = [one.partition("=")[2] for one in self.values if one.startswith(f"{option}=")]
            if equals and known and value not in known:
                self.error(f"argument {option}: {value!r} is not known; {nearest(value, known)}")
        return super().parse_known_args(*given, **named)


def count(text: str) -> int:
    """Raises ArgumentTypeError for what is not a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return value
