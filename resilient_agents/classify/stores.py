"""What the classifier knows by heart about the clients of databases, search engines, brokers and mail servers.

Data only; how it is read stands in `classes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["STORES"]

_Names = Mapping[str, str]

_DBAPI: Final[_Names] = {  # PEP 249; the number, where there is one, is looked at first
    "connection": "OperationalError InterfaceError",
    "validation answered": "ProgrammingError IntegrityError DataError NotSupportedError",
    "server": "InternalError",
}

_SEARCH: Final[_Names] = {
    "timeout": "ConnectionTimeout",
    "connection": "ConnectionError TlsError SSLError SniffingError",
    "server": "SerializationError",
}

_KAFKA: Final[_Names] = {
    "timeout": "KafkaTimeoutError RequestTimedOutError",
    "connection": "KafkaConnectionError NodeNotReadyError NoBrokersAvailable KafkaUnavailableError",
    "auth answered": "AuthenticationFailedError AuthenticationMethodNotSupported SaslAuthenticationFailed "
    "SaslAuthenticationFailedError TopicAuthorizationFailedError GroupAuthorizationFailedError "
    "ClusterAuthorizationFailedError",
    "validation": "KafkaConfigurationError",
}

STORES: Final[Mapping[str, _Names]] = {
    "redis": {
        "timeout": "TimeoutError",
        "connection": "ConnectionError",
        "overload": "BusyLoadingError MaxConnectionsError ClusterDownError OutOfMemoryError "
        "TemporaryUnavailableException",
        # The cluster is moving, and the client's map of it is stale.
        "server": "ReadOnlyError MovedError AskError SlotNotCoveredError InvalidResponse",
        "conflict answered": "WatchError TryAgainError LockError",
        "conflict answered permanent": "LockNotOwnedError",  # the lock has expired: it cannot be released again
        "auth answered": "AuthenticationError AuthorizationError NoPermissionError "
        "AuthenticationWrongNumberOfArgsError",
        "auth": "ExternalAuthProviderError RequestTokenErr TokenRenewalErr InvalidTokenSchemaErr",
        "validation answered": "ResponseError",
        "validation": "DataError PubSubError CrossSlotTransactionError InvalidPipelineStack",
        # RedisClusterException is not here: it is raised for a wrong argument and for a cluster that is down.
        "unknown": "RedisError",
    },
    "psycopg": {
        # Errors of an established connection carry a SQLSTATE, which is looked at first.
        "connection": "OperationalError",
        "timeout": "ConnectionTimeout CancellationTimeout",
        "validation": "ProgrammingError InterfaceError",
    },
    "psycopg2": {"connection": "OperationalError", "validation": "ProgrammingError InterfaceError"},
    # Neither PoolClosed will open again.
    "psycopg_pool": {"timeout": "PoolTimeout", "overload": "TooManyRequests", "validation": "PoolClosed"},
    "asyncpg": {"validation": "InterfaceError", "connection": "TargetServerAttributeNotMatched"},
    "sqlalchemy": {
        "timeout": "TimeoutError",
        "connection": "DisconnectionError",
        "validation": "ArgumentError CompileError InvalidRequestError StatementError",
        "unknown": "DBAPIError",  # told by the driver's own error, which it wraps
    },
    "pymysql": _DBAPI,
    "MySQLdb": _DBAPI,
    "mysql": _DBAPI,
    "mariadb": _DBAPI,
    "pymongo": {
        "timeout": "NetworkTimeout ServerSelectionTimeoutError WaitQueueTimeoutError ExecutionTimeout WTimeoutError",
        "connection": "ConnectionFailure AutoReconnect",
        "server": "NotPrimaryError",
        "validation answered": "OperationFailure",
        "validation": "InvalidOperation ConfigurationError InvalidURI InvalidName CollectionInvalid DocumentTooLarge",
    },
    "neo4j": {
        "timeout": "ConnectionAcquisitionTimeoutError SocketDeadlineExceededError",
        "connection": "ServiceUnavailable SessionExpired",
        "auth answered": "AuthError",
        "validation answered": "ClientError",
        "server": "TransientError DatabaseUnavailable",
    },
    "cassandra": {
        "timeout": "OperationTimedOut Timeout",
        "connection": "NoHostAvailable UnresolvableContactPoints",
        "overload": "Unavailable",
        "auth answered": "AuthenticationFailed Unauthorized",
        "server": "CoordinationFailure",
        "validation answered": "RequestValidationException",
    },
    "chromadb": {
        "rate_limit": "RateLimitError",
        "quota answered": "QuotaError",
        "auth answered": "ChromaAuthError AuthorizationError",
        "not_found answered": "NotFoundError",
        "server": "InternalError",
        "validation answered": "InvalidArgumentError InvalidDimensionException IDAlreadyExistsError DuplicateIDError "
        "UniqueConstraintError BatchSizeExceededError",
    },
    "weaviate": {
        "timeout": "WeaviateTimeoutError",
        "connection": "WeaviateConnectionError WeaviateGRPCUnavailableError",
        "auth": "AuthenticationFailedError MissingScopeError",
        "validation answered": "ObjectAlreadyExistsError",
        "validation": "WeaviateInvalidInputError SchemaValidationError InvalidDataModelError WeaviateClosedClientError "
        "WeaviateUnsupportedFeatureError WeaviateBatchValidationError",
    },
    "nats": {
        "connection": "StaleConnectionError ConnectionClosedError ConnectionDrainingError ConnectionReconnectingError "
        "NoServersError SecureConnFailedError",
        "overload": "NoRespondersError NoStreamResponseError OutboundBufferLimitError",
        "auth": "InvalidUserCredentialsError",
        "auth answered": "AuthorizationError",
        "not_found answered": "NotFoundError KeyNotFoundError ObjectNotFoundError",
        "conflict answered": "KeyWrongLastSequenceError",
        "validation": "BadSubjectError BadSubscriptionError BadTimeoutError MaxPayloadError InvalidCallbackTypeError",
    },
    "pinecone": {"connection": "PineconeConnectionError"},
    "smtplib": {
        "connection": "SMTPServerDisconnected SMTPConnectError",
        "auth answered": "SMTPAuthenticationError",
        "validation answered": "SMTPNotSupportedError",
        "validation answered permanent": "SMTPRecipientsRefused",
        "unknown": "SMTPException",
    },
    "aiosmtplib": {
        "timeout": "SMTPTimeoutError SMTPConnectTimeoutError SMTPReadTimeoutError",
        "connection": "SMTPConnectError SMTPServerDisconnected SMTPConnectResponseError",
        "auth answered": "SMTPAuthenticationError",
    },
    "ftplib": {"server": "error_temp", "validation answered": "error_perm", "connection": "error_proto error_reply"},
    "imaplib": {"connection": "abort"},
    "kombu": {
        "connection": "OperationalError",
        "overload": "LimitExceeded",
        "validation": "SerializationError SerializerNotInstalled NotBoundError MessageStateError",
    },
    "amqp": {
        "connection": "ConnectionError RecoverableConnectionError RecoverableChannelError",
        "auth answered": "AccessRefused NotAllowed",
        "not_found answered": "NotFound InvalidPath",
        "conflict answered": "ResourceLocked",
        "validation answered": "PreconditionFailed",
        "overload": "ResourceError",
    },
    "pika": {
        "timeout": "AMQPHeartbeatTimeout ConnectionBlockedTimeout AMQPConnectorStackTimeout",
        "connection": "AMQPConnectionError AMQPConnectorException ChannelWrongStateError ChannelClosed",
        "auth answered": "AuthenticationError ProbableAuthenticationError ProbableAccessDeniedError",
        "overload": "NoFreeChannels",
        "validation answered": "UnroutableError NackError",
        "validation": "ReentrancyError IncompatibleProtocolError",
    },
    "aiormq": {
        "connection": "AMQPConnectionError ChannelInvalidStateError ConnectionClosed",
        "auth answered": "AuthenticationError ProbableAuthenticationError ChannelAccessRefused",
        "not_found answered": "ChannelNotFoundEntity",
        "conflict answered": "ChannelLockedResource",
        "validation answered": "ChannelPreconditionFailed",
    },
    "qdrant_client": {"rate_limit": "ResourceExhaustedResponse"},
    "elastic_transport": _SEARCH,
    "elasticsearch": _SEARCH,
    "opensearchpy": _SEARCH,
    "kafka": _KAFKA,
    "aiokafka": _KAFKA,
}
