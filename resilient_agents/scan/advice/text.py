"""Advice for people: totals first, then dependencies, worst first, then files and the formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from resilient_agents.scan.advice.advise import Advice, Advised
from resilient_agents.scan.advice.score import FORMULA, HIGH, MEDIUM, PRIORITIES, TERMS
from resilient_agents.scan.counts import counted

__all__ = ["as_text", "summary"]


def as_text(advice: Advice) -> str:
    return "\n".join(_lines(advice)) + "\n"


def _lines(advice: Advice) -> Iterator[str]:
    yield from summary(advice)
    for each in advice.dependencies:
        yield ""
        yield from _dependency(each)
    if advice.files:
        yield ""
        yield "By file:"
        for file in advice.files:
            patterns, calls = ", ".join(file.candidates) or "none", counted(file.calls, "call")
            yield f"  {file.path}: {file.priority} (score {file.score.value}), {calls}; candidates: {patterns}"
    yield ""
    yield f"{FORMULA}; high from {HIGH}, medium from {MEDIUM}"
    yield from (f"  {name}: {why}" for name, (_, why) in TERMS.items())
    yield from (f"warning: {warning}" for warning in advice.warnings)


def summary(advice: Advice) -> Iterator[str]:
    """Totals: files, those that could not be read with the reason, dependencies, candidates."""
    totals = advice.totals()
    read = totals["files"]
    parts = ", ".join(f"{read[status]} {status}" for status in ("read", "repaired", "unreadable"))
    yield (
        f"{counted(sum(read.values()), 'file')}: {parts}; {totals['files_with_calls']} with external calls, "
        f"{totals['high_priority_files']} of high priority"
    )
    yield from (f"  {s.path}: {s.reason}" for s in advice.statuses if s.status == "unreadable")
    if not advice.dependencies:
        yield "no external calls were found"
        return
    priorities = Counter(each.score.priority for each in advice.dependencies)
    by_priority = ", ".join(f"{priorities[priority]} {priority}" for priority in PRIORITIES)
    yield f"{counted(len(advice.dependencies), 'dependency', 'dependencies')} by priority: {by_priority}"
    candidates = ", ".join(f"{pattern} {count}" for pattern, count in totals["candidates"].items())
    yield f"files that are candidates: {candidates}"


def _dependency(each: Advised) -> Iterator[str]:
    it = each.dependency
    via = "" if it.libraries == [it.name] else f", by {', '.join(it.libraries)}"
    place = f", where {' or '.join(it.variables)} says" if it.variables else ""
    yield f"{it.name} ({it.target.kind}{via}{place}): {each.score.priority}, score {each.score.value}"
    terms = " + ".join(f"{TERMS[name][0]} x {number}" for name, number in each.score.terms.items())
    it_has = each.figures
    serving = f"{it_has['wait_for_what_comes']} waiting for what comes by itself, " if it.serving else ""
    yield (
        f"  {counted(it_has['calls'], 'call')} in {counted(len(it.files), 'file')}: "
        f"{it_has['can_wait_for_ever']} can wait for ever, "
        f"{it_has['in_loops']} in loops, {it_has['in_async']} in async code, {serving}"
        f"{it_has['protected']} protected  [{terms}]"
    )
    if not it.waiting:
        yield f"  - {each.verdicts[0].why}"
        return
    for verdict in each.verdicts:
        yield f"  {'+' if verdict.candidate else '-'} {verdict.pattern}: {verdict.why}"
