"""The effective policy as TOML that `load` reads again: every option, with where its value comes from."""

from __future__ import annotations

import json
import re
from datetime import date, time
from typing import Any

from resilient_agents.config.factory import FACTORIES
from resilient_agents.config.model import Config, PolicySpec, StrategySpec
from resilient_agents.config.redact import HIDDEN, redacted
from resilient_agents.config.values import thawed

__all__ = ["show"]

_COLUMN = 48
"""Where comments stand at most, but for those behind a longer line, such as a wait."""


def show(config: Config, name: str) -> str:
    """One policy as text, outermost strategy first, with the defaults written out.

    Values that came from environment variables with secret-looking names, and the users and passwords of URLs, are
    hidden. Raises KeyError for a policy that is not in `config`.
    """
    policy: PolicySpec = config.policies[name]
    profile = "" if config.profile is None else f", profile {config.profile!r}"
    parts = [f"# {redacted(config.source)}{profile}; outermost first"]
    used = dict.fromkeys((spec.kind, spec.use) for spec in policy.strategies if spec.use is not None)
    parts += [_table(f"[{kind}s.{_key(use)}]", config.component(kind, use)) for kind, use in used]
    if policy.told is not None:
        parts.append(_table(f"[policies.{_key(name)}]", policy.told))
    parts += [_table(f"[[policies.{_key(name)}.strategies]]", spec, kind=True) for spec in policy.strategies]
    if not policy.strategies and policy.told is None:
        parts.append(f"[policies.{_key(name)}]")
    return "\n\n".join(parts) + "\n"


def _table(heading: str, spec: StrategySpec, *, kind: bool = False) -> str:
    rows = [("kind", _toml(spec.kind), "")] if kind else []
    if spec.use is not None:
        rows.append(("use", _toml(spec.use), spec.places.get("use", "")))
    else:
        rows += [(option, *_value(spec, option)) for option in FACTORIES[spec.kind].readers]
    written = [(f"{option} = {text}", place) for option, text, place in rows]
    width = max((len(left) for left, _ in written if len(left) <= _COLUMN), default=0)
    lines = [f"{left:<{width}}  # {redacted(place)}" if place else left for left, place in written]
    return "\n".join([heading, *lines])


def _value(spec: StrategySpec, option: str) -> tuple[str, str]:
    factory = FACTORIES[spec.kind]
    if option not in spec.options:
        return _toml(factory.default(option)), "default"
    plain = thawed(spec.options[option])
    value = None if plain is None else factory.readers[option].complete(plain)
    return _toml(HIDDEN if option in spec.secrets else redacted(value)), spec.places.get(option, "")


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return _quoted(value).replace("${", "$${")  # or it would be a reference when it is loaded again
    return value.isoformat() if isinstance(value, date | time) else repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
