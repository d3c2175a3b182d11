"""`resilient-agents trace FILE`: draw operations from a file of spans."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from resilient_agents.cli_arguments import count

if TYPE_CHECKING:
    from resilient_agents.trace import Operation
    from resilient_agents.trace.terminal import Glyphs, Line

__all__ = ["add_to"]

OK, NOTHING, WRONG = 0, 1, 2


def add_to(commands: Any) -> None:
    """Make `trace` one of these commands, which are what `ArgumentParser.add_subparsers` gives.

    Exit status: 0 drawn; 1 nothing to draw; 2 the file cannot be read.
    """
    trace: argparse.ArgumentParser = commands.add_parser("trace", help="draw operations from a file of spans")
    trace.description = (
        "Says in a line for each policy how its calls went and where their time did, then draws operations in FILE "
        "over time: attempts, waits and state changes. Those to which most happened come first. FILE holds OTLP JSON "
        "lines, as `resilient-agents demo --export FILE` and the file exporter of the OpenTelemetry Collector write "
        "them."
    )
    trace.add_argument("file", metavar="FILE", help="OTLP JSON lines; - reads standard input")
    trace.add_argument("--id", default="", metavar="PREFIX", help="only traces whose id begins so")
    trace.add_argument("--limit", type=count, default=3, metavar="N", help="how many operations to draw (default 3)")
    trace.add_argument("--slowest", type=count, metavar="N", help="the N operations that took longest, in their place")
    trace.add_argument("--errors", action="store_true", help="only operations whose caller saw an error")
    trace.set_defaults(run=_trace)


def _complain(message: str, status: int) -> int:
    from resilient_agents.trace.terminal import shown

    print(shown(f"resilient-agents: {message}", sys.stderr.encoding), file=sys.stderr)
    return status


def _trace(arguments: argparse.Namespace) -> int:
    from resilient_agents.trace import operations, read, summary

    try:
        with _lines(arguments.file) as lines:
            reading = read(lines)
    except (OSError, UnicodeDecodeError) as error:
        return _complain(f"cannot read {arguments.file}: {getattr(error, 'strerror', None) or 'it is not text'}", WRONG)
    for problem in reading.problems[:3]:
        _complain(problem, WRONG)
    if len(reading.problems) > 3:
        _complain(f"and {len(reading.problems) - 3} more lines like these", WRONG)
    if not reading.spans:
        return _complain(f"no spans in {arguments.file}: each line should be an object with resourceSpans", NOTHING)
    prefix = arguments.id.lower()
    found = [operation for operation in operations(reading.spans) if operation.span.trace_id.startswith(prefix)]
    if not found:
        wanted = f"operation in a trace {prefix}..." if prefix else 'span "policy ..." of resilient_agents'
        return _complain(f"no {wanted} among the {len(reading.spans)} spans of {arguments.file}", NOTHING)
    _print(lambda width, glyphs: summary(reading.spans, width=width, glyphs=glyphs))
    chosen = [operation for operation in found if operation.failed] if arguments.errors else found
    limit = arguments.limit
    if arguments.slowest is not None:
        chosen.sort(key=lambda operation: operation.duration, reverse=True)
        limit = arguments.slowest
    else:
        chosen.sort(key=lambda operation: operation.interest, reverse=True)
    for operation in chosen[:limit]:
        _print(partial(_drawn, operation))
    if not chosen:
        print(f"None of {len(found)} operations ended in an error for its caller.")
    elif len(chosen) > limit:
        print(f"{limit} of {len(chosen)} operations. More with --limit N, one with --id PREFIX.")
    return OK


@contextlib.contextmanager
def _lines(file: str) -> Generator[IO[str]]:
    """The lines of a file in UTF-8, or in UTF-16 with a byte order mark, which some shells write."""
    if file == "-" and not hasattr(sys.stdin, "buffer"):
        yield sys.stdin
        return
    source: Any = contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb")  # noqa: SIM115 - below
    with source as binary:
        wide = binary.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        text = io.TextIOWrapper(binary, "utf-16" if wide else "utf-8-sig", "strict" if wide else "replace")
        try:
            yield text
        finally:
            text.detach()


def _drawn(operation: Operation, width: int, glyphs: Glyphs) -> list[Line]:
    from resilient_agents.trace import waterfall

    return waterfall(operation, width=width, glyphs=glyphs)


def _print(lines: Callable[[int, Glyphs], list[Line]]) -> None:
    from resilient_agents.trace import render
    from resilient_agents.trace.terminal import glyphs_for, wants_colour

    shown = lines(shutil.get_terminal_size().columns, glyphs_for(sys.stdout))
    print(render(shown, colour=wants_colour(sys.stdout), encoding=sys.stdout.encoding), end="\n\n")
