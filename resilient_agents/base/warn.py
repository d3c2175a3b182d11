"""Warnings that are given once, also where the same code warns of many functions."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ["REMEMBERED", "warn_once", "warned"]

REMEMBERED: Final = 1000
warned: dict[Hashable, None] = {}
_logger = logging.getLogger("resilient_agents")


def warn_once(key: Hashable, message: Callable[[], str], fn: Callable[..., Any]) -> None:
    """A RuntimeWarning, once for each `key`. It is shown where `fn` is defined: the stack is ours.

    Never an error: where warnings are errors it is logged instead, for what has come out of the call is not to be
    thrown away.
    """
    if key in warned:
        return
    if len(warned) >= REMEMBERED:  # functions made on the fly: forget the oldest, and maybe warn of it again
        with contextlib.suppress(RuntimeError, StopIteration):  # another thread does the same
            warned.pop(next(iter(warned)), None)
    warned[key] = None
    said = message()
    try:
        _show(said, fn)
    except Exception:
        _logger.warning("%s", said)


def _show(message: str, fn: Callable[..., Any]) -> None:
    code = getattr(fn, "__code__", None)
    if code is None:
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    else:
        module = getattr(fn, "__module__", None)
        warnings.warn_explicit(message, RuntimeWarning, code.co_filename, code.co_firstlineno, module=module)
