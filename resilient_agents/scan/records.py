"""What a scan says: calls, findings, and what became of each file. The JSON is made of these and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["VERSION", "Call", "FileStatus", "Finding", "Limit", "Report"]

VERSION = 1
"""Of the JSON."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What ends a call: one of the five values, where that is said, and how sure it is."""

    value: str
    source: str = ""
    confidence: str = "certain"


@dataclass(frozen=True, slots=True)
class Call:
    """An external call."""

    path: str
    line: int
    column: int
    """From 1."""
    kind: str
    callee: str
    dependency: str
    function: str | None
    """The innermost `def`; None at the top of a module."""
    is_async: bool
    """Whether that is an `async def`."""
    in_try: bool
    in_loop: bool
    limit: str
    limit_source: str
    protected_by: str | None
    confidence: str
    scope: str = ""
    """The function with the classes and functions around it."""
    end_line: int = 0

    @property
    def has_timeout(self) -> bool | None:
        return {"explicit": True, "none": False}.get(self.limit)

    def as_data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "kind": self.kind,
            "callee": self.callee,
            "dependency": self.dependency,
            "function": self.function,
            "async": self.is_async,
            "in_try": self.in_try,
            "in_loop": self.in_loop,
            "limit": self.limit,
            "limit_source": self.limit_source,
            "has_timeout": self.has_timeout,
            "protected_by": self.protected_by,
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a call breaks."""

    rule: str
    message: str
    call: Call
    fingerprint: str = ""

    def as_data(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "message": self.message,
            "fingerprint": self.fingerprint,
            "call": self.call.as_data(),
        }


@dataclass(frozen=True, slots=True)
class FileStatus:
    """`status` is read, repaired or unreadable; `reason` says why not read."""

    path: str
    status: str
    reason: str = ""


@dataclass(slots=True)
class Report:
    calls: list[Call] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: list[FileStatus] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What the scan could not use: a wrong table entry, an ignore comment that ignores nothing."""
    since: str | None = None
    """The revision since which files must have changed to be counted."""

    def count(self, status: str) -> int:
        return sum(file.status == status for file in self.files)

    def as_data(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "calls": [call.as_data() for call in self.calls],
            "findings": [finding.as_data() for finding in self.findings],
            "files": {
                **{status: self.count(status) for status in ("read", "repaired", "unreadable")},
                "repaired_files": [file.path for file in self.files if file.status == "repaired"],
                "unreadable_files": {file.path: file.reason for file in self.files if file.status == "unreadable"},
            },
            "warnings": self.warnings,
        }
