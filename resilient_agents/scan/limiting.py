"""How a call gets a limit: an argument of its own or of its client, or a statement behind what made that."""

from __future__ import annotations

from resilient_agents.scan.form import Binding, Site
from resilient_agents.scan.holders import names_of, settings
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.libraries import Client, Operation
from resilient_agents.scan.made import carrier_of, making
from resilient_agents.scan.run import Scan
from resilient_agents.scan.sightings import Given, Sighting, given_of
from resilient_agents.scan.stated import ending
from resilient_agents.scan.stated import found as argument
from resilient_agents.scan.values import ClientValue, Made, Spot, Symbol
from resilient_agents.scan.wanted import Argument, Changes, Statement

__all__ = ["changes_of", "limited"]

DEEPEST = 4
"""Clients that were made with others, which were made with others."""
SECONDS = 10
"""The limit that is added: to be looked at, like everything that a program writes."""


def limited(scan: Scan, found: Found, planned: dict[str, Changes]) -> bool:
    """Plan a limit for a call that has none, on each of the objects that it may be made on."""
    return all(_limited(scan, found, seen, planned) for seen in found.choices)


def _limited(scan: Scan, found: Found, seen: Sighting, planned: dict[str, Changes]) -> bool:
    operation, client = seen.operation, seen.client
    owner = _carrying(scan, seen.owner) if seen.owner is not None else None
    made = owner.made if owner is not None else None
    if made is not None and made.before:  # what calls it may take no arguments by name
        made = None
    of_client = client.limit and made is not None and not found.call.limit_source.startswith("argument")
    if operation.limit and not seen.runner and not of_client:
        return _argument(scan, seen.spot, seen.site, seen.given, operation, planned)
    if owner is None or made is None or not operation.client_limit:
        return False
    client = owner.client
    if client.settable and settings(scan.limits, owner, seen) is not None:
        return False  # it was told to wait for ever after it was made
    maker = making(scan.known, owner)
    if maker is None and (client.setters or (client.options and operation.option and not client.limit)):
        return _statement(scan, owner, made, operation.option, planned)
    if maker is not None or client.limit:
        return _argument(scan, made.spot, made.site, given_of(made.site), maker or client, planned)
    if client.inherits and owner.of is not None and owner.of.made is not None and owner.of.client.limit:
        above = owner.of.made
        return _argument(scan, above.spot, above.site, given_of(above.site), owner.of.client, planned)
    return False


def _carrying(scan: Scan, owner: ClientValue) -> ClientValue | None:
    """The pool or engine that a client was made with, which takes the limit, else the client; None if it is unknown."""
    for _ in range(DEEPEST):
        name, carrier = carrier_of(scan.resolver, owner, given_of(owner.made.site)) if owner.made else ("", None)
        if carrier is None:
            return None if name else owner
        owner = carrier
    return None


def changes_of(scan: Scan, spot: Spot, planned: dict[str, Changes]) -> Changes | None:
    """Those of a file that was read as it is."""
    path = spot.file.path
    if scan.reading.statuses[path].status != "read":
        return None
    return planned.setdefault(path, Changes())


def _argument(
    scan: Scan, spot: Spot, site: Site, given: Given, taking: Operation | Client, planned: dict[str, Changes]
) -> bool:
    changes = changes_of(scan, spot, planned)
    if changes is None or site.spread or site.starred:
        return False
    value, there = argument(given, taking.limit, taking.at)
    place: str | int | None = None
    if there:
        places = [*(name for name in taking.limit if name in site.keywords), taking.at]
        place = places[0]
        endless = value is not None and value[0] == "const" and ending(scan.resolver, value, spot, "", (0,))
        if not endless or endless.value != "none" or given.arguments != site.arguments:
            return False  # a name may be given for other reasons, and other arguments come before those of a partial
    amount = _amount(scan, spot, taking.unit)
    if not amount:
        return False
    start, end = (site.line, site.column), (site.end_line, site.end_column)
    wanted = Argument(start, end, taking.limit[0], amount, place)
    if wanted not in changes.arguments:
        changes.arguments.append(wanted)
    return True


def _amount(scan: Scan, spot: Spot, unit: str) -> str:
    """The limit as it is written; "" where it needs a name that the file does not have."""
    if unit in ("s", "ms"):
        return f"{SECONDS}_000" if unit == "ms" else str(SECONDS)
    path, bracket, rest = unit.replace("{}", str(SECONDS)).partition("(")
    if not bracket:
        return path
    top, _, name = path.rpartition(".")
    for said, meant in ((name, path), (path, top)):
        first = said.partition(".")[0]
        if Symbol(meant) in scan.resolver.lookup(first, spot):
            return f"{said}({rest}"
    return ""


def _statement(scan: Scan, owner: ClientValue, made: Made, option: str, planned: dict[str, Changes]) -> bool:
    """`name.settimeout(10)` behind the statement that made the object and gave it a name."""
    changes = changes_of(scan, made.spot, planned)
    scope = made.spot.within
    names = [
        path
        for path in names_of(made.spot, made.number)
        if any(_is_made_here(binding, made) for binding in scope.bindings.get(path, ()))
    ]
    if changes is None or not names or "[]" in names[0]:
        return False
    path = names[0]
    setters = owner.client.setters
    if option and option not in setters:
        module = owner.client.library.name
        method = next((each for each in ("setsockopt", "setopt") if each in owner.client.options), "")
        if method and Symbol(module) not in scan.resolver.lookup(module, made.spot):
            return False
        amount = _amount(scan, made.spot, owner.client.unit)
        text = f"{path}.{method}({module}.{option}, {amount})" if method else f"{path}.{option} = {amount}"
    else:
        text = f"{path}.{option or next(iter(setters))}({SECONDS})"
    wanted = Statement((made.site.line, made.site.column), text)
    if wanted not in changes.statements:
        changes.statements.append(wanted)
    return True


def _is_made_here(binding: Binding, made: Made) -> bool:
    call = ("call", made.number)
    value = binding.value
    if value is not None and value[0] == "first":  # `sock: socket = socket()`
        value = value[1][0]
    return value in (call, ("enter", call))
