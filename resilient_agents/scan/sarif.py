"""A report as SARIF 2.1.0, and as the annotations that GitHub shows beside the lines of a pull request."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from resilient_agents.scan.records import Finding, Report
from resilient_agents.scan.rules import RULES

__all__ = ["MOST", "as_annotations", "as_sarif"]

MOST = 5000
"""Results that GitHub takes of one run; the worst come first."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(report: Report, version: str) -> dict[str, Any]:
    ids = list(RULES)
    worst = sorted(report.findings, key=lambda each: (ids.index(each.rule), each.call.confidence != "certain"))
    rules = [_rule(name) for name in ids]
    unreadable = [f"{file.path}: {file.reason}" for file in report.files if file.status == "unreadable"]
    notes = [{"level": "warning", "message": {"text": text}} for text in (*unreadable, *report.warnings)]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "resilient-agents", "version": version, "rules": rules}},
                "columnKind": "utf16CodeUnits",
                "results": [_result(finding, ids) for finding in worst[:MOST]],
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": notes,
                    }
                ],
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "help": {"text": f"See the page about rules of scan, {name}."},
        "defaultConfiguration": {"enabled": rule.default, "level": "warning"},
    }


def _result(finding: Finding, ids: list[str]) -> dict[str, Any]:
    call = finding.call
    return {
        "ruleId": finding.rule,
        "ruleIndex": ids.index(finding.rule),
        "level": "warning",
        "message": {"text": finding.message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(os.fsencode(call.path))},
                    "region": {"startLine": call.line, "startColumn": call.column},
                }
            }
        ],
        "partialFingerprints": {"resilientAgents/v1": finding.fingerprint},
    }


def as_annotations(report: Report) -> str:
    """Workflow commands, one a finding."""
    lines = []
    for finding in report.findings:
        call = finding.call
        place = f"file={_property(call.path)},line={call.line},col={call.column},title={finding.rule}"
        lines.append(f"::warning {place}::{_escaped(finding.message)}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
