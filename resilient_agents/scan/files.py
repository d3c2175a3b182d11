"""Which files a scan reads: Python files below the given paths, without what `.gitignore` leaves out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

__all__ = ["Missing", "python_files"]

NEVER = {".git", ".hg", ".svn", "__pycache__", "node_modules"}
SUFFIXES = (".py", ".pyw")
Rules = tuple[tuple[Path, GitIgnoreSpec], ...]


class Missing(ValueError):
    """A path that was asked for is not there."""


def python_files(paths: Iterable[Path], *, ignore: bool = True) -> list[str]:
    """The files, each once, in the order of their names. Raises Missing for a path that is not there.

    As texts: with ten thousand files, `Path` is most of the time.
    """
    found: dict[str, None] = {}
    for path in paths:
        if path.is_dir():
            rules = _outer(path) if ignore else ()
            found.update(dict.fromkeys(_below(os.fspath(path), rules, ignore)))
        elif path.exists():
            found[os.fspath(path)] = None
        else:
            raise Missing(f"{path} is not there")
    return list(found)


def _below(folder: str, rules: Rules, ignore: bool) -> Iterator[str]:
    """Links to folders are not followed, so that there are no loops."""
    if ignore:
        rules = (*rules, *_own(Path(folder)))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder  # so that the report says what is wrong with it
        return
    folders = []
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and (entry.name in NEVER or os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))):
            continue
        if not is_folder and not entry.name.endswith(SUFFIXES):
            continue
        if rules and _ignored(Path(entry.path), rules, is_folder):
            continue
        if is_folder:
            folders.append(entry.path)
        else:
            yield entry.path
    for each in folders:
        yield from _below(each, rules, ignore)


def _ignored(path: Path, rules: Rules, is_folder: bool) -> bool:
    """The last rule that speaks of it decides; those of inner folders come last."""
    for folder, spec in reversed(rules):
        relative = path.absolute().relative_to(folder).as_posix() + ("/" if is_folder else "")
        said = spec.check_file(relative).include
        if said is not None:
            return bool(said)
    return False


def _own(folder: Path) -> Rules:
    try:
        text = (folder / ".gitignore").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return ((folder.absolute(), GitIgnoreSpec.from_lines(text.splitlines())),)


def _outer(folder: Path) -> Rules:
    """The rules of the folders above it, up to the root of the repository."""
    found: list[Rules] = []
    for above in (folder.absolute(), *folder.absolute().parents):
        if above != folder.absolute():
            found.append(_own(above))
        if (above / ".git").exists():
            return tuple(rule for rules in reversed(found) for rule in rules)
    return ()
