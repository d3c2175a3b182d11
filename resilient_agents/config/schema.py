"""A JSON Schema of configuration files, made of the same data that reads them: editors complete and check by it.

It says what one value may be. What only fits together or not, and names of the program's code, `load` checks.
"""

from __future__ import annotations

from resilient_agents.config.factory import FACTORIES, KINDS, REFERENCE, SECTIONS, SLOTS, table_schema
from resilient_agents.config.layers import short_form
from resilient_agents.config.values import Schema
from resilient_agents.presets.tables import PRESETS

__all__ = ["schema"]


def schema() -> Schema:
    """The schema of a whole file, as plain data."""
    chaos: Schema = {"anyOf": [{"const": False}, {"$ref": "#/$defs/chaos"}]}
    shared = {section: _named(_slot(kind, use=False)) for section, kind in SECTIONS.items()}
    tables = {"policies": _named({"$ref": "#/$defs/policy"}), **shared, "chaos": _named(chaos)}
    kinds = {kind: FACTORIES[kind].schema(kind={"type": "string"}) for kind in KINDS}  # in a list of strategies
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policies of resilient-agents",
        **table_schema({**tables, "profiles": _named(table_schema(tables))}),
        "$defs": {"policy": _policy(), **kinds},
    }


def _policy() -> Schema:
    slots = {slot: _slot(kind) for slot, kind in SLOTS.items()}
    listed = [
        {"allOf": [{"$ref": f"#/$defs/{kind}"}], "properties": {"kind": {"const": kind}}, "required": ["kind"]}
        for kind in KINDS
    ]
    listed += [
        {**table_schema({"kind": {"const": kind}, "use": _shared(kind)}), "required": ["kind", "use"]}
        for kind in SECTIONS.values()
    ]
    extends = {"type": "string", "description": f"A policy of this file, or one of {', '.join(PRESETS)}."}
    told = FACTORIES["policy"].schema()["properties"]
    strategies = {"type": "array", "items": {"anyOf": listed}}
    return table_schema({"extends": extends, **told, **slots, "strategies": strategies})


def _slot(kind: str, *, use: bool = True) -> Schema:
    """A table of options, the first of them alone, or the name of a shared one; true and false switch it on and off."""
    option = short_form(kind)
    short = [] if option is None else FACTORIES[kind].schema()["properties"][option]["anyOf"][:-1]
    forms: list[Schema] = [{"type": "boolean"}, {"$ref": f"#/$defs/{kind}"}, *short, REFERENCE]
    if use and kind in SECTIONS.values():
        forms += [_shared(kind), {**table_schema({"use": _shared(kind)}), "required": ["use"]}]
    return {"anyOf": forms}


def _shared(kind: str) -> Schema:
    return {"type": "string", "description": f"The name of one in [{kind}s]."}


def _named(content: Schema) -> Schema:
    return {"type": "object", "additionalProperties": content}
