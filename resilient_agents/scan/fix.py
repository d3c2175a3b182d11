"""What has to change so that a finding is gone: which argument, which option, which decorator, in which file."""

from __future__ import annotations

import difflib
import io
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from resilient_agents.scan.effects import serves
from resilient_agents.scan.form import Scope
from resilient_agents.scan.guards import awaitable
from resilient_agents.scan.handlers import DROPPED, REPLACED
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.limiting import changes_of, limited
from resilient_agents.scan.records import Call, Finding
from resilient_agents.scan.run import Options, Scan, undisturbed
from resilient_agents.scan.wanted import Changes, Decorator

__all__ = ["Fixed", "fix"]

PolicyOf = Callable[[Call], str | None]


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
                wanted = {_place(f.call): f for f in scan.look(file).findings if f.rule == "RA101"}
                for found in scan.found(file) if wanted else ():
                    finding = wanted.get(_place(found.call))
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


def _place(call: Call) -> tuple[int, int, str]:
    """A call that is made on the answer of another starts where that does."""
    return call.line, call.column, call.callee


def _plan(
    scan: Scan,
    found: Found,
    policy_of: PolicyOf | None,
    planned: dict[str, Changes],
    threads: dict[str, list[Call]],
) -> bool:
    if policy_of is None:
        # What waits for what comes by itself would end with an error whenever nothing comes for so long.
        return not serves(found.seen, scan.resolver) and limited(scan, found, planned)
    policy = policy_of(found.call)
    if policy is None or not _decorated(scan, found):
        return False
    if not awaitable(found.seen) and not limited(scan, found, planned):
        if found.call.is_async:
            return False
        threads.setdefault(policy, []).append(found.call)
    return _decorate(scan, found, policy, planned)


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
    changes, function = changes_of(scan, spot, planned), spot.file.form.function(spot.scope)
    if changes is None or function is None:
        return False
    wanted = Decorator(function.line, function.name, policy)
    if not any((each.line, each.name) == (wanted.line, wanted.name) for each in changes.decorators):
        changes.decorators.append(wanted)
    return True
