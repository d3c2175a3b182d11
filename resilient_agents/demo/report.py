"""What it came to: both runs side by side, what the strategies did, and one call in full."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilient_agents.demo.tally import Numbers, Tally, percentile
from resilient_agents.demo.traffic import TITLES
from resilient_agents.telemetry import names
from resilient_agents.trace import Operation, render, waterfall
from resilient_agents.trace.terminal import glyphs_for, seconds, wants_colour

__all__ = ["comparison", "deeds", "errors", "savings", "telling", "trace_of"]

CAPTION = """\
answered: by the server that was asked; fallback: by a fallback in its
place; sent: requests that reached it; down: those while it was down;
p50, p99: of the calls that got an answer. Tool and stream have no
fallback: while the server is down nobody answers for it, so they
stay below 100 %, and are refused at once.
"""

SEVERAL = 3  # attempts that make a call worth drawing


def _table(title: str, caption: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption.rstrip() + "\n",
        caption_justify="left",
        caption_style="dim",
    )


def comparison(without: Tally, guarded: Tally) -> Table:
    """The same traffic without and with policies. Latencies are those of answered calls."""
    table = _table("The same traffic, without and with policies", CAPTION)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("calls", "answered", "fallback", "sent", "down", "p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind in without.numbers:
        table.add_row(TITLES[kind], "without", *_figures(without.numbers[kind]))
        table.add_row("", Text("with", "bold"), *_figures(guarded.numbers[kind], "bold green"), end_section=True)
    return table


def _figures(numbers: Numbers, style: str = "") -> list[Text | str]:
    by_fallback = numbers.share(numbers.by_fallback) if numbers.by_fallback else math.nan
    return [
        str(numbers.ended),
        Text(_percent(numbers.share(numbers.answered)), style),
        _percent(by_fallback),
        str(numbers.requests),
        str(numbers.requests_during_outage),
        *(
            "-" if math.isnan(at) else seconds(at * 1e9)
            for at in (percentile(numbers.seconds, share) for share in (0.5, 0.99))
        ),
    ]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def errors(without: Tally, guarded: Tally) -> Table:
    """Which failures the callers were left with."""
    table = _table(
        "Errors that callers saw",
        "rejected: an open circuit said no at once",
    )
    for heading in ("", "without", "with"):
        table.add_column(heading)
    for kind in without.numbers:
        table.add_row(TITLES[kind], _listed(without.numbers[kind]), _listed(guarded.numbers[kind]))
    return table


def _listed(numbers: Numbers) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in numbers.errors.most_common()) or "none"


def deeds(guarded: Tally) -> Table:
    """What each strategy did."""
    table = _table(
        "What the strategies did",
        "cut off: by a time limit; opened: a circuit, which then refused calls;\nqueued: for a slot or a token; "
        "resumed: a stream that broke off went on where it was",
    )
    table.add_column("", no_wrap=True)
    for heading in ("attempts", "retries", "cut off", "opened", "refused", "queued", "resumed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, numbers in guarded.numbers.items():
        did = numbers.did
        shown = (
            did["attempts"],
            did["retries"],
            did["timeouts"],
            did["opened"],
            did["rejected"],
            did["waited"],
            did["resumed"],
        )
        table.add_row(TITLES[kind], *map(str, shown))
    return table


def savings(without: Tally, guarded: Tally) -> str:
    """What it is worth that a stream which stalls is found out, and that one goes on where it broke off."""
    lost, still = without.numbers["tokens"], guarded.numbers["tokens"]
    return (
        f"Tokens of streams that came to no end: {lost.thrown_away} of {lost.tokens} without policies, "
        f"{still.thrown_away} of {still.tokens} with them.\n"
        f"Tokens that readers had when their stream went on, and that were not sent again: {still.left_out}.\n"
        f"The longest that a reader waited for a token, or to hear that none comes: {lost.longest_wait:.1f} s "
        f"without policies, {still.longest_wait:.1f} s with them.\n"
    )


def telling(operations: list[Operation]) -> Operation | None:
    """The call that shows most: with several attempts or a Retry-After, the one to which most happened and that ended
    well, if there is one."""
    if not operations:
        return None
    return max(
        operations,
        key=lambda operation: (
            operation.attempts >= SEVERAL or _heeded(operation),
            *operation.interest[:2],
            not operation.span.error,
            operation.attempts,
        ),
    )


def _heeded(operation: Operation) -> bool:
    """Did it wait for as long as a server said?"""
    return any(event.attributes.get(names.REASON) == "retry_after" for event in operation.span.events)


def trace_of(operation: Operation, console: Console) -> str:
    """Its waterfall, as wide as the console."""
    lines = waterfall(operation, width=console.width, glyphs=glyphs_for(console.file))
    return render(lines, colour=wants_colour(console.file))
