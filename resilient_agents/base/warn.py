"""Warnings that are given once, also where the same code warns of many functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ["warn_once"]

_REMEMBERED: Final = 1000
_warned: dict[Hashable, None] = {}


def warn_once(key: Hashable, message: Callable[[], str], fn: Callable[..., Any]) -> None:
    """A RuntimeWarning, once for each `key`. It is shown where `fn` is defined: the stack is ours."""
    if key in _warned:
        return
    if len(_warned) >= _REMEMBERED:  # functions made on the fly: forget the oldest, and maybe warn of it again
        _warned.pop(next(iter(_warned)), None)
    _warned[key] = None
    code = getattr(fn, "__code__", None)
    if code is None:
        warnings.warn(message(), RuntimeWarning, stacklevel=3)
    else:
        module = getattr(fn, "__module__", None)
        warnings.warn_explicit(message(), RuntimeWarning, code.co_filename, code.co_firstlineno, module=module)
