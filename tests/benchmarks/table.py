"""Lines of figures, what they are held to, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["COLUMNS", "Goal", "Line", "as_markdown", "as_text", "at_least", "at_most"]

PEERS = (
    *("nopanic", "pyresilience", "tenacity", "stamina", "pybreaker"),
    *("redress", "resilix", "hyx", "interlock"),
)
_WHOLE = ("nopanic", "pyresilience")
"""Those that do all that is compared where it is more than one strategy."""

COLUMNS = ("bare", "ours", "by hand", *PEERS)
"""What is compared: the call itself, this library, its own dependencies stacked by hand, and the peers."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What "ours" is held to: at most (or at least) `factor` times `against`, or `factor` itself where that is None."""

    factor: float
    against: str | None = None
    least: bool = False

    def judge(self, figures: dict[str, float | str]) -> str:
        ours, other = figures.get("ours"), figures.get(self.against, "") if self.against is not None else 1.0
        if not isinstance(ours, float) or not isinstance(other, float) or other <= 0:
            return f"? {self}"
        ratio = ours / other
        met = ratio >= self.factor if self.least else ratio <= self.factor
        return f"{'ok' if met else 'MISSED'}: {ratio:.3f} {self}"

    def __str__(self) -> str:
        target = f"{self.factor:.2f}" if self.against is None else f"{self.factor:.2f} × {self.against}"
        return f"{'≥' if self.least else '≤'} {target}"


def at_most(factor: float, against: str | None = None) -> Goal:
    return Goal(factor, against)


def at_least(factor: float, against: str | None = None) -> Goal:
    return Goal(factor, against, least=True)


@dataclass(slots=True)
class Line:
    """One line of the table. `figures`: by column, a number in `unit` or a word that says why there is none."""

    title: str
    body: str
    unit: str
    figures: dict[str, float | str]
    goals: Sequence[Goal] = field(default_factory=tuple)
    spread: float | None = None

    def cells(self) -> list[str]:
        return [
            self.title,
            self.body,
            self.unit,
            *(_cell(self.figures.get(column, "")) for column in COLUMNS),
            self.best_rival(),
            "" if self.spread is None else f"{self.spread:.0%}",
            "; ".join(goal.judge(self.figures) for goal in self.goals),
        ]

    def best_rival(self) -> str:
        """The peer with the lowest figure, and what ours is of that. Where more is better, there is none."""
        ours = self.figures.get("ours")
        peers = PEERS if self.title.endswith(("alone", "attempts", "one retry", "open circuit")) else _WHOLE
        known: dict[str, float] = {}
        for peer in peers:
            figure = self.figures.get(peer)
            if isinstance(figure, float):
                known[peer] = figure
        if not known or not isinstance(ours, float) or any(goal.least for goal in self.goals):
            return ""
        best = min(known, key=lambda peer: known[peer])
        return f"{ours / known[best]:.2f} × {best}"


_HEAD = ["row", "body", "unit", *COLUMNS, "best rival", "noise", "budget"]
_NUMBERS = range(3, len(_HEAD) - 1)


def _cell(figure: float | str) -> str:
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.2f}"


def as_text(lines: Sequence[Line]) -> str:
    """Aligned columns, for a terminal."""
    rows = [_HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in _NUMBERS else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )


def as_markdown(lines: Sequence[Line]) -> str:
    """A table for the documentation."""
    rule = ["---:" if i in _NUMBERS else "---" for i in range(len(_HEAD))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [_HEAD, rule, *(line.cells() for line in lines)])
