"""`resilient-agents simulate POLICY --scenario FILE`."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilient_agents.cli_arguments import count

if TYPE_CHECKING:
    from resilient_agents.simulate import Result
    from resilient_agents.simulate.tune import Trial

__all__ = ["add_to"]

OK, FOUND, WRONG, INTERRUPTED = 0, 1, 2, 130

DEFAULT_POINTS = 64


def add_to(commands: Any) -> None:
    """Make `simulate` one of these commands, which are what `ArgumentParser.add_subparsers` gives.

    Exit status: 0 done; 1 the configuration or scenario is not valid, or no choice reaches the goal; 2 wrong use; 130
    interrupted.
    """
    command: argparse.ArgumentParser = commands.add_parser("simulate", help="what a policy does in a modelled outage")
    command.description = (
        "Runs the real policy in virtual time against a modelled dependency and load, and shows what became of the "
        "calls. POLICY is a TOML file of policies (FILE:NAME chooses one of several), or the name of a preset."
    )
    command.add_argument("policy", metavar="POLICY", help="FILE, FILE:NAME, or a preset such as llm or http")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--scenario", metavar="FILE", help="a TOML file, or a scenario that is shipped, such as retry-storm"
    )
    source.add_argument(
        "--replay", metavar="FILE", type=Path, help="recorded spans in place of a scenario: OTLP JSON lines"
    )
    command.add_argument("--of", metavar="POLICY", help="with --replay: whose calls, where it is not those of POLICY")
    command.add_argument(
        "--compare", action="append", default=[], metavar="POLICY", help="another policy beside it (may be repeated)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        type=_change,
        help="an option of POLICY that is different: retry.attempts=5 (may be repeated)",
    )
    command.add_argument("--seed", metavar="TEXT", help="names the random streams (default: the scenario's)")
    command.add_argument("--blocking", action="store_true", help="calls of blocking code, in threads")
    command.add_argument("--json", action="store_true", help="everything as JSON, the course over time included")
    command.add_argument("--plot", metavar="FILE", type=Path, help="draw an .svg or .png, too (extra: simulate)")
    command.add_argument(
        "--tune",
        action="extend",
        nargs="+",
        default=[],
        type=_parsed("parse_range"),
        metavar="OPTION=FROM..TO",
        help="try values of options and print what nothing beats: retry.attempts=1..6 (may be repeated)",
    )
    command.add_argument("--points", type=count, metavar="N", help="choices that --tune tries (default 64)")
    command.add_argument(
        "--random", action="store_true", help="--tune draws its choices from the ranges, in place of a grid"
    )
    command.add_argument(
        "--goal",
        type=_parsed("parse_goals"),
        default=[],
        metavar="GOALS",
        help='what --tune should reach: "success>=0.99, load<=1.3"; also p99',
    )
    command.set_defaults(run=partial(_run, command))


_TOGETHER = {
    "--replay": ("of", "set", "json"),
    "--tune": ("scenario", "set", "seed", "blocking", "points", "random", "goal"),
    "--scenario": ("compare", "set", "seed", "blocking", "json", "plot"),
}
"""What goes with each way to simulate; whatever else is given would be ignored, and is refused."""

_WAYS = ("replay", "tune", "scenario")
_OPTIONS = sorted({option for allowed in _TOGETHER.values() for option in allowed} | set(_WAYS))


def _run(command: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    way = next(each for each in _WAYS if getattr(arguments, each))
    allowed = _TOGETHER[f"--{way}"]
    alone = [option for option in _OPTIONS if option not in (way, *allowed) and getattr(arguments, option)]
    if alone:
        first, those = alone[0], ", ".join(f"--{option}" for option in allowed)
        if way == "scenario":  # which alone is no mistake: another way is missing
            other = next(each for each, options in _TOGETHER.items() if first in options)
            command.error(f"argument --{first}: goes with {other}; --{way} alone takes: {those}")
        command.error(f"argument --{first}: does not go with --{way}, which takes: {those}")
    return {"replay": _replay, "tune": _tune, "scenario": _simulate}[way](arguments)


def _change(text: str) -> tuple[str, str]:
    option, found, value = text.partition("=")
    if not found or not option or not value:
        raise argparse.ArgumentTypeError(f"must be OPTION=VALUE, such as retry.attempts=5, got {text}")
    return option, value


def _parsed(parser: str) -> Callable[[str], Any]:
    """A reader of a value, which is imported when there is one."""

    def parse(text: str) -> Any:
        from resilient_agents.simulate import tune

        try:
            return getattr(tune, parser)(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _simulate(arguments: argparse.Namespace) -> int:
    from resilient_agents.config import ConfigError
    from resilient_agents.simulate import simulate
    from resilient_agents.simulate.blocking import TooManyCalls
    from resilient_agents.simulate.policies import named
    from resilient_agents.simulate.read import read
    from resilient_agents.simulate.scenarios import find

    if (status := _unable_to_draw(arguments.plot)) is not None:
        return status
    results: dict[str, Result] = {}
    try:
        scenario = read(find(arguments.scenario))
        makers = {_label(arguments): named(*_split(arguments.policy), changes=dict(arguments.set))}
        makers |= {policy: named(*_split(policy)) for policy in arguments.compare}
        for policy, make in makers.items():
            results[policy] = simulate(make, scenario, seed=arguments.seed, blocking=arguments.blocking)
            if results[policy].interrupted:
                break
    except (ConfigError, LookupError, TooManyCalls) as error:
        print(error.args[0] if isinstance(error, LookupError) else error, file=sys.stderr)
        return FOUND
    if arguments.json:
        print(json.dumps({policy: result.as_dict() for policy, result in results.items()}, allow_nan=False))
    else:
        _print(results)
    if any(result.interrupted for result in results.values()):
        return _interrupted()
    return OK if arguments.plot is None else _draw(results, arguments.plot, Path(arguments.scenario).stem)


def _label(arguments: argparse.Namespace) -> str:
    """The policy's name, and how it differs from one of the same name beside it."""
    changes = [f"{option}={value}" for option, value in arguments.set] if arguments.policy in arguments.compare else []
    return " ".join([arguments.policy, *changes])


def _interrupted() -> int:
    print("resilient-agents: interrupted; this is what happened until then", file=sys.stderr)
    return INTERRUPTED


def _replay(arguments: argparse.Namespace) -> int:
    from resilient_agents.config import ConfigError
    from resilient_agents.simulate.blocking import TooManyCalls
    from resilient_agents.simulate.policies import replayed
    from resilient_agents.simulate.recording import played_by, recorded, shared
    from resilient_agents.simulate.replay import replay
    from resilient_agents.simulate.report import comparison
    from resilient_agents.trace import read

    try:
        with open(arguments.replay, encoding="utf-8-sig") as lines:
            spans = read(lines).spans
        if not spans:
            raise ValueError(f"no spans in {arguments.replay}: each line should be an object with resourceSpans")
        changes = dict(arguments.set)
        make, names = replayed(*_split(arguments.policy), of=arguments.of, among=played_by(spans), changes=changes)
        calls = recorded(spans, *names)
        result = replay(make, calls)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        print(f"resilient-agents: cannot read {arguments.replay}: {why}", file=sys.stderr)
        return WRONG
    except (ConfigError, LookupError, TooManyCalls, ValueError) as error:
        print(error.args[0] if isinstance(error, LookupError) else error, file=sys.stderr)
        return FOUND
    if arguments.json:
        print(json.dumps({**result.as_dict(), "shared": shared(spans, calls)}, allow_nan=False))
    else:
        print("\n".join(comparison(result, shared(spans, calls))))
    return OK


def _tune(arguments: argparse.Namespace) -> int:
    from resilient_agents.config import ConfigError
    from resilient_agents.simulate.read import read
    from resilient_agents.simulate.scenarios import find
    from resilient_agents.simulate.tune import choices, tune

    trials: list[Trial] = []
    interrupted = False
    try:
        scenario = read(find(arguments.scenario))
        policy = _split(arguments.policy)
        drawn = (arguments.seed or scenario.seed) if arguments.random else None
        points = arguments.points or DEFAULT_POINTS
        good, wrong = choices(policy, arguments.tune, points, seed=drawn, fixed=dict(arguments.set))
        if wrong:
            print(f"{len(wrong)} choices are left out, such as:\n{wrong[0]}", file=sys.stderr)
        tried = tune(policy, scenario, good, seed=arguments.seed, blocking=arguments.blocking)
        try:
            trials.extend(tried)
        except KeyboardInterrupt:
            interrupted = True
    except (ConfigError, LookupError, RuntimeError, ValueError) as error:
        print(error.args[0] if isinstance(error, LookupError) else error, file=sys.stderr)
        return FOUND
    reached = _print_front(arguments, trials)
    if interrupted:
        return _interrupted()
    return OK if reached or not arguments.goal else FOUND


def _print_front(arguments: argparse.Namespace, trials: list[Trial]) -> bool:
    """What nothing beats. Does any of it reach the goal?"""
    from resilient_agents.simulate.report import seconds_of, share
    from resilient_agents.simulate.tune import front

    points = front(trials)
    reached = [same[0] for same in points if all(goal.met(same[0]) for goal in arguments.goal)]
    print(
        f"{len(trials)} choices, {len(points)} results that no other one beats" + _reached(arguments.goal, len(reached))
    )
    print(f"{'success':>10}  {'p99':>8}  {'load':>5}")
    again = f"resilient-agents simulate {arguments.policy} --scenario {arguments.scenario}"
    again += f" --seed {shlex.quote(arguments.seed)}" if arguments.seed else ""
    again += " --blocking" if arguments.blocking else ""
    for best, *others in points:
        mark = "*" if arguments.goal and best in reached else " "
        figures = f"{share(best.success):>9}  {seconds_of(best.p99):>8}  {best.load:5.2f}"
        print(f"{mark}{figures}  {again} {_settings(best)}")
        for other in others:
            print(f"{'the same:':>27}  {_settings(other)}")
    return bool(reached)


def _settings(trial: Trial) -> str:
    return " ".join(f"--set {option}={value}" for option, value in trial.changes.items())


def _reached(goals: list[Any], count: int) -> str:
    return f"; {count} of them reach the goal (*)" if goals else ""


def _split(policy: str) -> tuple[str, str | None]:
    """FILE or FILE:NAME; a file of that very name comes first."""
    file, found, name = policy.rpartition(":")
    return (file, name) if found and not Path(policy).exists() else (policy, None)


def _print(results: dict[str, Result]) -> None:
    from resilient_agents.simulate.report import course, table
    from resilient_agents.trace.terminal import glyphs_for, render, wants_colour

    glyphs, width = glyphs_for(sys.stdout), shutil.get_terminal_size().columns
    for policy, result in results.items():
        print(policy)
        print(render(course(result, width=width, glyphs=glyphs), colour=wants_colour(sys.stdout)), end="\n\n")
    print("\n".join(table(results)))


def _unable_to_draw(path: Path | None) -> int | None:
    import importlib.util

    if path is None:
        return None
    if path.suffix not in (".svg", ".png"):
        print(f"resilient-agents: a picture is an .svg or a .png, got {path.name}", file=sys.stderr)
        return WRONG
    if importlib.util.find_spec("matplotlib") is None:
        print(
            'resilient-agents: --plot needs matplotlib; run: pip install "resilient-agents[simulate]"', file=sys.stderr
        )
        return WRONG
    return None


def _draw(results: dict[str, Result], path: Path, title: str) -> int:
    from resilient_agents.simulate.picture import draw

    try:
        draw(results, path, title=title)
    except OSError as error:
        print(f"resilient-agents: cannot write {path}: {error.strerror}", file=sys.stderr)
        return WRONG
    return OK
