"""Where a foreign error or response keeps its facts: status, codes, message, and the error that it wraps.

Nothing here trusts what it reads: an attribute may be missing, raise, or be a mock that has every attribute.
A fact of the wrong type or out of range counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from opcode import opmap
from types import TracebackType
from typing import Any, Final, TypeGuard

__all__ = [
    "TELLING",
    "carried_by",
    "carries",
    "cause_of",
    "codes_in",
    "codes_of",
    "context_of",
    "get",
    "is_dict",
    "is_list",
    "is_suppressed",
    "leaves_of",
    "made_of",
    "message_of",
    "mro_of",
    "name_of",
    "namespace_of",
    "package_of",
    "path",
    "status_of",
    "told_by",
]

_STATUS_NAMES: Final = ("status_code", "status", "http_status")
_RESPONSE_NAMES: Final = ("response", "resp", "raw_response", "http_response", "meta")
# Where libraries keep the error that theirs is about, besides `__cause__`: azure-core, SQLAlchemy, qdrant, litellm and
# PyMySQL, urllib and urllib3, aiohttp, pika.
_CARRIED_NAMES: Final = ("inner_exception", "orig", "source", "original_exception", "reason", "os_error", "exception")

# Attributes that can change the answer. An error without any is what its class is.
TELLING: Final = frozenset(
    (
        *_STATUS_NAMES,
        *_RESPONSE_NAMES,
        *_CARRIED_NAMES,
        *("transient", "code", "error_code", "type", "error", "headers", "litellm_response_headers", "body", "details"),
        *("retry_after", "retry_after_s", "retry_after_seconds", "retry_after_ms"),
        *("is_retryable", "retryable", "retriable", "should_retry", "non_retryable"),
        *("provider_error_code", "provider_error_type", "sqlstate", "pgcode", "sqlite_errorname"),
    )
)

# The packages whose errors keep in `.code` a number that is no HTTP status; elsewhere 400 to 599 is one.
_CODE_IS_ITS_OWN: Final = frozenset(
    ("pymongo", "oracledb", "cx_Oracle", "cassandra", "aiosmtplib", "amqp", "pika", "aiormq", "curl_cffi", "pycurl")
)
# A code is a word, never a sentence: `Failure` promises to hold no message.
_CODE: Final = r"[A-Za-z0-9_.:/-]{1,64}"
# Compiled at its first use: it is needed rarely.
_CODE_IN_TEXT: Final = r"""(?a)["'](?:type|code)\\?["']\s*:\s*\\?["']([A-Za-z0-9_.-]{1,64})"""
_MAX_TEXT: Final = 8192
_RAISE: Final = bytes([opmap["RAISE_VARARGS"]])


Facts = Mapping[str, Any]

# The interpreter's own descriptors: neither a metaclass nor a property can get in between.
mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_module: Final[Callable[[type], object]] = type.__dict__["__module__"].__get__
namespace_of: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__


_args_of: Final[Callable[[BaseException], tuple[Any, ...]]] = BaseException.__dict__["args"].__get__
cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__cause__"].__get__
context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__context__"].__get__
is_suppressed: Final[Callable[[BaseException], bool]] = BaseException.__dict__["__suppress_context__"].__get__
_traceback_of: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__["__traceback__"].__get__
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


def told_by(thing: object, names: Iterable[str] = TELLING) -> Facts:
    """What a foreign object tells by the attributes of these names: those that can be read and are not None."""
    return {name: value for name in names if (value := get(thing, name)) is not None}


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def path(node: object, *keys: str) -> Any:
    """What is at the end of `keys` in nested dicts, or None."""
    for key in keys:
        if not is_dict(node):
            return None
        node = node.get(key)
    return node


def _status(value: object) -> int | None:
    return int(value) if isinstance(value, int) and 400 <= value <= 599 else None


def status_of(facts: Facts, packages: frozenset[str] = frozenset()) -> int | None:
    """The HTTP status between 400 and 599 that an error or a response carries, or None."""
    for name in _STATUS_NAMES:
        if status := _status(facts.get(name)):
            return status
    for name in _RESPONSE_NAMES:
        response, status = facts.get(name), None
        if is_dict(response):  # botocore
            status = _status(path(response, "ResponseMetadata", "HTTPStatusCode"))
        elif response is not None:  # never by its truth: a requests.Response is falsy on 4xx and 5xx
            status = next((found for key in _STATUS_NAMES if (found := _status(get(response, key)))), None)
        if status:
            return status
    return _status_in_code(facts) if packages.isdisjoint(_CODE_IS_ITS_OWN) else None


def _status_in_code(facts: Facts) -> int | None:
    """A status in the place of a code: inside a stream that began with 200 there is no other place."""
    body = facts.get("body")
    for code in (facts.get("code"), path(body, "error", "code"), path(body, "code")):
        if status := _status(int(code) if isinstance(code, str) and _is_status(code) else code):
            return status
    return None


def codes_of(facts: Facts) -> list[str]:
    """The machine-readable codes that an error carries, most specific first."""
    body = facts.get("body")
    inner = path(body, "error")
    inner = inner if is_dict(inner) else body
    response = facts.get("response")
    candidates = (
        facts.get("error_code"),
        facts.get("provider_error_code"),
        path(inner, "code"),
        facts.get("code"),
        path(response, "Error", "Code"),
        facts.get("status"),
        facts.get("type"),
        facts.get("provider_error_type"),
        path(inner, "type"),
        get(facts.get("error"), "code"),  # azure-core
    )
    return [code for code in candidates if isinstance(code, str) and re.fullmatch(_CODE, code) and not _is_status(code)]


def _is_status(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit()  # litellm's "429", botocore's "503": no news


def codes_in(message: str) -> Iterator[str]:
    """The codes in an answer that a gateway has put into its message as JSON, or as Python shows it."""
    return (match[1] for match in re.finditer(_CODE_IN_TEXT, message))


def message_of(error: BaseException) -> str:
    """The error's message in lower case, to be searched for known phrases and then forgotten."""
    message = get(error, "message")
    try:
        return (message if isinstance(message, str) else str(error))[:_MAX_TEXT].lower()
    except Exception:
        return ""


def carries(error: BaseException) -> bool:
    """Whether an error was made from another one: `ConnectError(gaierror(...))`."""
    for part in _args_of(error):  # noqa: SIM110 - `any` costs a generator, and each failed attempt comes here
        if isinstance(part, BaseException):
            return True
    return False


def carried_by(error: BaseException) -> BaseException | None:
    """The error that this one is about by its own word: `__cause__`, an attribute, or what it was made from."""
    cause = cause_of(error)
    if cause is not None:
        return cause
    for name in _CARRIED_NAMES:
        carried = get(error, name)
        if isinstance(carried, BaseException):
            return carried
    return next((part for part in _args_of(error) if isinstance(part, BaseException)), None)


def made_of(error: BaseException, context: BaseException) -> bool:
    """Whether `error` was made of the one that was being handled: by a `raise` of the frame that had caught that.

    What a call in a handler raises is another matter, which only happened meanwhile.
    """
    raised, caught = _traceback_of(error), _traceback_of(context)
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    if raised is None or caught is None or raised.tb_frame is not caught.tb_frame:
        return False
    return raised.tb_frame.f_code.co_code[raised.tb_lasti : raised.tb_lasti + 1] == _RAISE
