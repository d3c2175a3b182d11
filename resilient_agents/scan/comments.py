"""`# resilient: ignore[RA101]`: findings that somebody has looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable

from resilient_agents.scan.form import Form
from resilient_agents.scan.records import Finding

__all__ = ["without_ignored"]

IGNORE = re.compile(r"#\s*resilient:\s*ignore(?:\[(?P<rules>[^\]]*)\])?")


def without_ignored(path: str, form: Form, findings: Iterable[Finding]) -> tuple[list[Finding], list[str]]:
    """(findings that no comment in a line of their call ignores, what is to be said about comments)."""
    wanted: dict[int, set[str]] = {}
    for line, text in form.comments.items():
        match = IGNORE.search(text)
        if match is not None:
            wanted[line] = {rule.strip() for rule in (match["rules"] or "").split(",")} - {""} or {""}
    if not wanted:
        return list(findings), []
    used: set[tuple[int, str]] = set()
    left = []
    for finding in findings:
        ignored = False
        for line in range(finding.call.line, max(finding.call.end_line, finding.call.line) + 1):
            for rule in ("", finding.rule):
                if rule in wanted.get(line, ()):
                    used.add((line, rule))
                    ignored = True
        if not ignored:
            left.append(finding)
    unused = sorted({(line, rule) for line, rules in wanted.items() for rule in rules} - used)
    return left, [f"{path}:{line}: ignore{f'[{rule}]' if rule else ''} ignores nothing" for line, rule in unused]
