"""A JSON Schema of configuration files, made of the same data that reads them: editors complete and check by it.

It says what one value may be. What only fits together or not, and names of the program's code, `load` checks.
"""

from __future__ import annotations

from typing import Any

from resilient_agents.config import names
from resilient_agents.config.factory import WAITS, Factory, Nested, WaitReader
from resilient_agents.config.kinds import KINDS, MAKERS, SECTIONS, SHARED, SLOTS, short_form
from resilient_agents.config.show import default_of
from resilient_agents.config.values import DURATION, Choice, Duration, Named, Plain, Reader
from resilient_agents.core.options import Check, Count, Number, Seconds, Share
from resilient_agents.presets.tables import PRESETS

__all__ = ["schema"]

Schema = dict[str, Any]

_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{"}
"""An environment variable may stand for any value."""

_NONE: Schema = {"const": "none"}
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema() -> Schema:
    """The schema of a whole file, as plain data."""
    shared = {section: _named(_slot(kind, use=False)) for section, kind in SECTIONS.items()}
    chaos = _named({"anyOf": [{"const": False}, {"$ref": "#/$defs/chaos"}]})
    tables = {"policies": _named({"$ref": "#/$defs/policy"}), **shared, "chaos": chaos}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policies of resilient-agents",
        **_table({**tables, "profiles": _named(_table(tables))}),
        "$defs": {"policy": _policy(), **{kind: _options(KINDS[kind]) for kind in KINDS}},
    }


def _policy() -> Schema:
    slots = {slot: _slot(kind) for slot, kind in SLOTS.items()}
    listed = [
        {"allOf": [{"$ref": f"#/$defs/{kind}"}], "properties": {"kind": {"const": kind}}, "required": ["kind"]}
        for kind in KINDS
    ]
    extends = {"type": "string", "description": f"A policy of this file, or one of {', '.join(PRESETS)}."}
    told = _options(MAKERS["policy"])["properties"]
    return _table({"extends": extends, **told, **slots, "strategies": {"type": "array", "items": {"anyOf": listed}}})


def _slot(kind: str, *, use: bool = True) -> Schema:
    """A table of options, the first of them alone, or the name of a shared one; true and false switch it on and off."""
    option = short_form(kind)
    short = [] if option is None else _option(KINDS[kind], option)["anyOf"][:-1]
    forms: list[Schema] = [{"type": "boolean"}, {"$ref": f"#/$defs/{kind}"}, *short, _REFERENCE]
    if kind in SHARED and use:
        name = {"type": "string", "description": f"The name of one in [{kind}s]."}
        forms += [name, _table({"use": name}, required=["use"])]
    return {"anyOf": forms}


def _options(make: Any) -> Schema:
    factory = Factory.of(make)
    properties = {option: _option(make, option) for option in factory.readers}
    if make in KINDS.values():
        properties["kind"] = {"type": "string"}  # in a list of strategies
    return _table(properties, required=[])  # what is required may stand in what a policy extends


def _option(make: Any, option: str) -> Schema:
    factory = Factory.of(make)
    checks: Any = getattr(make, "OPTIONS", {})
    written = _value(factory.readers[option], checks.get(option))
    if option not in factory.required:
        default = default_of(make, option)
        written["default"] = "none" if default is None else default
    return written


def _value(reader: Reader, check: Check | None) -> Schema:
    none = [_NONE] if getattr(reader, "nullable", False) else []
    match reader:
        case Duration():
            forms = [{"type": "number", **_range(check)}, {"type": "string", "pattern": f"^(?:{DURATION})$"}]
        case Choice(words=words):
            forms = [{"enum": list(words)}]
        case Named(option=option):
            name = {"type": "string", "examples": list(names.known(option))}
            several = [{"type": "array", "items": name, "minItems": 1}] if option == "on" else []
            forms = [name, *several, *([{"type": "number"}] if option == "cost" else [])]
        case WaitReader():
            kinds = [_wait(kind) for kind in WAITS]
            forms = [{"type": "number", "minimum": 0}, {"type": "string"}, *kinds]
        case Nested(type=kind):
            forms = [{"type": "boolean"}, _options(kind)]
        case Plain(types=types):
            forms = [{"type": _TYPES[kind], **(_range(check) if kind in (int, float) else {})} for kind in types]
        case _:
            forms = [{}]
    return {"anyOf": [*forms, *none, _REFERENCE]}


def _wait(kind: str) -> Schema:
    table = _options(WAITS[kind])
    table["properties"]["kind"] = {"const": kind}
    return table if kind == "exponential" else {**table, "required": ["kind"]}


def _range(check: Check | None) -> Schema:
    match check:
        case Seconds(zero=zero):
            return {"minimum": 0} if zero else {"exclusiveMinimum": 0}
        case Count(minimum=minimum):
            return {"minimum": minimum}
        case Number(minimum=minimum, above=above):
            return {"exclusiveMinimum" if above else "minimum": minimum}
        case Share():
            return {"exclusiveMinimum": 0, "maximum": 1}
        case _:
            return {}


def _named(content: Schema) -> Schema:
    return {"type": "object", "additionalProperties": content}


def _table(properties: Schema, *, required: list[str] | None = None) -> Schema:
    table: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**table, "required": required} if required else table
