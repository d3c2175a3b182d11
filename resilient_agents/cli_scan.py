"""`resilient-agents scan PATH…`."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilient_agents import cli_advise
from resilient_agents.cli_arguments import Parser, count

if TYPE_CHECKING:
    from resilient_agents.scan import Options, Report

__all__ = ["add_to"]

CLEAN, FOUND, WRONG = 0, 1, 2

NEEDS = ("libcst", "parso", "pathspec", "packaging")


def add_to(commands: Any) -> None:
    """Make `scan` one of these commands, which are what `ArgumentParser.add_subparsers` gives.

    Exit status: 0 clean; 1 findings; 2 could not run.
    """
    scan: Parser = commands.add_parser("scan", help="find external calls that can wait for ever")
    scan.description = (
        "Finds external calls below PATH and says which of them can wait for ever, and which block an event loop. "
        "Nothing is imported and nothing is run."
    )
    scan.add_argument("paths", nargs="+", metavar="PATH", type=Path, help="a file or a folder")
    formats = ("text", "json", "sarif", "github", "html")
    scan.add_argument("--format", choices=formats, default="text", help="(default text; html only with --advise)")
    cli_advise.add_options(scan)
    scan.add_argument("--select", action="append", default=[], metavar="RULE", help="turn this rule on, too")
    scan.add_argument("--baseline", type=Path, metavar="FILE", help="say only what does not stand in this baseline")
    scan.add_argument("--write-baseline", type=Path, metavar="FILE", help="write what is found now to a baseline")
    scan.add_argument("--since", metavar="REV", help="say only what stands in lines changed since this revision")
    scan.add_argument("--fix", action="store_true", help="give calls that can wait for ever a limit of 10 s")
    # An option of its own: one that may have a value would take the path behind it for one.
    scan.add_argument("--fix=policy", dest="fix_policy", action="store_true", help="or their functions a named policy")
    scan.values = ("--fix=policy",)
    scan.add_argument("--dry-run", action="store_true", help="with --fix: print the patch and change nothing")
    scan.add_argument("--no-ignore", action="store_true", help="read what .gitignore leaves out, too")
    scan.add_argument("--strict", action="store_true", help="a file that cannot be read ends with status 2")
    scan.add_argument("--jobs", type=count, default=os.cpu_count() or 1, metavar="N", help="processes (default: all)")
    scan.add_argument("--no-cache", action="store_true", help="keep nothing for the next time, and use nothing kept")
    scan.set_defaults(run=_scan)


def _scan(arguments: argparse.Namespace) -> int:
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return _complain(f'scan needs {" and ".join(missing)}; run: pip install "resilient-agents[scan]"')
    from resilient_agents.scan import Options, scan
    from resilient_agents.scan.cache import default_folder
    from resilient_agents.scan.counts import counted
    from resilient_agents.scan.fingerprints import new_since, read_baseline, write_baseline

    options = Options(
        ignore=not arguments.no_ignore,
        select=tuple(rule for each in arguments.select for rule in each.split(",")),
        since=arguments.since,
        jobs=arguments.jobs,
        cache=None if arguments.no_cache else default_folder(),
    )
    if said := _misplaced(arguments):
        return _complain(said)
    if cli_advise.asked(arguments):
        return cli_advise.advise(arguments, options)
    try:
        if arguments.fix or arguments.fix_policy:
            _fix(arguments, options)
            if arguments.dry_run:
                return CLEAN
        baseline = read_baseline(arguments.baseline) if arguments.baseline is not None else None
        report = scan(arguments.paths, options)
        gc.freeze()  # the interpreter is about to end: it need not look for circles in a million objects first
        if arguments.write_baseline is not None:
            write_baseline(arguments.write_baseline, report.findings)
            _tell(f"wrote {counted(len(report.findings), 'finding')} to {arguments.write_baseline}")
    except ValueError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write {error.filename}: {error.strerror}")
    if baseline is not None:
        known = len(report.findings)
        report.findings = new_since(baseline, report.findings)
        _tell(f"{counted(known - len(report.findings), 'finding')} accepted by {arguments.baseline}")
    print(_formatted(report, arguments.format), end="")
    if arguments.strict and report.count("unreadable"):
        return WRONG
    return FOUND if report.findings and arguments.write_baseline is None else CLEAN


def _misplaced(arguments: argparse.Namespace) -> str:
    """What to say of an option that would be passed over; "" where none would be."""
    of_examples = {"--top": arguments.top is not None, "--force": arguments.force}
    if any(of_examples.values()) and arguments.examples is None:
        return f"{next(name for name, given in of_examples.items() if given)} goes with --examples"
    if cli_advise.asked(arguments):
        return ""
    if arguments.format == "html":
        return "html goes with --advise"
    if arguments.fix and arguments.fix_policy:
        return "--fix gives calls a limit and --fix=policy their functions a policy: run scan twice"
    if not arguments.dry_run:
        return ""
    of_findings = {
        "--format": arguments.format != "text",
        "--baseline": arguments.baseline is not None,
        "--write-baseline": arguments.write_baseline is not None,
        "--strict": arguments.strict,
    }
    if not (arguments.fix or arguments.fix_policy):
        return "--dry-run goes with --fix"
    return next(
        (
            f"--dry-run prints the patch and no findings: no {name} with it"
            for name, given in of_findings.items()
            if given
        ),
        "",
    )


def _fix(arguments: argparse.Namespace, options: Options) -> None:
    """Change the files, or print what would change."""
    from resilient_agents.scan.counts import counted
    from resilient_agents.scan.fix import fix

    fixed = fix(arguments.paths, options, cli_advise.policy_of(arguments, options) if arguments.fix_policy else None)
    if arguments.dry_run:
        print(fixed.patch(), end="")
    else:
        fixed.write()
        if fixed.after:
            changed = ", ".join(map(str, fixed.after))
            _tell(f"changed {counted(len(fixed.after), 'file')}: {changed}")
    for policy, calls in fixed.threads.items():
        first, more = calls[0], f" and {len(calls) - 1} more" if len(calls) > 1 else ""
        _tell(
            f"{policy}: only a limit in a thread ends {first.path}:{first.line}{more}, which blocks "
            "in a plain function and takes no limit: set timeout.thread = true"
        )
    if fixed.left:
        places = ", ".join(f"{each.call.path}:{each.call.line}" for each in fixed.left[:3])
        more = f" and {len(fixed.left) - 3} more" if len(fixed.left) > 3 else ""
        where = f": {places}{more}" if arguments.dry_run else ", as the report says"  # lines may have moved
        _tell(f"{counted(len(fixed.left), 'finding')} of RA101 left for you to mend{where}")


def _formatted(report: Report, name: str) -> str:
    from resilient_agents.scan.sarif import as_annotations, as_sarif
    from resilient_agents.scan.text import as_text

    if name == "text":
        return as_text(report)
    if name == "github":
        return as_annotations(report)
    data = report.as_data() if name == "json" else as_sarif(report, importlib.metadata.version("resilient-agents"))
    return json.dumps(data, indent=1) + "\n"


def _tell(message: str) -> None:
    """Beside the report, which may be read by a program."""
    print(f"resilient-agents: {message}", file=sys.stderr)


def _complain(message: str) -> int:
    _tell(message)
    return WRONG
