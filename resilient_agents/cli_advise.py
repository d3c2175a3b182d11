"""`resilient-agents scan --advise PATH…`, and what else becomes of the advice."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resilient_agents.cli_arguments import count

if TYPE_CHECKING:
    from resilient_agents.scan import Call, Options
    from resilient_agents.scan.advice import Advice

__all__ = ["FORMATS", "add_options", "advise", "asked", "policy_of"]

OK, WRONG = 0, 2

FORMATS = ("text", "json", "html")
TOP = 20
"""Dependencies that examples are written for, where nothing else is said."""

OF_FINDINGS = ("--fix", "--fix=policy", "--dry-run", "--baseline", "--write-baseline", "--since", "--select")
"""Options that are about findings."""


def add_options(scan: argparse.ArgumentParser) -> None:
    """What `scan` takes for advice."""
    scan.add_argument("--advise", action="store_true", help="say by dependency what would help, and why")
    scan.add_argument(
        "--write-policies", type=Path, metavar="FILE", help="add a policy for each dependency to a configuration file"
    )
    scan.add_argument("--examples", type=Path, metavar="DIR", help="write an example for each file that calls them")
    scan.add_argument("--top", type=count, metavar="N", help=f"with --examples: dependencies (default {TOP})")
    scan.add_argument("--force", action="store_true", help="with --examples: write to a folder that has files, too")
    scan.add_argument("--plan", action="store_true", help="print the phases of rolling out, with their commands")


def asked(arguments: argparse.Namespace) -> bool:
    written = arguments.write_policies, arguments.examples
    return bool(arguments.advise or arguments.plan or any(each is not None for each in written))


def advise(arguments: argparse.Namespace, options: Options) -> int:
    """Advice in place of findings. It is no verdict, so its status is 0 whatever was found."""
    from resilient_agents.scan.advice import advise as advice_of
    from resilient_agents.scan.advice.plan import as_plan

    if arguments.format != "text" and not arguments.advise:
        return _complain("of advice only --advise has a --format")
    if arguments.format not in FORMATS:
        return _complain(f"advice has the formats {', '.join(FORMATS)}, got {arguments.format}")
    given = [each for each in OF_FINDINGS if getattr(arguments, each.lstrip("-").replace("-", "_").replace("=", "_"))]
    if given:
        return _complain(f"advice is about all calls, and {given[0]} about findings: run scan twice")
    try:
        advice = advice_of(arguments.paths, options)
    except ValueError as error:
        return _complain(str(error))
    if arguments.advise:
        print(_formatted(advice, arguments.format), end="")
    if arguments.plan:
        print(as_plan(advice, " ".join(map(str, arguments.paths))), end="")
    if arguments.write_policies is not None and (status := _write_policies(advice, arguments.write_policies)) != OK:
        return status
    if arguments.examples is not None and (status := _write_examples(advice, arguments)) != OK:
        return status
    return WRONG if arguments.strict and advice.totals()["files"]["unreadable"] else OK


def policy_of(arguments: argparse.Namespace, options: Options) -> Callable[[Call], str | None]:
    """What names the policy of a call as `--write-policies` does."""
    from resilient_agents.scan.advice import advise as advice_of
    from resilient_agents.scan.advice.policies import policy_of

    return policy_of(advice_of(arguments.paths, options))


def _formatted(advice: Advice, name: str) -> str:
    from resilient_agents.scan.advice.html import as_html
    from resilient_agents.scan.advice.text import as_text

    if name == "json":
        return json.dumps(advice.as_data(), indent=1) + "\n"
    return as_html(advice) if name == "html" else as_text(advice)


def _write_policies(advice: Advice, path: Path) -> int:
    from resilient_agents.config import ConfigError, load, loads
    from resilient_agents.presets import PRESETS
    from resilient_agents.scan.advice.policies import added_to
    from resilient_agents.scan.counts import counted

    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        known = list(load(path, env={}).policies) if before else []
        written = added_to(before, advice, known, PRESETS)
        loads(written.text, source=str(path), env={})
        if written.added:
            path.write_text(written.text, encoding="utf-8")
    except ConfigError as error:
        return _complain(str(error))
    except (OSError, UnicodeError) as error:
        return _complain(f"cannot write {path}: {getattr(error, 'strerror', None) or 'it is not text in UTF-8'}")
    if not advice.dependencies:
        print(f"{path}: not written, as no external calls were found")
    else:
        print(f"{path}: {counted(len(written.added), 'policy', 'policies')} added, {len(written.kept)} kept")
    return OK


def _write_examples(advice: Advice, arguments: argparse.Namespace) -> int:
    from resilient_agents.presets import PRESETS
    from resilient_agents.scan.advice.examples import examples, write
    from resilient_agents.scan.counts import counted

    folder: Path = arguments.examples
    made = examples(advice, PRESETS, arguments.top or TOP)
    try:
        write(made, folder, force=arguments.force)
    except ValueError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write {folder}: {error.strerror}")
    for reason in made.left:
        print(f"  not written: {reason}")
    unreadable = advice.totals()["files"]["unreadable"]
    none = "" if advice.dependencies else "; no external calls were found"
    unread = f"; {counted(unreadable, 'file')} could not be read" if unreadable else ""
    print(f"{folder}: {counted(len(made.modules), 'example')} written{none}{unread}")
    return OK


def _complain(message: str) -> int:
    print(f"resilient-agents: {message}", file=sys.stderr)
    return WRONG
