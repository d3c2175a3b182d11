"""Which failure it is that passes through the layers of a call, found out once: to read all that an error of an SDK
carries is dear, and each layer asks."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from resilient_agents.base.told import Fields
from resilient_agents.classify import Failure, classify

if TYPE_CHECKING:
    from resilient_agents.core.call import Call

__all__ = ["Known", "failure_of"]


class Known(Fields):
    """What was found out of one error, as it was `then`: a layer further out may have said something on it since. The
    error is not kept alive."""

    __slots__ = ("error", "failure", "then")

    error: weakref.ref[BaseException]
    then: tuple[int, int]
    failure: Failure


def _said(error: BaseException) -> tuple[int, int]:
    """How much is said on it, and from what it came. Our own marks, and notes, are nothing to go by."""
    return sum(not name.startswith("_") for name in error.__dict__), id(error.__cause__)


def failure_of(call: Call, error: BaseException) -> Failure:
    """Which failure this is. Looked at once, as long as nobody says anything on it."""
    known = call.rare.known
    try:
        if known is not None and known.error() is error and known.then == _said(error):
            return known.failure
        failure = classify(error)
        if type(error).__weakrefoffset__ and error.__dict__:  # it can be told from others, and has something to read
            call.own_rare().known = Known(weakref.ref(error), _said(error), failure)
    except Exception:  # an exotic exception, whose attributes raise
        return classify(error)
    return failure
