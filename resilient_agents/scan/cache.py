"""What was read and found before: forms of files by their content, and whole reports.

One SQLite file for what is scanned together. A cache that cannot be used is none: nothing fails because of it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from resilient_agents.scan.records import Report

__all__ = ["Cache", "Stored", "default_folder"]

UNUSABLE = (sqlite3.Error, OSError, pickle.PickleError, EOFError, AttributeError, ImportError, TypeError, ValueError)
KEPT = 5
"""Reports of one tree."""
TABLES = """
create table if not exists files
    (path text primary key, stamp text, hash blob, status text, reason text, names text, form blob);
create table if not exists reports (key text primary key, report blob);
"""


class Stored(NamedTuple):
    """A file without its form."""

    path: str
    stamp: str
    """Times, size and number of the file: as long as they are the same, the content is."""
    hash: bytes
    status: str
    reason: str
    names: str
    """What its form says about names, for the index; "" as long as that form is kept as it is."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(self.stamp.split()[2]) if self.stamp else 0


def default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "resilient-agents" / "scan"


@functools.cache
def _layout() -> str:
    """Changes with what is stored: the code of this package."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class Cache:
    """The cache for one set of paths."""

    def __init__(self, folder: Path, roots: Iterable[Path]) -> None:
        names = [os.fspath(root.absolute()) for root in roots]
        text = "\0".join((_layout(), sys.version, os.getcwd(), *names))
        self.path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.sqlite"
        self._connections: dict[int, sqlite3.Connection] = {}
        self._closed = False

    def _database(self) -> sqlite3.Connection:
        """One connection a process: a fork must neither use nor close that of its parent."""
        if self._closed:  # whoever still wants a form reads the file: nobody would close another connection
            raise sqlite3.ProgrammingError("closed")
        known = self._connections.get(os.getpid())
        if known is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            known = sqlite3.connect(self.path, timeout=1.0)
            try:
                known.execute("pragma synchronous = off")
                known.executescript(TABLES)
            except sqlite3.Error:  # it is no database, or none of ours
                known.close()
                raise
            self._connections[os.getpid()] = known
        return known

    def stored(self) -> dict[str, Stored]:
        try:
            rows = self._database().execute("select path, stamp, hash, status, reason, names from files").fetchall()
        except UNUSABLE:
            return {}
        return {row[0]: Stored(*row) for row in rows}

    def form(self, path: str) -> bytes | None:
        """Packed."""
        try:
            row = self._database().execute("select form from files where path = ?", (path,)).fetchone()
        except UNUSABLE:
            return None
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def keep(self, rows: Iterable[tuple[Stored, bytes]]) -> None:
        values = [(*stored, form) for stored, form in rows]
        self._write("insert or replace into files values (?, ?, ?, ?, ?, ?, ?)", values)

    def restamp(self, rows: Iterable[Stored]) -> None:
        self._write("update files set stamp = ? where path = ?", [(row.stamp, row.path) for row in rows])

    def report(self, key: str) -> Report | None:
        try:
            row = self._database().execute("select report from reports where key = ?", (key,)).fetchone()
            report = pickle.loads(row[0]) if row is not None else None
        except UNUSABLE:
            return None
        return report if isinstance(report, Report) else None

    def keep_report(self, key: str, report: Report) -> None:
        self._write("insert or replace into reports values (?, ?)", [(key, pickle.dumps(report))])
        oldest = "select rowid from reports order by rowid desc limit -1 offset ?"
        self._write(f"delete from reports where rowid in ({oldest})", [(KEPT,)])

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            database = self._database()
            database.executemany(statement, rows)
            database.commit()
        except UNUSABLE:
            return

    def close(self) -> None:
        """From now on there is nothing in it, and nothing is kept."""
        self._closed = True
        for connection in self._connections.values():
            connection.close()
        self._connections = {}
