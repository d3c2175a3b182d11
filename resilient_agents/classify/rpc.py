"""What gRPC's trailing metadata say about another try: pushback (gRFC A6) and google.rpc's RetryInfo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["pushback_of", "retry_info_of"]

_RETRY_INFO: Final = b"type.googleapis.com/google.rpc.RetryInfo"
_MAX_STATUS: Final = 16384


def pushback_of(metadata: Any) -> tuple[float | None, bool | None]:
    """Seconds to wait, and False where the server forbids a retry (a negative or unreadable number does)."""
    text = _value(metadata, "grpc-retry-pushback-ms")
    if text is None:
        return None, None
    try:
        text = text.decode("ascii") if isinstance(text, bytes) else str(text)
        if text.isascii() and text.isdigit() and len(text) < 16:
            return int(text) / 1000.0, None
    except Exception:
        pass
    return None, False


def retry_info_of(metadata: Any) -> float | None:
    """Seconds of the RetryInfo in a google.rpc.Status, which travels serialized."""
    status = _value(metadata, "grpc-status-details-bin")
    if not isinstance(status, bytes) or len(status) > _MAX_STATUS:
        return None
    try:
        for number, detail in _fields(status):
            if number == 3 and isinstance(detail, bytes):  # Status.details, each an Any of type_url and value
                parts = dict(_fields(detail))
                if parts.get(1) == _RETRY_INFO and isinstance(value := parts.get(2), bytes):
                    delay = dict(_fields(value)).get(1)  # RetryInfo.retry_delay, a Duration of seconds and nanos
                    duration = dict(_fields(delay)) if isinstance(delay, bytes) else {}
                    seconds, nanos = duration.get(1, 0), duration.get(2, 0)
                    if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 2**62:
                        return seconds + nanos / 1e9
    except (IndexError, ValueError):  # not what it should be
        return None
    return None


def _value(metadata: Any, wanted: str) -> Any:
    try:
        return next((value for key, value in metadata or () if key == wanted), None)
    except Exception:
        return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number and value, an int or the bytes of a string or message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("cut off")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError("neither a number nor bytes")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
