"""Files of a scan, read where they have changed and else taken from the cache; several processes read many files.

Forms stay as they were made for so much source and no more; those of further files, and what other processes read,
are kept packed, here or in the cache. Each process unpacks those that it asks for, and keeps them up to as much source.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from resilient_agents.scan.cache import Cache, Stored
from resilient_agents.scan.form import Form
from resilient_agents.scan.index import Names, names_of
from resilient_agents.scan.packing import pack, unpack
from resilient_agents.scan.processes import in_processes, worth_processes
from resilient_agents.scan.records import FileStatus
from resilient_agents.scan.source import Unreadable, form_of, load, unreadable
from resilient_agents.scan.tree import SourceFile, module_parts

__all__ = ["UNPACKED", "Reading", "read_files", "shown"]

UNPACKED = 20_000_000
"""Bytes of source whose forms stay as they are, at some seven bytes of memory each. A packed form takes nine tenths of
a byte for each byte of source; to pack and unpack it takes four tenths of the time in which `ast` parses its file."""


class Unpacked:
    """The files whose forms a process has unpacked."""

    def __init__(self) -> None:
        self.files: list[SourceFile] = []
        self.size = 0
        """Bytes of their source."""


class Reading(NamedTuple):
    files: list[SourceFile]
    statuses: dict[str, FileStatus]
    hashes: dict[str, bytes]
    unpacked: Unpacked

    def forget(self) -> None:
        """Of the forms that were unpacked, if they are too many: each is unpacked again when it is asked for."""
        if self.unpacked.size > UNPACKED:
            for file in self.unpacked.files:
                file.forget()
            self.unpacked.files.clear()
            self.unpacked.size = 0


def shown(path: str) -> str:
    """As it is given in reports: from here, if it stands below."""
    absolute, here = os.path.abspath(path), _here()
    return absolute[len(here) :].replace(os.sep, "/") if absolute.startswith(here) else absolute


def _here() -> str:
    return os.path.join(os.getcwd(), "")


def read_files(paths: Sequence[str], cache: Cache | None, jobs: int) -> Reading:
    """All files; the forms of many are made when they are asked for."""
    known = cache.stored() if cache is not None else {}
    reading = Reading([], {}, {}, Unpacked())
    fresh: list[tuple[str, str]] = []
    kept: dict[str, tuple[Stored, Form | bytes | None]] = {}
    named = [(path, shown(path)) for path in paths]
    for path, name in named:
        stored = known.get(name)
        if stored is not None and stored.stamp == _stamp(path):
            kept[name] = stored, None
        else:
            fresh.append((path, name))
    for name, stored, form in _read(fresh, known, cache, jobs):
        kept[name] = stored, form
    for path, name in named:
        stored, form = kept[name]
        reading.statuses[stored.path] = FileStatus(stored.path, stored.status, stored.reason)
        reading.hashes[stored.path] = stored.hash
        reading.files.append(_file(path, stored, form, cache, reading.unpacked))
    return reading


def _file(path: str, stored: Stored, form: Form | bytes | None, cache: Cache | None, unpacked: Unpacked) -> SourceFile:
    packed = form if isinstance(form, bytes) else None

    def make() -> Form:
        unpacked.files.append(file)
        unpacked.size += stored.size
        data = packed if packed is not None or cache is None else cache.form(stored.path)
        try:
            return unpack(data or b"")
        except (EOFError, TypeError, ValueError):
            return _form(path, stored.path)[1]

    file = SourceFile(stored.path, module_parts(os.path.abspath(path)), make, lambda: Names.from_text(stored.names))
    if isinstance(form, Form):
        file.form = form
    return file


def _read(
    fresh: list[tuple[str, str]], known: dict[str, Stored], cache: Cache | None, jobs: int
) -> Iterator[tuple[str, Stored, Form | bytes | None]]:
    """What is not in the cache, and what is there under another time; None for a form that is in the cache now."""
    same: list[Stored] = []
    changed: list[tuple[str, str]] = []
    for path, name in fresh:
        old = known.get(name)
        if old is not None and old.hash == _hash(path):
            same.append(old._replace(stamp=_stamp(path)))
            yield name, same[-1], None
        else:
            changed.append((path, name))
    if same and cache is not None:
        cache.restamp(same)
    unpacked = 0 if worth_processes(changed, jobs) else _within(UNPACKED, changed)
    for read in in_processes(_forms, changed[:unpacked], 1):
        if cache is not None:
            cache.keep(_packed(read))
        for stored, form in read:
            yield stored.path, stored, form
    for rows in in_processes(lambda files: _packed(_forms(files)), changed[unpacked:], jobs):
        if cache is not None:
            cache.keep(rows)
        for stored, data in rows:
            yield stored.path, stored, data if cache is None else None


def _within(size: int, files: Sequence[tuple[str, str]]) -> int:
    """How many of the files, from the first on, are no larger than that in all."""
    for count, (path, _) in enumerate(files):
        with contextlib.suppress(OSError):
            size -= os.stat(path).st_size
        if size < 0:
            return count
    return len(files)


def _forms(files: Sequence[tuple[str, str]]) -> list[tuple[Stored, Form]]:
    return [_form(path, name) for path, name in files]


def _packed(read: Sequence[tuple[Stored, Form]]) -> list[tuple[Stored, bytes]]:
    return [(stored, pack(form)) for stored, form in read]


def _form(path: str, name: str) -> tuple[Stored, Form]:
    stamp = _stamp(path)  # before it is read: what is written meanwhile is read again next time
    try:
        content = load(path)
        form, status = form_of(name, content)
    except Unreadable as error:
        content = b""
        form, status = unreadable(name, str(error))
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Stored(name, stamp, digest, status.status, status.reason, names_of(form).as_text()), form


def _stamp(path: str) -> str:
    try:
        said = os.stat(path)
    except OSError:
        return ""
    return f"{said.st_mtime_ns} {said.st_ctime_ns} {said.st_size} {said.st_ino}"


def _hash(path: str) -> bytes:
    try:
        return hashlib.blake2b(load(path), digest_size=16).digest()
    except Unreadable:
        return b""
