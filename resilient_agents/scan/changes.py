"""The lines that have changed since a revision, as git tells them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["Changed", "GitError", "changed_since", "touches"]

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
PLAIN = ("--no-color", "--no-ext-diff", "--no-prefix", "--find-renames")
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
        diff = _git(folder, "diff", "--unified=0", *PLAIN, _tree(folder, revision), "--", *PYTHON)
        for name, changed in _hunks(diff):
            found.setdefault(top / name, [])
            lines = found[top / name]
            if lines is not None:
                lines.append(changed)
        for name in _git(folder, "ls-files", *NEW, "-z", "--", *PYTHON).split("\0"):
            if name:
                found[top / name] = None
    return found


def _tree(folder: Path, revision: str) -> str:
    """The revision; for the HEAD of a repository without commits a tree without files."""
    if revision != "HEAD" or _git(folder, "rev-list", "--max-count=1", "--all").strip():
        return revision
    return _git(folder, "hash-object", "-t", "tree", os.devnull).strip()


def _hunks(diff: str) -> Iterator[tuple[str, range]]:
    """(file, lines of it that are new) for each hunk of a diff without context."""
    name, inside = "", 0
    for line in diff.split("\n"):
        if inside and line[:1] in ("+", "-"):  # what a line says may look like a head
            inside -= 1
        elif line.startswith("+++ "):
            name = line[4:].strip()
            if name.startswith('"'):  # it has a tab, a quote or a backslash
                name = str(ast.literal_eval(name))
        elif match := HUNK.match(line):
            start, count = int(match[2]), int(match[3] or 1)
            inside = int(match[1] or 1) + count
            yield name, range(start, start + count)


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
