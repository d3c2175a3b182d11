"""How far a request had come that ended with an error of a class: what proves that it was never sent. Data only.

A timeout of a whole call, and a reset that may come while sending or reading, say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from resilient_agents.classify.kinds import Phase

__all__ = ["PHASES"]

_HTTPX_PHASES: Final[Mapping[Phase, str]] = {
    "pool": "PoolTimeout",
    "connect": "ConnectTimeout ConnectError ProxyError UnsupportedProtocol",
    "send": "WriteTimeout WriteError",
    "read": "ReadTimeout ReadError RemoteProtocolError",
}
_PHASES_OF: Final[Mapping[str, Mapping[Phase, str]]] = {
    "builtins": {"connect": "ConnectionRefusedError"},
    "socket": {"connect": "gaierror herror"},
    "ssl": {"connect": "SSLCertVerificationError"},
    "http": {"read": "RemoteDisconnected IncompleteRead BadStatusLine LineTooLong"},
    "httpx": _HTTPX_PHASES,
    "httpx2": _HTTPX_PHASES,
    "httpcore": _HTTPX_PHASES,
    "httpcore2": _HTTPX_PHASES,
    "aiohttp": {
        # ConnectionTimeoutError covers the wait for the pool, too: neither has sent anything.
        "connect": "ConnectionTimeoutError ClientConnectorError ServerFingerprintMismatch",
        "read": "SocketTimeoutError ServerDisconnectedError ClientPayloadError",
    },
    "urllib3": {
        "pool": "EmptyPoolError FullPoolError ClosedPoolError",
        "connect": "NewConnectionError ConnectTimeoutError NameResolutionError ProxyError",
        "read": "ReadTimeoutError IncompleteRead InvalidChunkLength",
    },
    "requests": {"connect": "ConnectTimeout ProxyError", "read": "ReadTimeout ChunkedEncodingError"},
    "botocore": {
        "connect": "EndpointConnectionError ConnectTimeoutError ProxyConnectionError",
        "read": "ReadTimeoutError ResponseStreamingError",
    },
    "redis": {"pool": "MaxConnectionsError"},
    "pika": {"connect": "AMQPConnectorException IncompatibleProtocolError"},
    "psycopg": {"connect": "ConnectionTimeout"},
    "psycopg_pool": {"pool": "PoolTimeout TooManyRequests"},
    "sqlalchemy": {"pool": "TimeoutError"},
    "pymongo": {"pool": "WaitQueueTimeoutError", "connect": "ServerSelectionTimeoutError"},
    "curl_cffi": {"connect": "ConnectTimeout DNSError CertificateVerifyError", "read": "ReadTimeout IncompleteRead"},
    "azure": {"connect": "ServiceRequestTimeoutError", "read": "ServiceResponseTimeoutError IncompleteReadError"},
}

PHASES: Final[Mapping[tuple[str, str], Phase]] = MappingProxyType(
    {
        (package, name): phase
        for package, phases in _PHASES_OF.items()
        for phase, names in phases.items()
        for name in names.split()
    }
)
