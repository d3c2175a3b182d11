"""A scenario from a TOML file or a mapping of the same shape; all that is wrong with it comes out at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from resilient_agents.base.durations import DURATION_FORMS, parse_duration
from resilient_agents.base.spelling import nearest
from resilient_agents.config import ConfigError
from resilient_agents.config.source import Node, Source, read_file
from resilient_agents.config.values import Scalar
from resilient_agents.simulate.bounds import bounded
from resilient_agents.simulate.scenario import KINDS, Dependency, Error, Load, Phase, Quota, Scenario, Stream, Times

__all__ = ["ScenarioError", "read"]

Reader: TypeAlias = Callable[[Node], Any]
"""The value of a node; after a problem whatever, since then nothing is built."""

T = TypeVar("T")


class ScenarioError(ConfigError):
    """A scenario that cannot be played. `.problems` holds all that is wrong with it, in the order of the source."""

    what = "the scenario"


def read(source: Scenario | Mapping[str, Any] | str | Path) -> Scenario:
    """Raises ScenarioError, a ConfigError, which lists every problem with its file, line, key and value."""
    if isinstance(source, Scenario):
        return source
    try:
        if isinstance(source, Mapping):
            root = Source("<dict>").tree(source)
        else:
            root = Source(str(source)).toml(read_file(source))
        scenario = _scenario(root)
        if root.problems:
            raise ConfigError(root.problems)
    except ConfigError as error:
        raise ScenarioError(error.problems) from error.__cause__
    return scenario


def _scenario(root: Node) -> Scenario:
    found = _table(root, {"seed": _text_of, "duration": _seconds(zero=False), "load": _keep, "dependency": _keep})
    for key in ("duration", "load"):
        if isinstance(root.value, dict) and key not in root.value:
            root.say(f"needs {key}")
    load, load_phases = _phased(found.pop("load", None), Load(), _LOAD)
    dependency, dependency_phases = _phased(found.pop("dependency", None), Dependency(), _DEPENDENCY)
    scenario = Scenario(
        duration=found.get("duration", 0.0),
        load=load,
        dependency=dependency,
        load_phases=load_phases,
        dependency_phases=dependency_phases,
    )
    if "seed" in found:
        scenario = replace(scenario, seed=found["seed"])
    bounded(scenario, root)
    return scenario


def _phased(node: Node | None, base: T, keys: Mapping[str, Reader]) -> tuple[T, tuple[Phase[T], ...]]:
    """The settings of a table, and those of its phases, which say only what is different."""
    if node is None:
        return base, ()
    found = _table(node, {**keys, "phase": _keep})
    listed = found.pop("phase", None)
    settings = replace(base, **found)  # type: ignore[type-var]
    if listed is None:
        return settings, ()
    if not isinstance(listed.value, list):
        listed.refuse(f"must be an array of tables: [[{node.key[0]}.phase]]")
        return settings, ()
    phases: list[Phase[T]] = []
    for item in listed.value:
        told = _table(item, {**keys, "from": _seconds(), "until": _seconds()})
        known = isinstance(item.value, dict) and told.keys() >= {"from", "until"} & item.value.keys()
        start, end = told.pop("from", 0.0), told.pop("until", math.inf)
        if known and end <= start:
            item.value["until"].refuse(f"must be later than from, which is {start:g} s")
        elif known and phases and start < phases[-1].end:
            begins: Node = item.value.get("from", item)
            begins.refuse(
                f"must not be before {phases[-1].end:g} s, when the phase above ends", shown=begins is not item
            )
        if known:
            phases.append(Phase(start, end, replace(settings, **told)))  # type: ignore[type-var]
    return settings, tuple(phases)


# ------------------------------------------------------------------------------------------------- readers of values


def _table(node: Node, keys: Mapping[str, Reader]) -> dict[str, Any]:
    """The values that are right, by key. What is wrong with the others has been said."""
    found: dict[str, Any] = {}
    for key, item in node.table().items():
        known = len(node.problems)
        if key in keys:
            value = keys[key](item)
            if len(node.problems) == known:
                found[key] = value
        else:
            item.refuse(f"is not known; {nearest(key, keys)}")
    return found


def _keep(node: Node) -> Node:
    return node


def _text_of(node: Node) -> str:
    if not isinstance(node.value, str) or not node.value:
        node.refuse("must be a string that is not empty")
    return str(node.value)


_flag: Reader = Scalar(types=(bool,)).read


def _one_of(*words: str) -> Reader:
    return Scalar(words=words).read


def _number(*, least: float = 0.0, most: float = 1e12, whole: bool = False) -> Reader:
    def read(node: Node) -> Any:
        value = node.value
        kinds = (int,) if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
            upper = "" if most == 1e12 else f" and at most {most:g}"
            node.refuse(f"must be a {'whole ' if whole else ''}number of at least {least:g}{upper}")
            return least
        return value

    return read


def _seconds(*words: str, zero: bool = True) -> Reader:
    def read(node: Node) -> Any:
        value = node.value
        if value in words:
            return value
        if isinstance(value, str):
            value = parse_duration(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            others = "".join(f', or "{word}"' for word in words)
            node.refuse(f"must be {DURATION_FORMS}{others}")
            return 1.0
        if value == 0 and not zero:
            node.refuse("must be more than 0 seconds")
        return float(value)

    return read


def _capacity(*words: str) -> Reader:
    """A whole number, or a word: "none" is 0, "inf" is without bound."""

    def read(node: Node) -> float:
        value = node.value
        if value in words:
            return 0.0 if value == "none" else math.inf
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1e12:
            return float(value)
        node.refuse(f"must be a whole number of at least 0, or {' or '.join(map(repr, words))}")
        return math.inf

    return read


def _times(node: Node) -> Times:
    if not isinstance(node.value, dict):
        return Times("fixed", _seconds()(node))
    kinds = _one_of("fixed", "exponential", "lognormal")
    found = _table(node, {"kind": kinds, "mean": _seconds(), "sigma": _number(most=10.0)})
    if "mean" not in node.value:
        node.say("needs mean")
    if "sigma" in node.value and found.get("kind", "lognormal" if "kind" in node.value else "") != "lognormal":
        node.value["sigma"].refuse('goes with kind = "lognormal"')
    return Times(**found)


def _error(node: Node) -> Error | None:
    if node.value == "none":
        return None
    keys = {
        "kind": _one_of(*KINDS),
        "rate": _number(most=1.0),
        "status": _number(least=400, most=599, whole=True),
        "retry_after": _seconds("end"),
    }
    return Error(**_table(node, keys))


def _stream(node: Node) -> Stream | None:
    if node.value == "none":
        return None
    keys = {
        "items": _number(least=1, most=1_000_000, whole=True),
        "gap": _times,
        "fault": _one_of("stall", "truncate", "break"),
        "rate": _number(most=1.0),
        "at": _number(whole=True),
    }
    found = _table(node, keys)
    if isinstance(node.value, dict) and "items" not in node.value:
        node.say("needs items")
    if found.get("rate", 0.0) and found.get("at", 0) >= found.get("items", math.inf):
        node.value["at"].refuse("must be less than items: an answer that is whole is over")
    return Stream(**found)


def _quota(node: Node) -> Quota | None:
    if node.value == "none":
        return None
    found = _table(node, {"rate": _keep, "retry_after": _flag})
    rate = found.pop("rate", None)
    if rate is None and isinstance(node.value, dict):
        node.say('needs rate, such as "600/min"')
    if rate is None:
        return None
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d*\s*[a-z]+)\s*", str(rate.value))
    unit = parts and (parts[2] if parts[2][0].isdigit() else f"1{parts[2]}")
    per = parse_duration(unit) if unit else None
    if parts is None or not per or float(parts[1]) <= 0:
        rate.refuse('must be a number and a time: "10/s", "600/min" or "100/5min"')
        return None
    return Quota(float(parts[1]), per, **found)


_LOAD: Mapping[str, Reader] = {
    "arrivals": _one_of("poisson", "fixed", "closed"),
    "rate": _number(),
    "clients": _number(whole=True),
    "think": _times,
    "processes": _number(least=1, most=1000, whole=True),
    "fanout": _number(least=1, most=1_000_000, whole=True),
}
_DEPENDENCY: Mapping[str, Reader] = {
    "servers": _capacity("inf"),
    "queue": _capacity("none", "inf"),
    "service": _times,
    "error": _error,
    "notices_leavers": _flag,
    "quota": _quota,
    "cost": _number(),
    "stream": _stream,
}
