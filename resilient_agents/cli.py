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
import sys
from collections.abc import Sequence

from resilient_agents import cli_config, cli_health, cli_scan, cli_simulate, cli_trace
from resilient_agents.cli_arguments import Parser

__all__ = ["main"]

OK, WRONG, INTERRUPTED = 0, 2, 130
CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended

DEMO_NEEDS = {"httpx": "httpx", "rich": "rich", "opentelemetry.sdk": "opentelemetry-sdk"}
EXPORT_NEEDS = {"opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; SystemExit for `--help`, `--version` and wrong use."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # the name of a file may be no text of this terminal
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
    parser = Parser(prog="resilient-agents", description="Policies for calls that fail, and a look at what they did.")
    parser.set_defaults(run=functools.partial(_usage, parser))
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _describe_demo(commands.add_parser("demo", help="the same traffic to a bad server, without and with policies"))
    cli_trace.add_to(commands)
    cli_config.add_to(commands)
    cli_health.add_to(commands)
    cli_scan.add_to(commands)
    cli_simulate.add_to(commands)
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


def _usage(parser: argparse.ArgumentParser, _: argparse.Namespace) -> int:
    parser.print_help(sys.stderr)
    return WRONG


def _complain(message: str, status: int) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return status


def _demo(arguments: argparse.Namespace) -> int:
    exporting = bool(arguments.export or _otlp_endpoint())
    needs = DEMO_NEEDS | EXPORT_NEEDS if exporting else DEMO_NEEDS
    missing = [package for module, package in needs.items() if not installed(module)]
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


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
