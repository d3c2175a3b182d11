"""What the classifier knows by heart about classes of errors. Data only.

Classes are known by (top package, class name), so that no client library is ever imported and two libraries that share
their names, such as httpx and httpx2, are told apart or treated alike on purpose.
A class that is not listed is searched along its MRO; the most specific name wins.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final, cast

from resilient_agents.classify.kinds import Kind, Rule
from resilient_agents.classify.stores import STORES

__all__ = ["PACKAGES", "rules_of"]

# "kind flag…": names. Flags: `answered`, `neutral`, `permanent`, `sure` (see Rule).
_Names = Mapping[str, str]

_HTTPX: Final[_Names] = {
    "timeout": "TimeoutException",
    "connection": "TransportError NetworkError ProxyError ProtocolError RemoteProtocolError ConnectionNotAvailable",
    "server": "DecodingError",
    "validation": "LocalProtocolError UnsupportedProtocol TooManyRedirects InvalidURL CookieConflict StreamError",
}

# Made by one generator, as openai's and anthropic's are.
_SDK: Final[_Names] = {"timeout": "APITimeoutError", "connection": "APIConnectionError", "unknown": "APIError"}

PACKAGES: Final[Mapping[str, _Names]] = {
    **STORES,
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
    # What frameworks steer with: a human is asked, a task is handed back, there is nothing in a queue.
    "_queue": {"control": "Empty"},
    "queue": {"control": "Empty Full ShutDown"},
    "bdb": {"control": "BdbQuit"},
    "unittest": {"control": "SkipTest"},
    "langgraph": {
        "control": "GraphBubbleUp GraphInterrupt NodeInterrupt ParentCommand GraphDrained",
        "timeout": "NodeTimeoutError",
        "validation": "EmptyChannelError EmptyInputError InvalidUpdateError TaskNotFound UnknownInterruptError",
        "unknown neutral": "NodeCancelledError",
    },
    "celery": {
        "control": "TaskPredicate Retry RetryTaskError Ignore Reject SoftTimeLimitExceeded TaskRevokedError",
        "timeout": "TimeoutError",
        "server": "BackendError BackendGetMetaError BackendStoreError",
        "validation": "ImproperlyConfigured",
    },
    "dramatiq": {
        "control": "Retry RateLimitExceeded ResultMissing SkipMessage",
        "timeout": "ResultTimeout QueueJoinTimeout",
        "connection": "BrokerConnectionError",
        "validation": "ActorNotFound QueueNotFound",
    },
    "huey": {
        "control": "RetryTask CancelExecution TaskLockedException RateLimitExceeded TaskTimeout",
        "timeout": "ResultTimeout",
        "validation": "ConfigurationError",
    },
    "arq": {"control": "Retry RetryJob"},
    "taskiq": {
        "control": "TaskRejectedError NoResultError ScheduledTaskCancelledError",
        "timeout": "TaskiqResultTimeoutError",
        "connection": "BrokerError",
        "server": "ResultBackendError",
        "validation": "UnknownTaskError TaskBrokerMismatchError",
    },
    "temporalio": {
        "timeout": "TimeoutError RPCTimeoutOrCancelledError",
        "unknown neutral": "CancelledError AsyncActivityCancelledError",
    },
    "billiard": {"control": "SoftTimeLimitExceeded Terminated", "timeout": "TimeLimitExceeded"},
    "agents": {
        "control": "InputGuardrailTripwireTriggered OutputGuardrailTripwireTriggered "
        "ToolInputGuardrailTripwireTriggered ToolOutputGuardrailTripwireTriggered",
        "timeout": "ModelTimeoutError ToolTimeoutError",
        "content_filter answered": "ModelRefusalError",
        "validation": "MaxTurnsExceeded UserError",
        "unknown neutral": "MCPToolCancellationError",
    },
    "starlette": {"control": "ClientDisconnect WebSocketDisconnect"},
    "fastapi": {"validation": "ValidationException"},
    "jsonschema": {"validation": "ValidationError SchemaError"},
    "yaml": {"validation": "YAMLError"},
    "click": {"control": "Abort Exit", "validation": "UsageError FileError"},
    "typer": {"control": "Abort Exit"},
    "socket": {"connection": "gaierror herror"},
    # A certificate that does not verify will not verify a second later; the dependency cannot be used, so it counts.
    "ssl": {
        "control": "SSLWantReadError SSLWantWriteError",
        "connection": "SSLError",
        "connection permanent": "SSLCertVerificationError",
    },
    "asyncio": {"connection": "IncompleteReadError", "control": "QueueEmpty QueueFull QueueShutDown"},
    "concurrent": {"unknown neutral": "CancelledError"},
    "multiprocessing": {"timeout": "TimeoutError"},  # no kin of the built-in one
    "subprocess": {"timeout": "TimeoutExpired"},
    "http": {
        "connection": "RemoteDisconnected IncompleteRead BadStatusLine LineTooLong",
        "validation": "InvalidURL ImproperConnectionState NotConnected",
    },
    "urllib": {"connection": "URLError", "unknown": "HTTPError"},  # HTTPError is an URLError that has a status
    "sqlite3": {"validation answered": "IntegrityError ProgrammingError DataError NotSupportedError InterfaceError"},
    "anyio": {
        "control": "WouldBlock",
        "connection": "BrokenResourceError EndOfStream ClosedResourceError IncompleteRead ConnectionFailed",
        "validation": "BusyResourceError DelimiterNotFound TypedAttributeLookupError",
    },
    "trio": {
        "control": "WouldBlock",
        "timeout": "TooSlowError",
        "connection": "BrokenResourceError EndOfChannel ClosedResourceError",
        "validation": "BusyResourceError",
    },
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "h11": {"connection": "RemoteProtocolError", "validation": "LocalProtocolError"},
    "urllib3": {
        "timeout": "TimeoutError",
        "connection": "ProtocolError ConnectionError NewConnectionError NameResolutionError ProxyError SSLError "
        "MaxRetryError ClosedPoolError IncompleteRead InvalidChunkLength",
        "overload": "EmptyPoolError FullPoolError",
        "server": "DecodeError ResponseError",
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
        "connection": "ClientConnectionError ClientPayloadError HttpProcessingError WebSocketError",
        "connection permanent": "ClientConnectorCertificateError ServerFingerprintMismatch",
        "validation": "InvalidURL NonHttpUrlClientError TooManyRedirects",
    },
    "websockets": {
        "connection": "ConnectionClosed InvalidMessage ProxyError InvalidProxyMessage",
        "validation": "InvalidURI InvalidProxy ConcurrencyError PayloadTooBig",
    },
    "websocket": {
        "timeout": "WebSocketTimeoutException",
        "connection": "WebSocketConnectionClosedException WebSocketAddressException WebSocketProxyException",
    },
    "openai": {
        "timeout": "APITimeoutError",
        "connection": "APIConnectionError WebSocketConnectionClosedError",
        "content_filter answered": "ContentFilterFinishReasonError",
        "validation answered": "LengthFinishReasonError",
        # By itself it says that the client is used in a wrong way: no API key, two ways to say who one is.
        "validation": "OpenAIError",
        "unknown": "APIError SubjectTokenProviderError AgentTurnResultError AgentFileStagingError",
    },
    # The error at the root says, by itself, that there is no API key.
    "groq": {**_SDK, "validation": "GroqError"},
    "together": {**_SDK, "validation": "TogetherError"},
    "cerebras": {**_SDK, "validation": "CerebrasError"},
    "perplexity": {**_SDK, "validation": "PerplexityError"},
    "writerai": {**_SDK, "validation": "WriterError"},
    "cohere": {"validation": "ApiError"},  # of those without a status: there is no API key
    "mistralai": {"connection": "NoResponseError StreamDisconnectedError"},
    "anthropic": {
        "timeout": "APITimeoutError",
        "connection": "APIConnectionError",
        "quota answered": "PaymentRequiredError ContractSpendLimitReachedError EnforcedSpendLimitReachedError",
        "auth": "CredentialsError WorkloadIdentityError",
        "server": "RetryableError",
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
        "control": "ModelRetry ToolRetryError RetryModelRequest ToolFailed ToolFailedError CallDeferred "
        "ApprovalRequired SkipModelRequest SkipToolValidation SkipToolExecution",
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
    "google": {
        "timeout": "RetryError TimeoutError",
        "connection": "TransportError",
        "auth": "DefaultCredentialsError RefreshError OAuthError",
    },
    "grpc": {"timeout": "FutureTimeoutError", "unknown neutral": "FutureCancelledError", "validation": "UsageError"},
    "botocore": {
        "timeout": "ReadTimeoutError ConnectTimeoutError",
        "connection": "HTTPClientError ConnectionError IncompleteReadError",
        "rate_limit": "CapacityNotAvailableError",
        "auth": "NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError "
        "NoAuthTokenError UnauthorizedSSOTokenError SSOError LoginError UnknownCredentialError",
        "validation": "ValidationError ParamValidationError InvalidConfigError BaseEndpointResolverError "
        "EndpointProviderError DataNotFoundError ProfileNotFound InvalidRetryConfigurationError ConfigNotFound "
        "MissingParametersError InvalidDNSNameError UnknownClientMethodError MissingDependencyException "
        "InvalidIMDSEndpointError InvalidIMDSEndpointModeError InvalidS3AddressingStyleError InvalidHostLabelError "
        "UnsupportedS3ConfigurationError UnsupportedS3AccesspointConfigurationError MissingServiceIdError "
        "UnsupportedS3ControlConfigurationError InvalidEndpointDiscoveryConfigurationError InvalidProxiesConfigError "
        "InvalidS3UsEast1RegionalEndpointConfigError InvalidSTSRegionalEndpointsConfigError InvalidDefaultsMode "
        "InvalidEndpointConfigurationError InvalidChecksumConfigError ApiVersionNotFoundError",
    },
    "curl_cffi": {
        "timeout": "Timeout ConnectTimeout ReadTimeout",
        "connection": "ConnectionError DNSError SSLError ProxyError ChunkedEncodingError IncompleteRead",
        "connection permanent": "CertificateVerifyError",
        "server": "ContentDecodingError",
        "validation": "InvalidURL InvalidHeader InvalidSchema InvalidJSONError InvalidProxyURL MissingSchema "
        "URLRequired TooManyRedirects StreamConsumedError UnrewindableBodyError SessionClosed ImpersonateError",
        "unknown": "RequestException",
    },
    "docker": {"validation": "InvalidArgument InvalidConfigFile InvalidRepository InvalidVersion TLSParameterError"},
    "ollama": {"validation": "RequestError"},
    "azure": {
        "timeout": "ServiceRequestTimeoutError ServiceResponseTimeoutError",
        "connection": "ServiceRequestError ServiceResponseError IncompleteReadError",
        "auth": "ClientAuthenticationError",
        "server": "DecodeError",
        "validation": "StreamConsumedError StreamClosedError ResponseNotReadError TooManyRedirectsError",
    },
    "stripe": {
        "connection": "APIConnectionError",
        "rate_limit": "RateLimitError",
        "server": "APIError",
        "auth answered": "AuthenticationError PermissionError",
        "validation answered": "InvalidRequestError IdempotencyError",
        # A card that is declined is an answer, and no failure of stripe's; it comes as 402.
        "validation answered sure": "CardError",
        "validation": "SignatureVerificationError",
    },
    "langchain_core": {
        "timeout": "ModelTimeoutError",
        "connection": "ModelConnectionError",
        "rate_limit": "ModelRateLimitError",
        "server": "ModelAPIError",
        "auth answered": "ModelAuthenticationError ModelPermissionDeniedError",
        "not_found answered": "ModelNotFoundError",
        "context_length answered": "ContextOverflowError",
        "content_filter answered": "ModelRefusalError",
        "validation answered": "ModelInvalidRequestError",
        "validation": "OutputParserException",
    },
}


def _rule(words: str) -> Rule:
    kind, *flags = words.split()
    return Rule(
        cast(Kind, kind),
        False if "permanent" in flags else None,
        answered="answered" in flags,
        neutral="neutral" in flags,
        sure="sure" in flags,
    )


@functools.cache
def rules_of(package: str) -> Mapping[str, Rule]:
    """What the classes of a package mean, by name. Worked out at its first error: few programs meet many of them."""
    return {
        name: rule
        for words, names in PACKAGES.get(package, {}).items()
        for rule in (_rule(words),)
        for name in names.split()
    }
