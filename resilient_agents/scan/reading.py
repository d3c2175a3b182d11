"""Files of a scan, read where they have changed and else taken from the cache; several processes read many files.

Forms stay as they are for so much source and no more. Those of further files, and what other processes read, are kept
packed, in the cache or else in a file without a name. Each process unpacks those that it asks for, and drops those that
it has had for longest.
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
from resilient_agents.scan.packing import Packed, pack, unpack
from resilient_agents.scan.processes import in_processes, worth_processes
from resilient_agents.scan.records import FileStatus
from resilient_agents.scan.source import Unreadable, form_of, load, unreadable
from resilient_agents.scan.tree import SourceFile, module_parts

__all__ = ["UNPACKED", "Reading", "read_files", "shown"]

UNPACKED = 20_000_000
"""Bytes of source whose forms stay as they are, at some nine bytes of memory each. A packed form takes nine tenths of
a byte for each byte of source; to pack it takes a seventh of the time in which `ast` parses its file, to unpack it as
much again, or less where little of it is asked for."""
SPARSE = 3
"""Bytes of source of an unpacked form that count as one until it is looked at: most of it stays packed."""


class Forms:
    """Those of all files: unpacked where they are wanted, for so much source and no more, and packed."""

    def __init__(self, cache: Cache | None) -> None:
        self.unpacked: dict[SourceFile, int] = {}
        """Those that this process has, and what they count, the one that it has had for longest first."""
        self._cache = cache
        self._packed = Packed()
        """What is not in the cache, where there is none."""

    def unpack(self, file: SourceFile) -> Form | None:
        """None for one that is not here, to be read again."""
        packed = self._packed if self._cache is None else self._cache
        try:
            return unpack(packed.form(file.path) or b"")
        except (EOFError, TypeError, ValueError):
            return None

    def keep(self, path: str, form: bytes) -> None:
        if self._cache is None:
            self._packed.keep(path, form)

    def use(self, file: SourceFile, *, whole: bool) -> None:
        """It was unpacked, and all of it was if it is whole."""
        self.unpacked.pop(file, None)
        self.unpacked[file] = file.size if whole else file.size // SPARSE

    def forget(self) -> None:
        """Of those that are unpacked what is too much: each is unpacked again when it is asked for."""
        left = sum(self.unpacked.values())
        while left > UNPACKED:
            file = next(iter(self.unpacked))
            left -= self.unpacked.pop(file)
            if self._cache is None and file.path not in self._packed:
                self._packed.keep(file.path, pack(file.form))
            file.forget()

    def close(self) -> None:
        """Everything; what is still wanted is read again."""
        for file in self.unpacked:
            file.forget()
        self.unpacked.clear()
        self._packed.close()


class Reading(NamedTuple):
    files: list[SourceFile]
    statuses: dict[str, FileStatus]
    hashes: dict[str, bytes]
    forms: Forms


def shown(path: str) -> str:
    """As it is given in reports: from here, if it stands below."""
    absolute, here = os.path.abspath(path), _here()
    return absolute[len(here) :].replace(os.sep, "/") if absolute.startswith(here) else absolute


def _here() -> str:
    return os.path.join(os.getcwd(), "")


def read_files(paths: Sequence[str], cache: Cache | None, jobs: int) -> Reading:
    """All files; the forms of many are made when they are asked for."""
    known = cache.stored() if cache is not None else {}
    reading = Reading([], {}, {}, Forms(cache))
    fresh: list[tuple[str, str]] = []
    kept: dict[str, tuple[Stored, Form | None]] = {}
    named = [(path, shown(path)) for path in paths]
    for path, name in named:
        stored = known.get(name)
        if stored is not None and stored.stamp == _stamp(path):
            kept[name] = stored, None
        else:
            fresh.append((path, name))
    for stored, form in _read(fresh, known, cache, jobs):
        if isinstance(form, bytes):
            reading.forms.keep(stored.path, form)
        kept[stored.path] = stored, form if isinstance(form, Form) else None
    for path, name in named:
        stored, form = kept[name]
        reading.statuses[stored.path] = FileStatus(stored.path, stored.status, stored.reason)
        reading.hashes[stored.path] = stored.hash
        reading.files.append(_file(path, stored, form, reading.forms))
    return reading


def _file(path: str, stored: Stored, form: Form | None, forms: Forms) -> SourceFile:
    def make() -> Form:
        form = forms.unpack(file)
        forms.use(file, whole=form is None)
        return form or _form(path, stored.path)[1]

    def make_names() -> Names:
        return Names.from_text(names) if names else names_of(file.form)

    parts, names = module_parts(os.path.abspath(path)), stored.names
    file = SourceFile(stored.path, parts, stored.size, make, make_names)
    if form is not None:
        file.form = form
        forms.use(file, whole=True)
    return file


def _read(
    fresh: list[tuple[str, str]], known: dict[str, Stored], cache: Cache | None, jobs: int
) -> Iterator[tuple[Stored, Form | bytes | None]]:
    """What is not in the cache, and what is there under another time; None for a form that is in the cache now."""
    same: list[Stored] = []
    changed: list[tuple[str, str]] = []
    for path, name in fresh:
        old = known.get(name)
        if old is not None and old.hash == _hash(path):
            same.append(old._replace(stamp=_stamp(path)))
            yield same[-1], None
        else:
            changed.append((path, name))
    if same and cache is not None:
        cache.restamp(same)
    unpacked = 0 if worth_processes(changed, jobs) else _within(UNPACKED, changed)
    for read in in_processes(_forms, changed[:unpacked], 1):
        if cache is not None:
            cache.keep(_packed(read))
        for stored, form in read:
            yield stored, form
    for rows in in_processes(lambda files: _packed(_forms(files)), changed[unpacked:], jobs):
        if cache is not None:
            cache.keep(rows)
        for stored, data in rows:
            yield stored, data


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
    return [(stored._replace(names=names_of(form).as_text()), pack(form)) for stored, form in read]


def _form(path: str, name: str) -> tuple[Stored, Form]:
    stamp = _stamp(path)  # before it is read: what is written meanwhile is read again next time
    try:
        content = load(path)
        form, status = form_of(name, content)
    except Unreadable as error:
        content = b""
        form, status = unreadable(name, str(error))
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Stored(name, stamp, digest, status.status, status.reason, ""), form


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
