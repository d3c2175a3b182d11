"""The lines that have changed since a revision, as git tells them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Changed", "GitError", "changed_since", "touches"]

HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")
PLAIN = ("--no-color", "--no-ext-diff", "--no-prefix")
NEW = ("--others", "--exclude-standard", "--full-name")
PYTHON = ("*.py", "*.pyw")
Changed = dict[Path, list[range] | None]
"""Lines by resolved path; None for a file that is new as a whole."""


class GitError(ValueError):
    """git could not say; the message is its own."""


def changed_since(revision: str, paths: Iterable[Path]) -> Changed:
    """What differs from the revision in the working tree, below these paths. Raises GitError."""
    found: Changed = {}
    for path in paths:
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        top = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
        if revision.startswith("-"):
            raise GitError(f"{revision!r} is not a revision")
        diff = _git(folder, "diff", "--unified=0", *PLAIN, revision, "--", *PYTHON)
        current: list[range] | None = None
        for line in diff.splitlines():
            if line.startswith("+++ "):
                name = line[4:].strip()
                current = None if name == "/dev/null" else []
                if current is not None:
                    found[top / name] = current
            elif (match := HUNK.match(line)) and current is not None:
                start, count = int(match[1]), int(match[2] or 1)
                current.append(range(start, start + count))
        for name in _git(folder, "ls-files", *NEW, "-z", "--", *PYTHON).split("\0"):
            if name:
                found[top / name] = None
    return found


def touches(changed: Changed, path: Path, first: int, last: int) -> bool:
    lines = changed.get(path, [])
    return lines is None or any(each.start <= last and first < each.stop for each in lines)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-c", "core.quotePath=off", *arguments],
            cwd=folder,
            capture_output=True,
            timeout=60,
            check=True,
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise GitError("git did not answer within 60 s") from error
    except subprocess.CalledProcessError as error:
        raise GitError(error.stderr.decode("utf-8", "replace").strip() or f"git {arguments[0]} failed") from error
    return done.stdout.decode("utf-8", "replace")
