"""`resilient-agents config check FILE`, `resilient-agents config show NAME` and `resilient-agents config schema`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient_agents.config import Config

__all__ = ["add_to"]

OK, FOUND, WRONG = 0, 1, 2

DEFAULT_FILE = "resilience.toml"


def add_to(commands: Any) -> None:
    """Make `config` one of these commands, which are what `ArgumentParser.add_subparsers` gives.

    Exit status: 0 good; 1 problems, or no such policy; 2 wrong use.
    """
    config: argparse.ArgumentParser = commands.add_parser("config", help="check, show and complete configuration files")
    config.description = "Looks at configuration files: policies by name, in TOML."
    config.set_defaults(run=lambda _: _usage(config))
    commands = config.add_subparsers(dest="config_command", metavar="COMMAND")
    check = commands.add_parser("check", help="list what is wrong with a file, and numbers that do not fit")
    check.description = (
        "Checks FILE without a profile and with each of its profiles. Problems end with status 1, warnings only with "
        "--strict. Environment variables count as they do in the program."
    )
    check.add_argument("file", metavar="FILE", help="a TOML file")
    check.add_argument("--profile", action="append", metavar="P", help="only with this profile (may be given again)")
    check.add_argument("--strict", action="store_true", help="warnings end with status 1, too")
    check.set_defaults(run=_check)
    show = commands.add_parser("show", help="the effective policy, and where each value comes from")
    show.description = "Prints a policy as TOML, all layers applied, all defaults written out, secrets hidden."
    show.add_argument("name", metavar="NAME", help="a policy of the file, or a preset")
    show.add_argument("--file", metavar="F", help=f"a TOML file (default: {DEFAULT_FILE}, if there is one)")
    show.add_argument("--profile", metavar="P", help="default: the one that RESILIENT_AGENTS_PROFILE names, if any")
    show.set_defaults(run=_show)
    schema = commands.add_parser("schema", help="a JSON Schema of configuration files, for editors")
    schema.description = "Prints a JSON Schema that editors complete and check configuration files by."
    schema.set_defaults(run=_schema)
    for command in (check, show):
        command.add_argument(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="MODULE",
            help="import this first; for names that the program gives to its code with define() (may be given again)",
        )


def _check(arguments: argparse.Namespace) -> int:
    from resilient_agents.config import ConfigError, Problem, load
    from resilient_agents.config.load import PROFILE

    if not _imported(arguments.imports):
        return WRONG
    problems: dict[Problem, Problem] = {}
    warnings: dict[str, None] = {}
    policies: dict[str, None] = {}
    profiles = _profiles(arguments.file)
    chosen: list[str] = arguments.profile or ["", *profiles, os.environ.get(PROFILE, "")]  # which may name another one
    for profile in dict.fromkeys(chosen):
        try:
            config = load(arguments.file, profile=profile, env=_environment(profile))
        except ConfigError as error:
            for problem in error.problems:  # what is allowed instead may differ by profile; the problem is one
                problems.setdefault(replace(problem, allowed=problem.allowed.partition("; ")[0]), problem)
        else:
            warnings |= dict.fromkeys(map(str, config.warnings))
            policies |= dict.fromkeys(config.policies)
    for problem in problems.values():
        print(problem, file=sys.stderr)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    found = [_count(len(things), word) for things, word in ((problems, "problem"), (warnings, "warning")) if things]
    here = [profile for profile in dict.fromkeys(chosen) if profile in profiles]
    scope = f" ({_count(len(here), 'profile')}: {', '.join(here)})" if here else ""
    verdict = " and ".join(found) or f"good, {_count(len(policies), 'policy')}"
    print(f"{arguments.file}: {verdict}{scope}")
    return FOUND if problems or (warnings and arguments.strict) else OK


def _show(arguments: argparse.Namespace) -> int:
    from resilient_agents.config import ConfigError, load, show
    from resilient_agents.config.load import configured
    from resilient_agents.config.source import Source
    from resilient_agents.presets import PRESETS

    if not _imported(arguments.imports):
        return WRONG
    name: str = arguments.name
    file = arguments.file or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)
    try:
        config: Config = load({} if file is None else file, profile=arguments.profile)
        if name not in config.policies and name in PRESETS:
            preset = Source(f"preset {name!r}")
            config = configured(preset, preset.tree({"policies": {name: {"extends": name}}}), None)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return FOUND
    if name not in config.policies:
        known = ", ".join([*config.policies, *PRESETS])
        print(f"resilient-agents: there is no policy {name!r}; there are: {known}", file=sys.stderr)
        return FOUND
    print(show(config, name), end="")
    for warning in config.warnings:
        if warning.policy == name:
            print(f"warning: {warning}", file=sys.stderr)
    return OK


def _schema(_: argparse.Namespace) -> int:
    from resilient_agents.config.schema import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return OK


def _environment(profile: str) -> dict[str, str]:
    """The environment, in which the profile is chosen here and nowhere else."""
    from resilient_agents.config.load import PROFILE

    return {**os.environ, PROFILE: profile}


def _profiles(file: str) -> list[str]:
    """The profiles of a file; none where it cannot be read, which `load` will say."""
    from resilient_agents.config import ConfigError
    from resilient_agents.config.source import Source, read_file

    try:
        found: Any = Source(file).toml(read_file(file)).plain().get("profiles")
    except ConfigError:
        return []
    return list(found) if isinstance(found, dict) else []


def _imported(modules: list[str]) -> bool:
    """Import what the caller names: the command line may, a file may not."""
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            print(f"resilient-agents: cannot import {module}: {type(error).__name__}: {error}", file=sys.stderr)
            return False
    return True


def _count(number: int, word: str) -> str:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"


def _usage(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return WRONG
