"""Errors that need a look of their own: their facts are numbers, methods or messages.

A reader takes an error of its class, whose attributes it does not trust, and returns what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from resilient_agents.base.told import Fields
from resilient_agents.classify.codes import WEAK_CODES, of_errno, of_mcp, of_sqlite, of_sqlstate, of_status
from resilient_agents.classify.facts import cause_of, context_of, get, message_of, mro_of, name_of, package_of
from resilient_agents.classify.kinds import BROKEN_REPLY, CANCELLED, Phase, Rule
from resilient_agents.classify.replies import of_amqp, of_close_code, of_curl, of_mongo, of_mysql, of_smtp
from resilient_agents.classify.rpc import pushback_of, retry_info_of
from resilient_agents.classify.stores import STORES
from resilient_agents.classify.wording import of_phrase

__all__ = ["MUTE", "READERS", "Reader", "Reading", "read_sqlstate"]


class Reading(Fields):
    """The rule, the dependency's code, what it says of another try, how far the request had come, the HTTP status."""

    rule: Rule | None = None
    code: str | None = None
    wait: float | None = None
    retry: bool | None = None
    phase: Phase | None = None
    status: int | None = None


Reader = Callable[[BaseException], Reading]
_NOTHING: Final = Reading()


def _int(value: object) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def read_sqlstate(error: BaseException) -> Reading:
    """The reader of every class that has none of its own: asyncpg, psycopg and their like keep a SQLSTATE."""
    state = get(error, "sqlstate") or get(error, "pgcode")
    if isinstance(state, str) and len(state) == 5 and state.isascii() and state.isalnum():
        return Reading(of_sqlstate(state.upper()), state)
    return _NOTHING


def _read_message(package: str, error: BaseException) -> Reading:
    """A SQLSTATE if there is one, else what the message says."""
    found = read_sqlstate(error)
    if found.rule is not None:
        return found
    message = message_of(error)
    says = of_phrase(package, message)
    connecting = package.startswith("psycopg") and message.startswith(("connection failed", "connection to server"))
    phase: Phase | None = "connect" if connecting else None
    if says is None:
        return Reading(None, found.code, phase=phase)
    return Reading(says.rule, found.code, phase=says.phase or phase)


def _read_errno(error: BaseException) -> Reading:
    number = _int(get(error, "errno"))
    if number is None:  # http.client makes a bare OSError of what a proxy said
        return _read_proxy(error)
    return Reading(of_errno(number))


# httpcore has the status first; then the words of http.client, libcurl and websocket-client.
_PROXY_SAYS: Final = (
    r"(?a)(?:(?:.*\b)?(?:tunnel connection failed: |tunnel failed, response |via proxy status: ))?([45]\d\d)\b"
)


def _read_proxy(error: BaseException) -> Reading:
    """What a proxy answered when it was asked for a tunnel, through which nothing was sent then."""
    found = re.match(_PROXY_SAYS, message_of(error))
    if found is None:
        return _NOTHING
    status = int(found[1])
    return Reading(of_status(status), phase="connect", status=status)


def _read_curl_proxy(error: BaseException) -> Reading:
    found = _read_proxy(error)
    return _read_curl(error) if found.status is None else found


def _read_xmlrpc(error: BaseException) -> Reading:
    status = _int(get(error, "errcode"))
    return Reading(status=status) if status is not None and 400 <= status <= 599 else _NOTHING


def _read_sqlite(error: BaseException) -> Reading:
    name = get(error, "sqlite_errorname")
    if isinstance(name, str):
        return Reading(of_sqlite(name), name)
    return Reading(Rule("conflict", answered=True) if "locked" in message_of(error) else None)


def _read_mcp(error: BaseException) -> Reading:
    code = get(get(error, "error"), "code")
    return Reading(of_mcp(code), str(code)) if type(code) is int else _NOTHING


def _read_grpc(error: BaseException) -> Reading:
    wait, retry = pushback_of(_called(error, "trailing_metadata"))
    if wait is None and retry is None:
        wait = retry_info_of(_called(error, "trailing_metadata"))
    name = get(_called(error, "code"), "name")
    if not isinstance(name, str):
        return Reading(wait=wait, retry=retry)
    if name == "CANCELLED":
        return Reading(CANCELLED, name)
    rule = _of_grpc(name)
    phase: Phase | None = None
    if name == "UNAVAILABLE" and isinstance(details := _called(error, "details"), str):
        says = of_phrase("grpc", details[:1024].lower())
        if says is not None:
            rule, phase = says.rule or rule, says.phase
    return Reading(rule, name, wait, retry, phase)


def _of_grpc(name: str) -> Rule | None:
    """The rule of a gRPC status."""
    kind = WEAK_CODES.get(name.lower())
    return Rule(kind, answered=True) if kind else None


def _read_temporal(error: BaseException) -> Reading:
    """Temporal's client speaks gRPC in Rust, and keeps the status as a number with a name."""
    name = get(get(error, "status"), "name")
    if not isinstance(name, str):
        return Reading()
    return Reading(CANCELLED if name == "CANCELLED" else _of_grpc(name), name)


def _read_aiohttp(error: BaseException) -> Reading:
    """aiohttp reports a malformed reply as a 400 that no server sent; the parser's error is in its context."""
    inner = cause_of(error) or context_of(error)
    if inner is not None and get(error, "headers") is None:
        mro = mro_of(type(inner))
        if any(name_of(c) == "HttpProcessingError" and package_of(c) == "aiohttp" for c in mro):
            return Reading(BROKEN_REPLY)
    return _NOTHING


_NEVER_SENT: Final = frozenset((2002, 2003, 2005))


def _read_mysql(error: BaseException) -> Reading:
    """PyMySQL, aiomysql and mysqlclient have the number first in `args`, MySQL's own connector in `.errno`."""
    number = _int(get(error, "errno"))
    if number is None:
        number = _int(next(iter(_args(error)), None))
    if number is None:
        return read_sqlstate(error)
    return Reading(of_mysql(number), str(number), phase="connect" if number in _NEVER_SENT else None)


def _read_mongo(error: BaseException) -> Reading:
    number = _int(get(error, "code"))
    has = get(error, "has_error_label")
    retry = None
    try:
        if callable(has) and any(has(name) is True for name in ("RetryableWriteError", "RetryableError")):
            retry = True
    except Exception:
        retry = None
    return _NOTHING if number is None else Reading(of_mongo(number), str(number), retry=retry)


def _read_smtp(error: BaseException) -> Reading:
    number = _int(get(error, "smtp_code"))
    if number is None:
        number = _int(get(error, "code"))  # aiosmtplib
    return _NOTHING if number is None else Reading(of_smtp(number), str(number))


def _read_recipients(error: BaseException) -> Reading:
    """The worst that a mail server said about one of the recipients."""
    refused = get(error, "recipients")
    try:
        number = max(code for code, _ in refused.values() if isinstance(code, int))
    except Exception:
        return _NOTHING
    return Reading(of_smtp(number), str(int(number)))


def _read_amqp(error: BaseException) -> Reading:
    number = _int(get(error, "reply_code"))
    if number is None:
        number = _int(get(error, "code"))
    return _NOTHING if number is None else Reading(of_amqp(number), str(number) if number else None)


def _read_curl(error: BaseException) -> Reading:
    number = _int(get(error, "code"))
    if number is None:
        number = _int(next(iter(_args(error)), None))  # pycurl
    if number is None:
        return _NOTHING
    return Reading(of_curl(number), phase="connect" if number in (5, 6, 7, 60) else None)


def _read_close(error: BaseException) -> Reading:
    """The code with which a WebSocket was closed; what the peer said tells more than what this side did."""
    for frame in (get(error, "rcvd"), get(error, "sent")):
        if (number := _int(get(frame, "code"))) is not None:
            return Reading(of_close_code(number), str(number))
    return _NOTHING


def _read_websocket(error: BaseException) -> Reading:
    """What aiohttp's parser found wrong, as the code with which it closes."""
    number = _int(get(error, "code"))
    return _NOTHING if number is None else Reading(of_close_code(number), str(number))


def _read_urllib3(error: BaseException) -> Reading:
    """What is left of the answers that made urllib3 give up: "too many 503 error responses"."""
    words = message_of(error).split()
    if words[-1:] == ["redirects"]:
        return Reading(Rule("validation", answered=True))
    status = next((int(word) for word in words if re.fullmatch("[45][0-9][0-9]", word)), None)
    return Reading(status=status)


def _read_neo4j(error: BaseException) -> Reading:
    said = _called(error, "is_retryable")
    return Reading(retry=said) if isinstance(said, bool) else _NOTHING


_PHASES: Final[dict[str, Phase]] = {"pool": "pool", "connect": "connect", "write": "send", "read": "read"}


def _read_pydantic_ai(error: BaseException) -> Reading:
    phase = get(error, "phase")
    return Reading(phase=_PHASES.get(phase)) if isinstance(phase, str) else _NOTHING


def _read_nothing(_: BaseException) -> Reading:
    return _NOTHING


def _called(error: BaseException, name: str) -> Any:
    method = get(error, name)
    try:
        return method() if callable(method) else None
    except Exception:
        return None


def _args(error: BaseException) -> tuple[Any, ...]:
    args = get(error, "args")
    return args if isinstance(args, tuple) else ()


MUTE: Final[frozenset[Reader]] = frozenset((_read_close, _read_nothing))
"""Readers that say all there is: the rest of what these errors have warns when it is read, or means something else, as
SQLAlchemy's `code` does, which names a page of its documentation."""

READERS: Final[dict[tuple[str, str], Reader]] = {
    ("grpc", "RpcError"): _read_grpc,
    ("temporalio", "RPCError"): _read_temporal,
    ("mcp", "MCPError"): _read_mcp,
    ("mcp", "McpError"): _read_mcp,
    ("aiohttp", "ClientResponseError"): _read_aiohttp,
    ("aiohttp", "WebSocketError"): _read_websocket,
    ("xmlrpc", "ProtocolError"): _read_xmlrpc,
    ("sqlite3", "OperationalError"): _read_sqlite,
    ("builtins", "OSError"): _read_errno,
    ("pymysql", "MySQLError"): _read_mysql,
    ("pymysql", "OperationalError"): _read_mysql,
    ("MySQLdb", "MySQLError"): _read_mysql,
    ("MySQLdb", "OperationalError"): _read_mysql,
    ("mysql", "Error"): _read_mysql,
    ("mysql", "OperationalError"): _read_mysql,
    ("mariadb", "Error"): _read_mysql,
    ("pymongo", "OperationFailure"): _read_mongo,
    ("smtplib", "SMTPResponseException"): _read_smtp,
    ("smtplib", "SMTPConnectError"): _read_smtp,
    ("smtplib", "SMTPAuthenticationError"): _read_smtp,
    ("aiosmtplib", "SMTPConnectResponseError"): _read_smtp,
    ("smtplib", "SMTPRecipientsRefused"): _read_recipients,
    ("aiosmtplib", "SMTPResponseException"): _read_smtp,
    ("amqp", "AMQPError"): _read_amqp,
    ("pika", "ConnectionClosed"): _read_amqp,
    ("pika", "ChannelClosed"): _read_amqp,
    ("curl_cffi", "CurlError"): _read_curl,
    ("curl_cffi", "ConnectionError"): _read_curl,
    ("curl_cffi", "ProxyError"): _read_curl_proxy,
    ("pycurl", "error"): _read_curl,
    **{(package, "ProxyError"): _read_proxy for package in ("httpx", "httpx2", "httpcore", "httpcore2")},
    ("websocket", "WebSocketProxyException"): _read_proxy,
    ("websockets", "ConnectionClosed"): _read_close,
    **{("sqlalchemy", name): _read_nothing for names in STORES["sqlalchemy"].values() for name in names.split()},
    ("urllib3", "ResponseError"): _read_urllib3,
    ("neo4j", "Neo4jError"): _read_neo4j,
    ("neo4j", "DriverError"): _read_neo4j,
    ("pydantic_ai", "ModelConnectionError"): _read_pydantic_ai,
    **{
        (package, name): partial(_read_message, package)
        for package, names in {
            "psycopg": "Error OperationalError InterfaceError",
            "psycopg2": "Error OperationalError InterfaceError",
            "asyncpg": "InterfaceError",
            "redis": "ConnectionError TimeoutError ResponseError",
            "pymongo": "ServerSelectionTimeoutError AutoReconnect WaitQueueTimeoutError",
            "kombu": "OperationalError",
            "urllib": "URLError",
            "pika": "IncompatibleProtocolError",
        }.items()
        for name in names.split()
    },
}
