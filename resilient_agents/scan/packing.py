"""Forms as bytes: to be kept by the thousand, in memory and in a cache, and to be handed from one process to another.

`marshal` of plain tuples, since `pickle` takes twice as long to write its objects. What is written is read by the same
Python, in this run or from a cache that is of one version only.
"""

from __future__ import annotations

import marshal
from operator import attrgetter
from typing import Any

from resilient_agents.scan.form import Binding, Block, Form, Parameter, Scope, Site

__all__ = ["pack", "unpack"]

SITE = attrgetter(*Site.__slots__)
SCOPE = attrgetter(*Scope.__slots__)


def pack(form: Form) -> bytes:
    """Empty for a form that is nested too deeply to be packed."""
    try:
        return marshal.dumps(([_plain(scope) for scope in form.scopes], form.stars, form.imported, form.comments))
    except ValueError:
        return b""


def unpack(data: bytes) -> Form:
    """Raises EOFError, TypeError or ValueError for what is no packed form."""
    scopes, stars, imported, comments = marshal.loads(data)
    return Form([_scope(each) for each in scopes], stars, imported, comments)


def _plain(scope: Scope) -> tuple[Any, ...]:
    *about, parameters, decorators, bases, returns, bindings, calls, results, yields, blocks = SCOPE(scope)
    return (
        *(*about, [tuple(each) for each in parameters], decorators, bases, returns),
        {path: [tuple(each) for each in given] for path, given in bindings.items()},
        *([SITE(each) for each in calls], [tuple(each) for each in results], yields, [tuple(each) for each in blocks]),
    )


def _scope(plain: tuple[Any, ...]) -> Scope:
    *about, parameters, decorators, bases, returns, bindings, calls, results, yields, blocks = plain
    whole: tuple[Any, ...] = (
        *(*about, tuple([Parameter(*each) for each in parameters]), decorators, bases, returns),
        {path: [Binding(*each) for each in given] for path, given in bindings.items()},
        *([Site(*each) for each in calls], [Binding(*each) for each in results], yields),
        [Block(*each) for each in blocks],
    )
    return Scope(*whole)
