"""What has to change so that a finding is gone: which argument, which option, which decorator, in which file."""

from __future__ import annotations

import difflib
import io
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from resilient_agents.scan.effects import serves
from resilient_agents.scan.form import Binding, Scope, Site
from resilient_agents.scan.guards import awaitable
from resilient_agents.scan.handlers import DROPPED, REPLACED
from resilient_agents.scan.holders import names_of
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.made import making
from resilient_agents.scan.records import Call, Finding
from resilient_agents.scan.run import Options, Scan, undisturbed
from resilient_agents.scan.values import ClientValue, Made, Spot, Symbol

__all__ = ["Changes", "Fixed", "fix"]

PolicyOf = Callable[[Call], str | None]

SECONDS = 10
"""The limit that is added: to be looked at, like everything that a program writes."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A keyword argument of the call that starts and ends there (lines from 1, columns from 0, in bytes)."""

    start: tuple[int, int]
    end: tuple[int, int]
    name: str
    value: str
    in_place_of: tuple[str, ...] = ()
    """Arguments that are None, and get the value instead."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A line after the statement that starts in this one."""

    after: int
    text: str


@dataclass(frozen=True, slots=True)
class Decorator:
    """A policy on the function whose name stands in this line."""

    line: int
    name: str
    policy: str


@dataclass(slots=True)
class Changes:
    """Of one file."""

    arguments: list[Argument] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    decorators: list[Decorator] = field(default_factory=list)


@dataclass(slots=True)
class Fixed:
    """The new text of each file that changes; `left` are findings that are not fixed by a change of text."""

    before: dict[Path, str] = field(default_factory=dict)
    after: dict[Path, str] = field(default_factory=dict)
    encodings: dict[Path, str] = field(default_factory=dict)
    left: list[Finding] = field(default_factory=list)
    threads: dict[str, list[Call]] = field(default_factory=dict)
    """By the policies that they got, calls of plain functions that take no limit: only one in a thread ends them."""

    def patch(self) -> str:
        """For `git apply` and `patch -p1`, where the command was run."""
        parts: list[str] = []
        for path, text in self.after.items():
            name = _below(path)
            parts += difflib.unified_diff(_lines(self.before[path]), _lines(text), f"a/{name}", f"b/{name}")
        return "".join(part if part.endswith("\n") else f"{part}\n\\ No newline at end of file\n" for part in parts)

    def write(self) -> None:
        """Raises OSError."""
        for path, text in self.after.items():
            with path.open("w", encoding=self.encodings[path], newline="") as file:
                file.write(text)


def _below(path: Path) -> str:
    """Seen from the working directory; one that stands elsewhere from the root, without the slash."""
    whole, here = path.absolute(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole.relative_to(whole.anchor)).as_posix()


def _lines(text: str) -> list[str]:
    """As `patch` counts them: what Python takes for the end of a line beside "\\n" ends none."""
    return io.StringIO(text, newline="\n").readlines()


def fix(paths: Iterable[Path], options: Options, policy_of: PolicyOf | None = None) -> Fixed:
    """Changes that end what RA101 finds: limits, or with `policy_of`, which names the policy of a call (None: none
    fits), decorators, and limits too where a policy cannot interrupt what blocks. Nothing is written.

    Raises what `scan` raises. Files that do not parse are left as they are.
    """
    from resilient_agents.scan.edit import edited

    planned: dict[str, Changes] = {}
    fixed = Fixed()
    with undisturbed():
        scan = Scan(list(paths), options)
        try:
            for file in scan.reading.files:
                wanted = {(f.call.line, f.call.column): f for f in scan.look(file).findings if f.rule == "RA101"}
                for found in scan.found(file) if wanted else ():
                    finding = wanted.get((found.call.line, found.call.column))
                    if finding is not None and not _plan(scan, found, policy_of, planned, fixed.threads):
                        fixed.left.append(finding)
        finally:
            scan.close()
        for name, changes in planned.items():
            path = Path(name)
            content = path.read_bytes()
            encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0]
            text = content.decode(encoding)
            new = edited(text, changes)
            if new != text:
                fixed.before[path], fixed.after[path], fixed.encodings[path] = text, new, encoding
    return fixed


def _plan(
    scan: Scan,
    found: Found,
    policy_of: PolicyOf | None,
    planned: dict[str, Changes],
    threads: dict[str, list[Call]],
) -> bool:
    if policy_of is None:
        # What waits for what comes by itself would end with an error whenever nothing comes for so long.
        return not serves(found.seen, scan.resolver) and _limit(scan, found, planned)
    policy = policy_of(found.call)
    if policy is None or not _decorated(scan, found):
        return False
    if not awaitable(found.seen) and not _limit(scan, found, planned):
        if found.call.is_async:
            return False
        threads.setdefault(policy, []).append(found.call)
    return _decorate(scan, found, policy, planned)


def _limit(scan: Scan, found: Found, planned: dict[str, Changes]) -> bool:
    seen = found.seen
    operation, client, owner = seen.operation, seen.client, seen.owner
    made = owner.made if owner is not None else None
    if made is not None and made.before:  # what calls it may take no arguments by name
        made = None
    of_client = client.limit and made is not None and not found.call.limit_source.startswith("argument")
    if operation.limit and not seen.runner and not of_client:
        return _argument(scan, seen.spot, seen.site, operation.limit, operation.unit, planned)
    if owner is not None and made is not None and operation.client_limit:
        if maker := making(scan.known, owner):
            return _argument(scan, made.spot, made.site, maker.limit, maker.unit, planned)
        if client.setters or (client.options and operation.option and not client.limit):
            return _statement(scan, owner, made, operation.option, planned)
        if client.limit:
            return _argument(scan, made.spot, made.site, client.limit, client.unit, planned)
        if client.inherits and owner.of is not None and owner.of.made is not None and owner.of.client.limit:
            above = owner.of.made
            return _argument(scan, above.spot, above.site, owner.of.client.limit, owner.of.client.unit, planned)
    return False


def _changes(scan: Scan, spot: Spot, planned: dict[str, Changes]) -> Changes | None:
    """Those of a file that was read as it is."""
    path = spot.file.path
    if scan.reading.statuses[path].status != "read":
        return None
    return planned.setdefault(path, Changes())


def _argument(
    scan: Scan, spot: Spot, site: Site, names: tuple[str, ...], unit: str, planned: dict[str, Changes]
) -> bool:
    changes = _changes(scan, spot, planned)
    given = tuple(name for name in names if name in site.keywords)
    if changes is None or site.spread or site.starred or any(site.keywords[name] != ("const", None) for name in given):
        return False
    place = (site.line, site.column), (site.end_line, site.end_column)
    wanted = Argument(*place, names[0], _amount(unit), given)
    if wanted not in changes.arguments:
        changes.arguments.append(wanted)
    return True


def _amount(unit: str) -> str:
    return f"{SECONDS}_000" if unit == "ms" else str(SECONDS)


def _statement(scan: Scan, owner: ClientValue, made: Made, option: str, planned: dict[str, Changes]) -> bool:
    """`name.settimeout(10)` behind the statement that made the object and gave it a name."""
    changes = _changes(scan, made.spot, planned)
    scope = made.spot.within
    names = [
        (path, binding)
        for path in names_of(made.spot, made.number)
        for binding in scope.bindings.get(path, ())
        if _is_made_here(binding, made)
    ]
    if changes is None or not names or "[]" in names[0][0]:
        return False
    path, binding = names[0]
    setters = owner.client.setters
    if option and option not in setters:
        module = owner.client.library.name
        method = next((each for each in ("setsockopt", "setopt") if each in owner.client.options), "")
        if method and Symbol(module) not in scan.resolver.lookup(module, made.spot):
            return False
        amount = _amount(owner.client.unit)
        text = f"{path}.{method}({module}.{option}, {amount})" if method else f"{path}.{option} = {amount}"
    else:
        text = f"{path}.{option or next(iter(setters))}({SECONDS})"
    wanted = Statement(binding.line, text)
    if wanted not in changes.statements:
        changes.statements.append(wanted)
    return True


def _is_made_here(binding: Binding, made: Made) -> bool:
    return binding.value == ("call", made.number)


def _goes_on(scan: Scan, function: Scope, found: Found) -> bool:
    """Whether it is there to go on, so that a time limit of the whole function would end it: guard what one pass does.

    It has a `while True`, its call waits for what comes by itself, or a `while` makes it again and again.
    """
    if serves(found.seen, scan.resolver):
        return True
    endless = any(each.kind == "while" and each.about in (("const", True), ("const", 1)) for each in function.blocks)
    spot = found.seen.spot
    around = [each.about for each in spot.within.inside(found.seen.site.block) if each.kind == "while"]
    return endless or any(about is None or about[0] != "name" for about in around)  # `while items:` comes to an end


def _decorated(scan: Scan, found: Found) -> bool:
    """Whether its function can get a policy."""
    spot = found.seen.spot
    function = spot.file.form.function(spot.scope)
    if function is None or function.yields or found.call.protected_by is not None:
        return False
    if _hides_its_error(found) or _goes_on(scan, function, found):
        return False
    return scan.reading.statuses[spot.file.path].status == "read"


def _hides_its_error(found: Found) -> bool:
    """Whether a `try` around the call keeps its error inside: a policy around the function would see none."""
    around = found.seen.spot.within.inside(found.seen.site.block)
    return any(each.kind == "try" and each.about in (("const", REPLACED), ("const", DROPPED)) for each in around)


def _decorate(scan: Scan, found: Found, policy: str, planned: dict[str, Changes]) -> bool:
    spot = found.seen.spot
    changes, function = _changes(scan, spot, planned), spot.file.form.function(spot.scope)
    if changes is None or function is None:
        return False
    wanted = Decorator(function.line, function.name, policy)
    if not any((each.line, each.name) == (wanted.line, wanted.name) for each in changes.decorators):
        changes.decorators.append(wanted)
    return True
