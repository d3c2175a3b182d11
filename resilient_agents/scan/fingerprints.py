"""What a finding is recognised by when lines have moved, and baselines, which are files of these."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from resilient_agents.scan.records import Call, Finding

__all__ = ["BaselineError", "fingerprinted", "new_since", "read_baseline", "write_baseline"]

VERSION = 1


class BaselineError(ValueError):
    """A baseline cannot be used; the message says which and why."""


def fingerprinted(findings: Iterable[tuple[str, str, Call]]) -> list[Finding]:
    """Of what is found in one file, by (rule, message, call): the fingerprint of a finding is made of rule, callee,
    function, and the how-manieth of these it is.
    """
    seen: dict[str, int] = {}
    found = []
    for rule, message, call in findings:
        key = f"{rule}\0{call.callee}\0{call.scope}"
        count = seen[key] = seen.get(key, 0) + 1
        digest = hashlib.sha256(f"{key}\0{count}".encode()).hexdigest()
        found.append(Finding(rule, message, call, digest[:32]))
    return found


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Write what is found now. Raises OSError."""
    entries = [
        {
            "fingerprint": finding.fingerprint,
            "rule": finding.rule,
            "path": finding.call.path,
            "callee": finding.call.callee,
            "function": finding.call.scope,
        }
        for finding in findings
    ]
    path.write_text(json.dumps({"version": VERSION, "findings": entries}, indent=1) + "\n", encoding="utf-8")


def read_baseline(path: Path) -> Counter[str]:
    """How often each fingerprint stands in a baseline. Raises BaselineError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"cannot read the baseline {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"the baseline {path} is not JSON: {error}") from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        raise BaselineError(f"the baseline {path} is of version {version!r}, and this reads {VERSION}; write it anew")
    try:
        return Counter(str(entry["fingerprint"]) for entry in data["findings"])
    except (KeyError, TypeError) as error:
        raise BaselineError(f"the baseline {path} has no list of fingerprints; write it anew") from error


def new_since(baseline: Counter[str], findings: Iterable[Finding]) -> list[Finding]:
    """Findings that the baseline does not have; a finding in a file that was moved is not new."""
    left = Counter(baseline)
    found = []
    for finding in findings:
        if left[finding.fingerprint]:
            left[finding.fingerprint] -= 1
        else:
            found.append(finding)
    return found
