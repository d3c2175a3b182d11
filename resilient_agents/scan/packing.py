"""Forms as bytes: to be kept by the thousand, in a cache or for one run, and to be handed from one process to another.

`marshal` of plain tuples, since `pickle` takes twice as long to write its objects. What is written is read by the same
Python, in this run or from a cache that is of one version only. What stands in a scope is packed by itself: of most
files that are asked for, a few functions are.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import tempfile
from functools import partial
from operator import attrgetter
from typing import IO, Any

from resilient_agents.scan.form import Binding, Block, Body, Form, Outline, Parameter, Scope, Site
from resilient_agents.scan.index import outline_of

__all__ = ["Packed", "pack", "unpack"]

SITE = attrgetter(*Site.__slots__)
HEAD = ("kind", "name", "parent", "line", "is_async", "decorators", "bases", "returns", "yields")
"""What is known of a scope without what stands in it, beside its parameters."""
ABOUT = attrgetter(*HEAD)


def pack(form: Form) -> bytes:
    """Empty for a form that is nested too deeply to be packed."""
    try:
        scopes = [_plain(scope) for scope in form.scopes]
        return marshal.dumps((scopes, form.stars, form.imported, form.comments, tuple(outline_of(form))))
    except ValueError:
        return b""


def unpack(data: bytes) -> Form:
    """Raises EOFError, TypeError or ValueError for what is no packed form."""
    scopes, stars, imported, comments, outline = marshal.loads(data)
    return Form([_scope(*each) for each in scopes], stars, imported, comments, Outline(*outline))


class Packed:
    """Forms that were packed for this run, in a file without a name that ends with it.

    Only the process that made it adds to it; its forks read. What cannot be kept is none.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        self._owner = os.getpid()

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def keep(self, path: str, form: bytes) -> None:
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open for as long as this object
            self._file.seek(self._end)
            self._file.write(form)
            self._file.flush()
            self._places[path] = self._end, len(form)
            self._end += len(form)

    def form(self, path: str) -> bytes | None:
        """As it was packed."""
        place = self._places.get(path)
        if place is None or self._file is None:
            return None
        start, size = place
        with contextlib.suppress(OSError, ValueError):
            return os.pread(self._file.fileno(), size, start)
        return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _plain(scope: Scope) -> tuple[Any, ...]:
    body = (
        {path: [tuple(each) for each in given] for path, given in scope.bindings.items()},
        [SITE(each) for each in scope.calls],
        [tuple(each) for each in scope.results],
        [tuple(each) for each in scope.blocks],
    )
    return ABOUT(scope), [tuple(each) for each in scope.parameters], marshal.dumps(body)


def _scope(about: tuple[Any, ...], parameters: list[tuple[Any, ...]], body: bytes) -> Scope:
    scope = Scope.__new__(Scope)
    for name, value in zip(HEAD, about, strict=True):
        setattr(scope, name, value)
    scope.parameters = tuple([Parameter(*each) for each in parameters])
    scope.body = partial(_body, body)
    return scope


def _body(data: bytes) -> Body:
    bindings, calls, results, blocks = marshal.loads(data)
    return (
        {path: [Binding(*each) for each in given] for path, given in bindings.items()},
        [Site(*each) for each in calls],
        [Binding(*each) for each in results],
        [Block(*each) for each in blocks],
    )
