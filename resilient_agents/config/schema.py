"""A JSON Schema of configuration files, made of the same data that reads them: editors complete and check by it.

It says what one value may be. What only fits together or not, and names of the program's code, `load` checks.
"""

from __future__ import annotations

from resilient_agents.config.factory import REFERENCE
from resilient_agents.config.kinds import KINDS, SECTIONS, SLOTS, factory_of, short_form
from resilient_agents.config.values import Schema
from resilient_agents.presets.tables import PRESETS

__all__ = ["schema"]


def schema() -> Schema:
    """The schema of a whole file, as plain data."""
    chaos: Schema = {"anyOf": [{"const": False}, {"$ref": "#/$defs/chaos"}]}
    shared = {section: _named(_slot(kind, use=False)) for section, kind in SECTIONS.items()}
    tables = {"policies": _named({"$ref": "#/$defs/policy"}), **shared, "chaos": _named(chaos)}
    kinds = {kind: factory_of(kind).schema(kind={"type": "string"}) for kind in KINDS}  # in a list of strategies
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policies of resilient-agents",
        **_table({**tables, "profiles": _named(_table(tables))}),
        "$defs": {"policy": _policy(), **kinds},
    }


def _policy() -> Schema:
    slots = {slot: _slot(kind) for slot, kind in SLOTS.items()}
    listed = [
        {"allOf": [{"$ref": f"#/$defs/{kind}"}], "properties": {"kind": {"const": kind}}, "required": ["kind"]}
        for kind in KINDS
    ]
    listed += [
        {**_table({"kind": {"const": kind}, "use": _shared(kind)}), "required": ["kind", "use"]}
        for kind in SECTIONS.values()
    ]
    extends = {"type": "string", "description": f"A policy of this file, or one of {', '.join(PRESETS)}."}
    told = factory_of("policy").schema()["properties"]
    return _table({"extends": extends, **told, **slots, "strategies": {"type": "array", "items": {"anyOf": listed}}})


def _slot(kind: str, *, use: bool = True) -> Schema:
    """A table of options, the first of them alone, or the name of a shared one; true and false switch it on and off."""
    option = short_form(kind)
    short = [] if option is None else factory_of(kind).schema()["properties"][option]["anyOf"][:-1]
    forms: list[Schema] = [{"type": "boolean"}, {"$ref": f"#/$defs/{kind}"}, *short, REFERENCE]
    if use and kind in SECTIONS.values():
        forms += [_shared(kind), {**_table({"use": _shared(kind)}), "required": ["use"]}]
    return {"anyOf": forms}


def _shared(kind: str) -> Schema:
    return {"type": "string", "description": f"The name of one in [{kind}s]."}


def _named(content: Schema) -> Schema:
    return {"type": "object", "additionalProperties": content}


def _table(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}
