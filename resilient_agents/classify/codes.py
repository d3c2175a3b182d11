"""What the classifier knows by heart about codes, statuses and numbers. Data and look-ups only."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from resilient_agents.classify.kinds import CANCELLED, UNKNOWN, Kind, Rule

__all__ = [
    "CODES",
    "WEAK_CODES",
    "of_errno",
    "of_mcp",
    "of_sqlite",
    "of_sqlstate",
    "of_status",
]


def _codes(by_kind: Mapping[Kind, str]) -> Mapping[str, Kind]:
    return MappingProxyType({code: kind for kind, codes in by_kind.items() for code in codes.split()})


# Codes that decide whatever the status is (in lower case): AWS throttles with 400, OpenAI sends a spent quota as 429.
CODES: Final = _codes(
    {
        "quota": "insufficient_quota billing_hard_limit_reached billing_not_active billing_error "
        "contract_spend_limit_reached enforced_spend_limit_reached linked_organization_spend_limit_reached "
        "linked_organization_billing_unavailable servicequotaexceededexception",
        "context_length": "context_length_exceeded model_context_window_exceeded",
        "content_filter": "content_filter content_policy_violation responsibleaipolicyviolation",
        "rate_limit": "throttling throttlingexception throttledexception requestthrottledexception requestthrottled "
        "toomanyrequestsexception requestlimitexceeded provisionedthroughputexceededexception bandwidthlimitexceeded "
        "limitexceededexception priorrequestnotcomplete slowdown ec2throttledexception",
        "timeout": "requesttimeout requesttimeoutexception modeltimeoutexception",
        "overload": "overloaded_error serviceunavailable serviceunavailableexception modelnotreadyexception",
        "server": "internalfailure internalerror internalservererror internalserverexception modelstreamerrorexception",
        "conflict": "transactionconflictexception transactioninprogressexception optimisticlockexception "
        "operationabortedexception",
        "auth": "expiredtoken expiredtokenexception accessdenied accessdeniedexception unrecognizedclientexception "
        "invalidclienttokenid signaturedoesnotmatch invalidsignatureexception",
        "not_found": "resourcenotfoundexception nosuchkey nosuchbucket",
    }
)

# Codes that speak only where no status does: inside a stream that began with 200, and in gRPC.
WEAK_CODES: Final = _codes(
    {
        "timeout": "timeout_error deadline_exceeded",
        "connection": "unavailable",
        "rate_limit": "rate_limit_error rate_limit_exceeded resource_exhausted too_many_requests",
        "overload": "server_overloaded engine_overloaded slow_down",
        "server": "api_error server_error internal_error internal_server_error internal data_loss",
        "conflict": "conflict_error aborted",
        "auth": "authentication_error permission_error invalid_api_key unauthenticated permission_denied",
        "not_found": "not_found_error model_not_found not_found",
        "validation": "invalid_request_error invalid_argument failed_precondition out_of_range already_exists "
        "unimplemented",
    }
)

# JSON-RPC codes as MCP uses them. A server's HTTP 429, 503 and 401 all arrive as -32603.
_MCP: Final[Mapping[int, Rule]] = MappingProxyType(
    {
        -32001: Rule("timeout"),
        -32000: Rule("connection"),
        -32603: Rule("server"),
        -32800: CANCELLED,
    }
)


def of_mcp(code: int) -> Rule:
    """The rule for a JSON-RPC error code; the rest of the reserved range means that the request was refused."""
    return _MCP.get(code) or (Rule("validation", answered=True) if -32768 <= code <= -32000 else UNKNOWN)


# -------------------------------------------------------------------------------------------------------- statuses

_STATUS: Final[Mapping[int, Rule]] = MappingProxyType(
    {
        401: Rule("auth", answered=True),
        402: Rule("quota", answered=True),
        403: Rule("auth", answered=True),
        404: Rule("not_found", answered=True),
        407: Rule("auth", answered=True),
        408: Rule("timeout"),
        409: Rule("conflict", answered=True),
        410: Rule("not_found", answered=True),
        423: Rule("conflict", answered=True),
        425: Rule("conflict", answered=True),
        429: Rule("rate_limit"),
        501: Rule("server", transient=False),
        503: Rule("overload"),
        504: Rule("timeout"),
        505: Rule("server", transient=False),
        522: Rule("timeout"),  # 522 and 524: a CDN waited in vain for the origin
        524: Rule("timeout"),
        529: Rule("overload"),
    }
)


_LIMITS_WITH_A_HINT: Final = frozenset((403, 413, 420, 430))


def of_status(status: int, *, hinted: bool = False) -> Rule:
    """The rule for an HTTP status between 400 and 599; `hinted`: the server said when to come again.

    With a hint some refusals are limits, such as GitHub's secondary one and Shopify's.
    """
    if hinted and status in _LIMITS_WITH_A_HINT:
        return Rule("rate_limit")
    return _STATUS.get(status) or (Rule("server") if status >= 500 else Rule("validation", answered=True))


# ------------------------------------------------------------------------------------------------ SQLSTATE and errno

_SQLSTATE: Final[tuple[tuple[str, Rule | None], ...]] = (  # longest prefix first
    ("25P03", Rule("connection")),  # a transaction that idled or ran too long: the server has ended the session
    ("25P04", Rule("connection")),
    ("42501", Rule("auth", answered=True)),
    ("55P03", Rule("conflict", answered=True)),
    ("57014", Rule("timeout")),
    ("57P", Rule("connection")),
    ("08", Rule("connection")),
    ("28", Rule("auth", answered=True)),
    ("3D", Rule("not_found", answered=True)),
    ("40", Rule("conflict", answered=True)),
    ("53", Rule("overload")),
    ("57", Rule("server")),
    ("58", Rule("server")),
    ("F0", Rule("server")),
    ("XX", Rule("server")),
    # Not the server's word: MySQL's and ODBC's drivers put HY000 on anything, a lost connection too.
    ("00", None),
    ("HY", None),
    ("IM", None),
)


def of_sqlstate(state: str) -> Rule | None:
    """The rule for a five-character SQLSTATE in upper case, or None if it says nothing.

    A state that is not listed is the server's refusal, a user's own too (`RAISE ... USING ERRCODE = 'AB123'`).
    """
    return next((rule for prefix, rule in _SQLSTATE if state.startswith(prefix)), Rule("validation", answered=True))


def _errnos(names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names.split() if hasattr(errno, name))  # Windows lacks some


_UNREACHABLE: Final = _errnos(
    "ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ESHUTDOWN ENOTCONN EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN "
    "ENETRESET EADDRNOTAVAIL EPROTO"
)
_EXHAUSTED: Final = _errnos("EMFILE ENFILE ENOBUFS EAGAIN")
_LOCAL: Final = _errnos(
    "ENOENT EACCES EPERM EEXIST EISDIR ENOTDIR ENOTEMPTY ENOSPC EROFS EBADF EINVAL ENAMETOOLONG ELOOP EXDEV ENOEXEC "
    "EADDRINUSE EAFNOSUPPORT EMSGSIZE ENOTSOCK"
)


def of_errno(number: int) -> Rule | None:
    """The rule for an OSError's number, or None where it can mean anything (EIO)."""
    if number == errno.ETIMEDOUT:
        return Rule("timeout")
    if number in _UNREACHABLE:
        return Rule("connection")
    if number in _EXHAUSTED:
        return Rule("overload")
    return Rule("validation") if number in _LOCAL else None


def of_sqlite(name: str) -> Rule | None:
    """The rule for `sqlite_errorname`, or None for trouble with the file itself."""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Rule("conflict", answered=True)
    if name.startswith(("SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_RANGE", "SQLITE_READONLY")):
        return Rule("validation", answered=True)
    return None
