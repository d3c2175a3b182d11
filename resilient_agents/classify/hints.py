"""What a server says about trying again: whether, and after how many seconds.

Nothing here trusts what it reads; a wait that is not finite or below zero counts as absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

from resilient_agents.base.clock import clock
from resilient_agents.classify.facts import Facts, get, is_dict, is_list, path, told_by
from resilient_agents.classify.quotas import quotas_of

__all__ = ["Hints", "headers_of", "hints_of", "is_daily_quota", "rpc_delay", "seconds_of", "until_reset"]

_NUMBER: Final = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
_DELAY: Final = r"(\d+(?:\.\d+)?)s"
# Compiled at their first use: they are needed rarely.
_DURATION: Final = r"(?a)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
_DURATION_UNITS: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)
# One of the values that a proxy has joined: an HTTP date, whose own comma follows the weekday, or anything else.
_ITEM: Final = r"[A-Za-z]{3,9}, [^,]+|[^,]+"
_MAX_NODES: Final = 64
_MAX_HEADERS: Final = 256
_SCALARS: Final = (str, type(None), int, float, bool)  # in answers: they have nothing in them

# Names and units of waits, the exact ones first.
_ATTRIBUTES: Final = (
    ("retry_after", 1.0),
    ("retry_after_s", 1.0),
    ("retry_after_seconds", 1.0),
    ("retry_after_ms", 1000.0),
)
_HEADERS: Final = (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0))
_SHOULD_RETRY: Final = ("x-should-retry", "stripe-should-retry")
# An error's own word. Libraries that have it mean a bool.
_OWN_WORD: Final = ("is_retryable", "retryable", "retriable", "should_retry")
_RESET: Final = (
    r"(?:x-)?rate-?limit-reset(?:-after)?|x-rate-limit-reset|x-ratelimit-reset-[a-z-]+"
    r"|anthropic-ratelimit-[a-z-]+-reset"
)
_EPOCH: Final = 1e9  # a larger number of seconds is a moment, not a wait

_Headers = Mapping[str, list[Any]]  # lower-case names, all values of each

# Whatever may have headers or be headers; the last two are google-genai's and litellm's.
_WITH_HEADERS: Final = (
    *("response", "resp", "raw_response", "http_response", "meta", "headers", "litellm_response_headers"),
    *("sdk_http_response", "_hidden_params", "body"),
)


class Hints(NamedTuple):
    """`wait` in seconds, or None; `retry` True or False where the server, or else the error, decides."""

    wait: float | None = None
    retry: bool | None = None


def hints_of(facts: Facts, status: int | None = None) -> Hints:
    """The hints of an error or a response: its own, those of its headers, those in its details.

    Headers that say when a limit is full again count only beside a `status` that says that it is spent.
    """
    waits = (_scaled(facts[name], unit) for name, unit in _ATTRIBUTES if name in facts)
    wait = next((seconds for seconds in waits if seconds is not None), None)
    retry = None
    heard: list[_Headers] = []
    for found in _all_headers(facts):
        if found is None:
            continue
        headers = _listed(found, every=False)
        heard.append(headers)
        if wait is None:
            wait = _wait(headers)
        if retry is None:
            retry = _should_retry(headers)
    if wait is None:
        wait = next(_retry_delays(facts), None)
    if wait is None:
        wait = next((reset for headers in heard if (reset := _reset(headers, status)) is not None), None)
    if retry is None:
        said = [facts[name] for name in _OWN_WORD if name in facts]
        retry = next((word for word in said if isinstance(word, bool)), None)
        if retry is None and facts.get("non_retryable") is True:
            retry = False
    return Hints(wait, retry)


def _all_headers(facts: Facts) -> Iterator[object]:
    """The headers of an error, wherever clients keep them."""
    for name in ("response", "resp", "raw_response", "http_response"):
        response = facts.get(name)
        if response is None:
            continue
        yield path(response, "ResponseMetadata", "HTTPHeaders") if is_dict(response) else get(response, "headers")
    yield get(facts.get("meta"), "headers")
    yield facts.get("headers")
    yield facts.get("litellm_response_headers")
    body = facts.get("body")  # where OpenRouter puts the headers of whom it has asked, and its own
    yield path(body, "metadata", "headers") or path(body, "error", "metadata", "headers")


def headers_of(thing: object) -> _Headers:
    """All values of each header, by lower-case name: of an error, a response, a stream or a result, wherever clients
    keep them, or `thing` itself, where it is a mapping of them. Empty where there are none; never raises."""
    if isinstance(thing, Mapping):
        return _listed(path(thing, "ResponseMetadata", "HTTPHeaders") or thing)
    facts = told_by(thing, _WITH_HEADERS)
    further = (get(facts.get("sdk_http_response"), "headers"), path(facts.get("_hidden_params"), "additional_headers"))
    every: dict[str, list[Any]] = {}
    for found in (*_all_headers(facts), *further):
        every = {**_listed(found), **every}
    return every


def _listed(headers: Any, *, every: bool = True) -> _Headers:
    """All values of each header, or of those that may tell when to try again: mappings of clients ignore case and may
    hold a name twice, a plain dict may hold a list."""
    found: dict[str, list[Any]] = {}
    try:
        pairs: Iterable[Any] = headers.items() if is_dict(headers) else _pairs(headers)
        for name, value in islice(pairs, _MAX_HEADERS):
            text = name.decode("latin-1") if type(name) is bytes else name
            if isinstance(text, str) and ("retry" in (text := text.lower()) or "limit" in text or every):
                values = value if isinstance(value, list | tuple) else (value,)
                found.setdefault(text, []).extend(map(_text, values))
    except Exception:  # what is no mapping of headers; what was read before it broke is as good as any
        pass
    return found


def _text(part: Any) -> Any:
    return part.decode("latin-1") if isinstance(part, bytes) else part


def _pairs(headers: Any) -> Any:
    raw = get(headers, "raw")  # httpx, whose `items` joins the values, and whose `multi_items` decodes them all
    if is_list(raw):
        return raw
    every = get(headers, "multi_items")
    return every() if callable(every) else headers.items()


def _wait(headers: _Headers) -> float | None:
    for name, unit in _HEADERS:
        values = [seconds for value in headers.get(name, ()) if (seconds := _longest(value)) is not None]
        if values:
            return max(values) / unit
    return None


def _should_retry(headers: _Headers) -> bool | None:
    for name in _SHOULD_RETRY:
        for value in headers.get(name, ()):
            if isinstance(value, str) and (said := value.strip().lower()) in ("true", "false"):
                return said == "true"
    return None


def _longest(value: object) -> float | None:
    """The longest wait in one header, whose values a proxy may have joined."""
    if not isinstance(value, str) or "," not in value:
        return seconds_of(value)
    waits = [seconds for item in re.findall(_ITEM, value[:512]) if (seconds := seconds_of(item.strip())) is not None]
    return max(waits, default=None)


def _reset(headers: _Headers, status: int | None) -> float | None:
    """When the limit that was hit is full again: the longest wait of those with nothing left, else of all."""
    if status not in (403, 429, 503):
        return None
    spent: list[float] = []
    others: list[float] = []
    for name, values in headers.items():
        if "reset" not in name or not re.fullmatch(_RESET, name):
            continue
        remaining = headers.get(name.replace("reset-after", "reset").replace("reset", "remaining"), ())
        some = spent if any(seconds_of(left) == 0.0 for left in remaining) else others
        some += [seconds for value in values if (seconds := until_reset(value)) is not None]
    for quota in quotas_of(headers):
        if quota.reset is not None:
            (spent if quota.remaining == 0.0 else others).append(quota.reset)
    if status == 403:  # GitHub sends the reset with every refusal
        others = []
    return max(spent or others, default=None)


def until_reset(value: object) -> float | None:
    """Seconds until a reset: a duration such as `6m0s`, a number of seconds, a Unix time, or a date of either kind."""
    if not isinstance(value, str) or len(value) > 64:
        return seconds_of(value)
    text = value.strip()
    number = re.fullmatch(_NUMBER, text, re.ASCII)
    if number is not None:
        seconds = float(number[1])
        if seconds >= _EPOCH * 1000.0:
            seconds /= 1000.0
        return max(0.0, seconds - clock.wall()) if seconds >= _EPOCH else _finite(seconds)
    parts = re.fullmatch(_DURATION, text)
    if parts is not None and text:
        values = zip(parts.groups(), _DURATION_UNITS, strict=True)
        return _finite(sum(float(value) * unit for value, unit in values if value))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _until(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, moment.timestamp() - clock.wall())


def _scaled(value: object, unit: float) -> float | None:
    seconds = seconds_of(value)
    return None if seconds is None else seconds / unit


def seconds_of(value: object) -> float | None:
    """Seconds from a number, a timedelta, a numeric string or an HTTP date; None for all else."""
    value = _text(value)
    if isinstance(value, str):
        number = re.fullmatch(_NUMBER, value, re.ASCII)
        if number is None:
            return _until(value)
        value = float(number[1])
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    return _finite(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _finite(value: float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0.0 else None


def _until(date: str) -> float | None:
    """Seconds until an HTTP date, 0 if it has passed. The wall clock is read because the server names one."""
    from email.utils import parsedate_to_datetime  # costs milliseconds to import and is needed rarely

    if len(date) > 64:
        return None
    try:
        moment = parsedate_to_datetime(date)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(0.0, moment.timestamp() - clock.wall())
    except Exception:
        return None


def _nodes(facts: Facts) -> Iterator[object]:
    """What is in `.details` and `.body`, at most a few dozen parts: an answer may be of any size."""
    queue: list[object] = [facts.get("details"), facts.get("body")]
    for position in range(_MAX_NODES):
        if position >= len(queue):
            return
        node = queue[position]
        yield node
        if is_dict(node):
            queue += [part for part in list(node.values())[:_MAX_NODES] if type(part) not in _SCALARS]
        elif is_list(node):
            queue += [part for part in node[:_MAX_NODES] if type(part) not in _SCALARS]


def _retry_delays(facts: Facts) -> Iterator[float]:
    """google.rpc's RetryInfo, as JSON has it or as the message itself."""
    for node in _nodes(facts):
        delay = node.get("retryDelay", node.get("retry_delay")) if is_dict(node) else get(node, "retry_delay")
        if isinstance(delay, str) and (match := re.fullmatch(_DELAY, delay, re.ASCII)):
            seconds = _finite(float(match[1]))
        else:
            seconds = rpc_delay(delay)
        if seconds is not None:
            yield seconds


def rpc_delay(delay: object) -> float | None:
    """Seconds from a google.protobuf.Duration, as a message or as a dict."""
    read = delay.get if is_dict(delay) else lambda name: get(delay, name)
    parts = [part for part in (read("seconds"), read("nanos")) if part is not None]
    if not parts or not all(type(part) is int for part in parts):
        return None
    seconds, nanos = (read("seconds") or 0), (read("nanos") or 0)
    return _finite(seconds) if not nanos else _finite(seconds + nanos / 1e9)


def is_daily_quota(facts: Facts) -> bool:
    """Whether Google's details name a quota per day, which no wait of ours outlives."""
    return any(
        isinstance(quota := node.get("quotaId"), str) and "PerDay" in quota for node in _nodes(facts) if is_dict(node)
    )
