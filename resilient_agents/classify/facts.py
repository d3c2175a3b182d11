"""Where a foreign error or response keeps its facts: status, codes, wait hints.

Nothing here trusts what it reads: an attribute may be missing, raise, or be a mock that has every attribute.
A fact of the wrong type or out of range counts as absent.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from typing import Any, Final, TypeGuard

__all__ = [
    "Hints",
    "cause_of",
    "codes_of",
    "context_of",
    "get",
    "hints_of",
    "is_daily_quota",
    "is_suppressed",
    "leaves_of",
    "message_of",
    "mro_of",
    "name_of",
    "namespace_of",
    "package_of",
    "status_of",
]

# The packages whose errors keep the HTTP status in `.code`; elsewhere an integer there can mean anything.
_CODE_IS_STATUS: Final = frozenset(("google", "urllib", "werkzeug", "tornado"))
_NUMBER: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s", re.ASCII)
# A code is a word, never a sentence: `Failure` promises to hold no message.
_CODE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}", re.ASCII)
_MAX_NODES: Final = 64


# The interpreter's own descriptors: neither a metaclass nor a property can get in between.
mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_module: Final[Callable[[type], object]] = type.__dict__["__module__"].__get__
namespace_of: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__


cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__cause__"].__get__
context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__context__"].__get__
is_suppressed: Final[Callable[[BaseException], bool]] = BaseException.__dict__["__suppress_context__"].__get__
leaves_of: Final[Callable[[BaseException], tuple[Exception, ...]]] = BaseExceptionGroup.__dict__["exceptions"].__get__


def package_of(cls: type) -> str:
    """The top package of a class, "" if it has no `__module__` or one that is not text."""
    try:
        module = _module(cls)
    except AttributeError:  # made where there was no `__name__`
        return ""
    return module.partition(".")[0] if isinstance(module, str) else ""


def get(thing: Any, name: str) -> Any:
    """`thing.name`, or None if it has none, reading it fails, or what is there will not say of which class it is."""
    try:
        value = getattr(thing, name, None)
        # `isinstance` asks for this and lets through what it raises: a proxy that is bound to nothing.
        _ = value.__class__
    except Exception:
        return None
    return value


def _is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _status(value: object) -> int | None:
    return int(value) if isinstance(value, int) and 400 <= value <= 599 else None


def status_of(thing: object, packages: frozenset[str] = frozenset()) -> int | None:
    """The HTTP status between 400 and 599 that an error or a response carries, or None."""
    for name in ("status_code", "status"):
        if status := _status(get(thing, name)):
            return status
    response = get(thing, "response")
    if _is_dict(response):  # botocore
        if status := _status(_path(response, "ResponseMetadata", "HTTPStatusCode")):
            return status
    elif response is not None:  # never by its truth: a requests.Response is falsy on 4xx and 5xx
        for name in ("status_code", "status"):
            if status := _status(get(response, name)):
                return status
    return None if packages.isdisjoint(_CODE_IS_STATUS) else _status(get(thing, "code"))


def _path(node: object, *keys: str) -> Any:
    for key in keys:
        if not _is_dict(node):
            return None
        node = node.get(key)
    return node


def codes_of(error: object) -> list[str]:
    """The machine-readable codes that an error carries, most specific first."""
    body = get(error, "body")
    inner = _path(body, "error")
    inner = inner if _is_dict(inner) else body
    response = get(error, "response")
    candidates = (
        get(error, "error_code"),
        get(error, "provider_error_code"),
        _path(inner, "code"),
        get(error, "code"),
        _path(response, "Error", "Code"),
        get(error, "status"),
        get(error, "type"),
        get(error, "provider_error_type"),
        _path(inner, "type"),
    )
    return [code for code in candidates if isinstance(code, str) and _CODE.fullmatch(code) and not _is_status(code)]


def _is_status(code: str) -> bool:
    return len(code) == 3 and code.isdigit()  # litellm's "429", botocore's "503": no news


def message_of(error: BaseException) -> str:
    """The error's message in lower case, to be searched for known phrases and then forgotten."""
    message = get(error, "message")
    try:
        return (message if isinstance(message, str) else str(error)).lower()
    except Exception:
        return ""


class Hints:
    """What a server says about trying again: `wait` in seconds, `retry` True or False if it decides."""

    __slots__ = ("retry", "wait")

    def __init__(self, wait: float | None = None, retry: bool | None = None) -> None:
        self.wait = wait
        self.retry = retry


def hints_of(thing: object) -> Hints:
    """The hints of an error or a response, from its headers, its own `.retry_after` or its details."""
    wait = _seconds(get(thing, "retry_after"))
    retry = None
    response = get(thing, "response")
    for headers in (
        _path(response, "ResponseMetadata", "HTTPHeaders") if _is_dict(response) else get(response, "headers"),
        get(thing, "headers"),
        get(thing, "litellm_response_headers"),
    ):
        if headers is not None:
            wait = _wait(headers) if wait is None else wait
            retry = _should_retry(headers) if retry is None else retry
    if wait is None:
        wait = next(_retry_delays(thing), None)
    return Hints(wait, retry)


def _wait(headers: object) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0)):
        wait = _seconds(_header(headers, name))
        if wait is not None:
            return wait / unit
    return None


def _should_retry(headers: object) -> bool | None:
    value = _header(headers, "x-should-retry")
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _header(headers: Any, name: str) -> object:
    """A header by its lower-case name; mappings of clients ignore case, a plain dict may not."""
    try:
        if _is_dict(headers):
            return next((v for k, v in headers.items() if isinstance(k, str) and k.lower() == name), None)
        return headers.get(name)
    except Exception:
        return None


def _seconds(value: object) -> float | None:
    """Seconds from a number, a timedelta, a numeric string or an HTTP date; None for all else."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        number = _NUMBER.fullmatch(value)
        if number is None:
            return _until(value)
        value = float(number[1])
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            return None
        return seconds if math.isfinite(seconds) and seconds >= 0.0 else None
    return None


def _until(date: str) -> float | None:
    """Seconds until an HTTP date, 0 if it has passed. The only reading of the wall clock: the server names one."""
    from email.utils import parsedate_to_datetime  # costs milliseconds to import and is needed rarely

    if len(date) > 64:
        return None
    try:
        moment = parsedate_to_datetime(date)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(0.0, moment.timestamp() - time.time())
    except Exception:
        return None


def _nodes(thing: object) -> Iterator[dict[Any, Any]]:
    """The dicts in `.details` and `.body`, at most a few dozen: an answer may be of any size."""
    queue: list[object] = [get(thing, "details"), get(thing, "body")]
    for position in range(_MAX_NODES):
        if position >= len(queue):
            return
        node = queue[position]
        if _is_dict(node):
            yield node
            queue.extend(list(node.values())[:_MAX_NODES])
        elif _is_list(node):
            queue.extend(node[:_MAX_NODES])


def _retry_delays(thing: object) -> Iterator[float]:
    for node in _nodes(thing):
        delay = node.get("retryDelay")
        if isinstance(delay, str) and (match := _DELAY.fullmatch(delay)):
            seconds = float(match[1])
            if math.isfinite(seconds):
                yield seconds


def is_daily_quota(thing: object) -> bool:
    """Whether Google's details name a quota per day, which no wait of ours outlives."""
    return any(isinstance(quota := node.get("quotaId"), str) and "PerDay" in quota for node in _nodes(thing))
