"""Progress: a live table in a terminal, a line now and then in a pipe."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilient_agents.demo.tally import Numbers, Tally
from resilient_agents.demo.traffic import TITLES

__all__ = ["LiveProgress", "PlainProgress", "Progress", "progress"]

EVERY = 2.0  # seconds between lines in a pipe
STATES = {"closed": "green", "open": "bold red", "half-open": "yellow"}


class Progress(Protocol):
    """Shows one run while it goes on."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, elapsed: float) -> None: ...


def progress(console: Console, title: str, tally: Tally, down: Callable[[], bool], *, guarded: bool) -> Progress:
    """What suits the console. `down()`: is the server in its outage? `guarded`: are there policies to show?"""
    kind = LiveProgress if console.is_terminal and not console.is_dumb_terminal else PlainProgress
    return kind(console, title, tally, down, guarded=guarded)


class PlainProgress:
    """A line every two seconds, and one for each change of the server or a circuit."""

    def __init__(self, console: Console, title: str, tally: Tally, down: Callable[[], bool], *, guarded: bool) -> None:
        self._console = console
        self._title = title
        self._tally = tally
        self._down = down
        self._was_down = False
        self._next = EVERY
        self._changes = 0

    def __enter__(self) -> Self:
        self._say(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._say("")

    def show(self, elapsed: float) -> None:
        for at, said in self._tally.changes[self._changes :]:
            self._changes += 1
            self._say(f"  {at:4.1f} s  {said}")
        if self._down() is not self._was_down:
            self._was_down = not self._was_down
            self._say(f"  {elapsed:4.1f} s  the server is {'down' if self._was_down else 'back'}")
        if elapsed >= self._next:
            self._next += EVERY
            counts = (f"{kind} {n.answered}{_more(n)} of {n.ended}" for kind, n in self._tally.numbers.items())
            self._say(f"  {elapsed:4.1f} s  answered: {', '.join(counts)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def _more(numbers: Numbers) -> str:
    return f" (+{numbers.by_fallback})" if numbers.by_fallback else ""


class LiveProgress:
    """Redraws one table, with the latest events below it, and leaves its last state on the screen."""

    def __init__(self, console: Console, title: str, tally: Tally, down: Callable[[], bool], *, guarded: bool) -> None:
        self._title = title
        self._tally = tally
        self._down = down
        self._guarded = guarded
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, elapsed: float) -> None:
        self._live.update(self._picture(elapsed), refresh=True)

    def _picture(self, elapsed: float) -> RenderableType:
        down = self._down()
        state = Text.assemble(
            (self._title, "bold"), f"   {elapsed:4.1f} s   server ", ("DOWN", "bold red") if down else ("up", "green")
        )
        return Group(state, self._circuits(), self._table(), *self._events(), Text())

    def _circuits(self) -> Text:
        line = Text()
        for name, circuit in self._tally.circuits.items():
            line.append(f"circuit {name} ")
            line.append(f"{circuit}   ", STATES[circuit])
        return line

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        headings = ["answered", "failed", "waiting"]
        if self._guarded:
            headings += ["attempts", "retries", "cut off", "refused", "fallback"]
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for kind, n in self._tally.numbers.items():
            cells: list[Text | str] = [
                Text(str(n.answered), "green"),
                Text(str(n.failed), "red" if n.failed else ""),
                str(n.started - n.ended),
            ]
            if self._guarded:
                cells += [str(n.did[what]) for what in ("attempts", "retries", "timeouts", "rejected", "fallbacks")]
            table.add_row(TITLES[kind], *cells)
        return table

    def _events(self) -> list[Text]:
        if not self._guarded:
            return []
        said = [
            Text(f"  {at:4.1f} s  {what}", "dim", no_wrap=True, overflow="ellipsis") for at, what in self._tally.said()
        ]
        return [Text(), *said]
