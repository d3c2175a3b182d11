"""The demo from beginning to end."""

from __future__ import annotations

import sys

from rich.console import Console

from resilient_agents.demo import report
from resilient_agents.demo.display import progress
from resilient_agents.demo.faults import Outage
from resilient_agents.demo.policies import policies
from resilient_agents.demo.server import TOKENS, Server
from resilient_agents.demo.session import Session
from resilient_agents.demo.tally import Tally
from resilient_agents.demo.tracing import Tracing
from resilient_agents.demo.traffic import KINDS, PATHS, schedule

__all__ = ["run"]

OUTAGE = (0.45, 0.70)  # from and to which share of a run

INTRODUCTION = """\
A server on this machine misbehaves: 429 with Retry-After, 500, 503, slow
answers, resets, streams that break, stall or end early, and an outage of
{outage:.1f} s. An async agent, a tool in threads and token streams call it, first
without policies, then with them: the same calls at the same times, the same
faults (seed {seed}).
"""


def run(*, seconds: float = 8.0, seed: int = 1, export: str | None = None) -> None:
    """Compare the same traffic without and with policies, each for `seconds`, and print it all.

    Raises OSError if `export`, a file for the spans, cannot be written.
    """
    console = Console(highlight=False)
    tracing = Tracing(export)
    outage = Outage(OUTAGE[0] * seconds, OUTAGE[1] * seconds)
    console.print(INTRODUCTION.format(outage=outage.end - outage.start, seed=seed))
    with Server(seed=seed) as server:
        without = _one(console, server, "1 of 2, without policies", seconds, outage, guarded=False)
        guarded = _one(console, server, "2 of 2, with policies (+n: by a fallback)", seconds, outage, guarded=True)
    for table in (report.comparison(without, guarded), report.errors(without, guarded), report.deeds(guarded)):
        console.print(table)
    console.print(report.savings(without, guarded))
    chosen = report.telling(tracing.operations())
    trouble = tracing.finish()
    if chosen is None:
        console.print("No call to draw: the SDK recorded no spans (is OTEL_SDK_DISABLED set?).")
    else:
        console.print("The call to which most happened, from its OpenTelemetry spans:\n")
        sys.stdout.write(report.trace_of(chosen, console) + "\n")
    _farewell(console, tracing, export, trouble)


def _one(console: Console, server: Server, title: str, seconds: float, outage: Outage, *, guarded: bool) -> Tally:
    tally = Tally(KINDS)
    session = Session(server.url, tally, policies() if guarded else None)
    with progress(console, title, tally, lambda: server.down, guarded=guarded) as shown:
        session.run(schedule(server.seed, seconds), lambda: server.begin(outage), shown.show)
    for kind, numbers in tally.numbers.items():
        numbers.requests = server.requests[PATHS[kind]]
        numbers.requests_during_outage = server.during_outage[PATHS[kind]]
    streams = tally.numbers["tokens"]
    streams.tokens = server.tokens
    streams.left_out = server.left_out
    streams.thrown_away = server.tokens - TOKENS * streams.answered
    return tally


def _farewell(console: Console, tracing: Tracing, export: str | None, trouble: str | None) -> None:
    console.print()
    if export is not None:
        console.print(f"All calls: resilient-agents trace {export} --limit 10", markup=False)
    if trouble is not None:
        console.print(trouble, markup=False)
    elif tracing.host:
        console.print(f"Spans were exported to {tracing.host}.", markup=False)
