"""A report for people: the summary first, then the findings by dependency, then what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from resilient_agents.scan.counts import counted
from resilient_agents.scan.records import Report

__all__ = ["as_text"]


def as_text(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    limits = Counter(call.limit for call in report.calls)
    only = "" if report.since is None else f" in files changed since {report.since}, findings in changed lines only"
    yield (
        f"{counted(len(report.calls), 'external call')}{only}: {limits['none']} can wait for ever, "
        f"{limits['explicit']} limited by the code, {limits['default']} by the library, "
        f"{limits['never_waits']} never waiting, {limits['unknown']} unknown"
    )
    if report.findings:
        rules = Counter(finding.rule for finding in report.findings)
        said = ", ".join(f"{number} {rule}" for rule, number in sorted(rules.items()))
        yield f"{counted(len(report.findings), 'finding')}: {said}"
    dependencies = Counter(finding.call.dependency for finding in report.findings)
    for dependency, _ in sorted(dependencies.items(), key=lambda each: (-each[1], each[0])):
        calls = sum(call.dependency == dependency for call in report.calls)
        yield ""
        yield f"{dependency}: {counted(dependencies[dependency], 'finding')}, {counted(calls, 'call')}"
        for finding in report.findings:
            if finding.call.dependency == dependency:
                call = finding.call
                yield f"  {call.path}:{call.line}:{call.column} {finding.rule} {finding.message}"
    yield ""
    yield (
        f"{counted(len(report.files), 'file')}: {report.count('read')} read, {report.count('repaired')} repaired, "
        f"{report.count('unreadable')} unreadable"
    )
    yield from (f"  {file.path}: {file.reason}" for file in report.files if file.status == "unreadable")
    yield from (f"warning: {warning}" for warning in report.warnings)
