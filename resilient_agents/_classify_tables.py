"""What the classifier knows by heart: names of classes, statuses, codes. Data and look-ups only.

Classes are known by (top package, class name), so that no client library is ever imported and two libraries that share
their names, such as httpx and httpx2, are told apart or treated alike on purpose.
A class that is not listed is searched along its MRO; the most specific name wins.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, cast, get_args

__all__ = [
    "BROKEN_REPLY",
    "CANCELLED",
    "CLASSES",
    "CODES",
    "KINDS",
    "MESSAGES",
    "SPECIFIC",
    "TRANSIENT",
    "UNKNOWN",
    "WEAK_CODES",
    "Kind",
    "Rule",
    "Verdict",
    "of_errno",
    "of_mcp",
    "of_sqlite",
    "of_sqlstate",
    "of_status",
]

Kind = Literal[
    "timeout",
    "connection",
    "rate_limit",
    "overload",
    "server",
    "conflict",
    "quota",
    "auth",
    "not_found",
    "validation",
    "context_length",
    "content_filter",
    "rejected",
    "unknown",
]
Verdict = Literal["failure", "success", "neutral"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TRANSIENT: Final = frozenset[Kind](("timeout", "connection", "rate_limit", "overload", "server", "conflict"))
# Kinds that tell more than a status does: a 429 whose code is `insufficient_quota` is `quota`.
SPECIFIC: Final = frozenset[Kind](("quota", "context_length", "content_filter"))


class Rule(NamedTuple):
    """What one class, code or status means."""

    kind: Kind
    transient: bool | None = None  # None: as the kind says
    answered: bool = False  # only a dependency that is alive can have sent this
    neutral: bool = False  # says nothing about the dependency, whatever the kind


UNKNOWN: Final = Rule("unknown")
CANCELLED: Final = Rule("unknown", neutral=True)
BROKEN_REPLY: Final = Rule("connection")

# --------------------------------------------------------------------------------------------------------- classes
# "kind flag…": names. Flags: `answered`, `neutral`, `permanent` (see Rule).
_Names = Mapping[str, str]

_HTTPX: Final[_Names] = {
    "timeout": "TimeoutException",
    "connection": "TransportError NetworkError ProxyError ProtocolError RemoteProtocolError ConnectionNotAvailable",
    "server": "DecodingError",
    "validation": "LocalProtocolError UnsupportedProtocol TooManyRedirects InvalidURL CookieConflict StreamError",
}

_PACKAGES: Final[Mapping[str, _Names]] = {
    "resilient_agents": {
        "rejected": "Rejected",
        "timeout": "PolicyTimeoutError",
        # The caller ran out of patience, the dependency may be well, and another try would be late again.
        "timeout permanent neutral": "DeadlineExceeded",
        "connection": "StreamTruncatedError",
    },
    "pybreaker": {"rejected": "CircuitBreakerError"},
    "builtins": {
        "timeout": "TimeoutError",
        "connection": "ConnectionError EOFError",
        # Raised by the caller's own code or its own machine. RuntimeError is not here: libraries use it for anything.
        "validation": "TypeError ValueError LookupError AttributeError NameError AssertionError ArithmeticError "
        "NotImplementedError RecursionError ImportError SyntaxError StopIteration StopAsyncIteration BufferError "
        "FileNotFoundError FileExistsError IsADirectoryError NotADirectoryError PermissionError ProcessLookupError",
    },
    "socket": {"connection": "gaierror herror"},
    # A certificate that does not verify will not verify a second later; the dependency cannot be used, so it counts.
    "ssl": {"connection": "SSLError", "connection permanent": "SSLCertVerificationError"},
    "asyncio": {"connection": "IncompleteReadError"},
    "concurrent": {"unknown neutral": "CancelledError"},
    "multiprocessing": {"timeout": "TimeoutError"},  # no kin of the built-in one
    "subprocess": {"timeout": "TimeoutExpired"},
    "http": {"connection": "RemoteDisconnected IncompleteRead BadStatusLine LineTooLong", "validation": "InvalidURL"},
    "urllib": {"connection": "URLError", "unknown": "HTTPError"},  # HTTPError is an URLError that has a status
    "sqlite3": {"validation answered": "IntegrityError ProgrammingError DataError NotSupportedError InterfaceError"},
    "anyio": {
        "connection": "BrokenResourceError EndOfStream ClosedResourceError IncompleteRead ConnectionFailed",
        "validation": "BusyResourceError DelimiterNotFound TypedAttributeLookupError",
    },
    "trio": {
        "timeout": "TooSlowError",
        "connection": "BrokenResourceError EndOfChannel ClosedResourceError",
        "validation": "BusyResourceError",
    },
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "urllib3": {
        "timeout": "TimeoutError",
        "connection": "ProtocolError ConnectionError NewConnectionError NameResolutionError ProxyError SSLError "
        "MaxRetryError ClosedPoolError IncompleteRead InvalidChunkLength",
        "overload": "EmptyPoolError FullPoolError",
        "server": "DecodeError",
        "validation": "LocationValueError InvalidHeader TimeoutStateError UnrewindableBodyError",
    },
    "requests": {
        "timeout": "Timeout ConnectTimeout",
        "connection": "ConnectionError ChunkedEncodingError",
        "server": "ContentDecodingError",
        "validation": "InvalidJSONError InvalidHeader InvalidSchema InvalidURL MissingSchema URLRequired "
        "TooManyRedirects StreamConsumedError UnrewindableBodyError",
        "unknown": "RequestException",
    },
    "aiohttp": {
        "timeout": "ServerTimeoutError",
        "connection": "ClientConnectionError ClientPayloadError HttpProcessingError",
        "connection permanent": "ClientConnectorCertificateError ServerFingerprintMismatch",
        "validation": "InvalidURL NonHttpUrlClientError TooManyRedirects",
    },
    "websockets": {"connection": "ConnectionClosed InvalidMessage", "validation": "InvalidURI"},
    "openai": {
        "timeout": "APITimeoutError",
        "connection": "APIConnectionError WebSocketConnectionClosedError",
        "content_filter answered": "ContentFilterFinishReasonError",
        "validation answered": "LengthFinishReasonError",
    },
    "anthropic": {
        "timeout": "APITimeoutError",
        "connection": "APIConnectionError",
        "quota answered": "PaymentRequiredError ContractSpendLimitReachedError EnforcedSpendLimitReachedError",
        "auth": "CredentialsError WorkloadIdentityError",
    },
    "litellm": {
        "timeout": "Timeout",
        "connection": "APIConnectionError",
        "quota": "BudgetExceededError",
        "context_length answered": "ContextWindowExceededError",
        "content_filter answered": "ContentPolicyViolationError",
        "rate_limit": "RouterRateLimitError RouterRateLimitErrorBasic",
    },
    "pydantic_ai": {
        "timeout": "ModelTimeoutError ModelRequestTimeout RunTimedOut",
        "connection": "ModelConnectionError",
        "rate_limit": "ModelRateLimitError ConcurrencyLimitExceeded",
        "overload": "ModelUnavailableError",
        "server": "ModelServerError",
        "quota answered": "ModelQuotaExceededError",
        "quota": "UsageLimitExceeded",
        "context_length answered": "ModelContextWindowExceededError",
        "content_filter answered": "ContentFilterError",
        "auth answered": "ModelAuthenticationError",
        "not_found answered": "ModelNotFoundError",
        "validation answered": "ModelRequestRejectedError",
        "validation": "UserError",
        "unknown neutral": "RunCancelled",
    },
    "google": {"timeout": "RetryError"},
    "grpc": {"timeout": "FutureTimeoutError", "unknown neutral": "FutureCancelledError", "validation": "UsageError"},
    "botocore": {
        "timeout": "ReadTimeoutError ConnectTimeoutError",
        "connection": "HTTPClientError ConnectionError IncompleteReadError",
        "rate_limit": "CapacityNotAvailableError",
        "auth": "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError "
        "NoAuthTokenError UnauthorizedSSOTokenError SSOError LoginError UnknownCredentialError",
        "validation": "ValidationError ParamValidationError InvalidConfigError BaseEndpointResolverError "
        "EndpointProviderError DataNotFoundError ProfileNotFound InvalidRetryConfigurationError ConfigNotFound "
        "MissingParametersError InvalidDNSNameError UnknownClientMethodError MissingDependencyException",
    },
    "redis": {
        "timeout": "TimeoutError",
        "connection": "ConnectionError",
        "overload": "BusyLoadingError MaxConnectionsError ClusterDownError OutOfMemoryError",
        # The cluster is moving, and the client's map of it is stale.
        "server": "ReadOnlyError MovedError AskError SlotNotCoveredError InvalidResponse",
        "conflict answered": "WatchError TryAgainError LockError",
        "conflict answered permanent": "LockNotOwnedError",  # the lock has expired: it cannot be released again
        "auth answered": "AuthenticationError AuthorizationError NoPermissionError "
        "AuthenticationWrongNumberOfArgsError",
        "auth": "ExternalAuthProviderError",
        "validation answered": "ResponseError",
        "validation": "DataError PubSubError CrossSlotTransactionError InvalidPipelineStack",
        # RedisClusterException is not here: it is raised for a wrong argument and for a cluster that is down.
        "unknown": "RedisError",
    },
    "psycopg": {
        # Errors of an established connection carry a SQLSTATE, which is looked at first.
        "connection": "OperationalError",
        "timeout": "ConnectionTimeout CancellationTimeout",
        "validation": "ProgrammingError",
    },
    "psycopg2": {"connection": "OperationalError", "validation": "ProgrammingError"},
    "psycopg_pool": {"timeout": "PoolTimeout", "overload": "TooManyRequests"},
    "sqlalchemy": {"timeout": "TimeoutError"},
}


def _rule(words: str) -> Rule:
    kind, *flags = words.split()
    return Rule(cast(Kind, kind), False if "permanent" in flags else None, "answered" in flags, "neutral" in flags)


CLASSES: Final[Mapping[tuple[str, str], Rule]] = MappingProxyType(
    {
        (package, name): _rule(words)
        for package, kinds in _PACKAGES.items()
        for words, names in kinds.items()
        for name in names.split()
    }
)

# ----------------------------------------------------------------------------------------------------------- codes


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

# Anthropic, Google and servers that speak OpenAI's protocol name these only in the message of a refused request.
MESSAGES: Final[tuple[tuple[str, Kind], ...]] = (
    ("prompt is too long", "context_length"),
    ("input token count", "context_length"),
    ("maximum context length", "context_length"),
    ("context window", "context_length"),
    ("credit balance is too low", "quota"),
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


def of_status(status: int) -> Rule:
    """The rule for an HTTP status between 400 and 599."""
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
