"""The command line: `resilient-agents demo` and `resilient-agents trace FILE`.

Exit status: 0 done; 1 nothing to show; 2 wrong use, or something that is needed is missing; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resilient_agents import cli_config, cli_health

if TYPE_CHECKING:
    from resilient_agents.trace import Operation, Reading

__all__ = ["main"]

OK, NOTHING, WRONG, INTERRUPTED = 0, 1, 2, 130
CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended

DEMO_NEEDS = {"httpx": "httpx", "rich": "rich", "opentelemetry.sdk": "opentelemetry-sdk"}
EXPORT_NEEDS = {"opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; SystemExit for `--help`, `--version` and wrong use."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()  # a reader that is gone shows here, not in a traceback at exit
        return status
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        with contextlib.suppress(io.UnsupportedOperation):
            # The interpreter flushes once more when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilient-agents", description="Policies for calls that fail, and a look at what they did."
    )
    parser.set_defaults(run=functools.partial(_usage, parser))
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _describe_demo(commands.add_parser("demo", help="the same traffic to a bad server, without and with policies"))
    _describe_trace(commands.add_parser("trace", help="draw operations from a file of spans"))
    cli_config.add_to(commands)
    cli_health.add_to(commands)
    return parser


def _describe_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Starts a misbehaving HTTP server on this machine, sends the same traffic to it without and with "
        "policies, and compares. Spans are also exported if OTEL_EXPORTER_OTLP_ENDPOINT or "
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set."
    )
    demo.add_argument(
        "--seconds", type=_seconds, default=8.0, metavar="S", help="length of each of the two runs (2 to 60, default 8)"
    )
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="which calls fail, and how (default 1)")
    demo.add_argument("--export", metavar="FILE", help="append the spans to FILE, for `resilient-agents trace FILE`")
    demo.set_defaults(run=_demo)


def _describe_trace(trace: argparse.ArgumentParser) -> None:
    trace.description = (
        "Draws the operations in FILE over time: attempts, waits and state changes. Those to which most happened come "
        "first. FILE holds OTLP JSON lines, as `resilient-agents demo --export FILE` and the file exporter of the "
        "OpenTelemetry Collector write them."
    )
    trace.add_argument("file", metavar="FILE", help="OTLP JSON lines; - reads standard input")
    trace.add_argument("--id", default="", metavar="PREFIX", help="only traces whose id begins so")
    trace.add_argument("--limit", type=_count, default=3, metavar="N", help="how many operations to draw (default 3)")
    trace.set_defaults(run=_trace)


def _version() -> str:
    try:
        return importlib.metadata.version("resilient-agents")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _seconds(text: str) -> float:
    value = float(text)
    if not 2 <= value <= 60:
        raise argparse.ArgumentTypeError(f"must be from 2 to 60, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _usage(parser: argparse.ArgumentParser, _: argparse.Namespace) -> int:
    parser.print_help(sys.stderr)
    return WRONG


def _complain(message: str, status: int) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return status


def _demo(arguments: argparse.Namespace) -> int:
    exporting = bool(arguments.export or _otlp_endpoint())
    needs = DEMO_NEEDS | EXPORT_NEEDS if exporting else DEMO_NEEDS
    missing = [package for module, package in needs.items() if not _installed(module)]
    if missing:
        return _complain(f'the demo needs {" and ".join(missing)}; run: pip install "resilient-agents[demo]"', WRONG)

    from resilient_agents.demo.run import run

    try:
        run(seconds=arguments.seconds, seed=arguments.seed, export=arguments.export)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.filename is None or error.filename != arguments.export:
            raise
        return _complain(f"cannot write {arguments.export}: {error.strerror}", WRONG)
    return OK


def _otlp_endpoint() -> str | None:
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _trace(arguments: argparse.Namespace) -> int:
    from resilient_agents.trace import operations

    try:
        reading = _read(arguments.file)
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
    _draw(sorted(found, key=lambda operation: operation.interest, reverse=True)[: arguments.limit], len(found))
    return OK


def _read(file: str) -> Reading:
    from resilient_agents.trace import read

    if file == "-":
        return read(sys.stdin)
    with open(file, encoding="utf-8") as lines:
        return read(lines)


def _draw(chosen: list[Operation], total: int) -> None:
    from resilient_agents.trace import render, waterfall
    from resilient_agents.trace.terminal import glyphs_for, wants_colour

    width, glyphs, colour = shutil.get_terminal_size().columns, glyphs_for(sys.stdout), wants_colour(sys.stdout)
    for operation in chosen:
        print(render(waterfall(operation, width=width, glyphs=glyphs), colour=colour), end="\n\n")
    if total > len(chosen):
        print(f"{len(chosen)} of {total} operations. More with --limit N, one with --id PREFIX.")
