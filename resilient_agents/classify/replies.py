"""What the classifier knows by heart of the numbers that databases, mail servers, brokers and sockets answer with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from resilient_agents.classify.codes import of_status
from resilient_agents.classify.kinds import Kind, Rule

__all__ = ["of_amqp", "of_close_code", "of_curl", "of_mongo", "of_mysql", "of_smtp"]

_REFUSED: Final = Rule("validation", answered=True)


def _numbers(by_rule: Mapping[str, str]) -> Mapping[int, Rule]:
    """ "kind flag…": numbers."""
    return MappingProxyType(
        {
            int(number): Rule(
                cast(Kind, words.split()[0]), False if "permanent" in words else None, "answered" in words
            )
            for words, numbers in by_rule.items()
            for number in numbers.split()
        }
    )


# https://dev.mysql.com/doc/mysql-errors/en/ and MariaDB's own.
_MYSQL: Final = _numbers(
    {
        "connection": "0 1053 1080 1152 1153 1154 1155 1156 1157 1158 1159 1160 1161 1184 1927 2002 2003 2004 2005 "
        "2006 2012 2013 2024 2055 4031",
        "connection permanent": "2026",  # TLS
        "overload": "1021 1037 1038 1040 1041 1135 1203 1226",
        "conflict answered": "1205 1213 1614 3058 3572",
        "timeout": "1969 3024",
        "auth answered": "1044 1045 1142 1143 1227 1370 1698 1820 1862 2059 3118",
        "not_found answered": "1049",
        "server": "1105 1290 1317 1836",
        "validation": "2014",  # commands out of order: the caller's own
    }
)
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_MONGO: Final = _numbers(
    {
        "timeout": "50 89 202 262",
        "connection": "6 7 9001",
        "server": "91 189 10107 10058 11600 11602 13435 13436 317 358 384",
        "conflict answered": "24 112 225 244 246 251",
        "rate_limit": "462",
        "overload": "146 39",
        "auth answered": "11 13 18 33 8000",
        "not_found answered": "26",
    }
)
# RFC 5321: 4yz passes, 5yz does not.
_SMTP: Final = _numbers({"overload": "421 450 452", "connection": "-1", "auth answered": "530 534 535 538"})
# AMQP 0-9-1, section 1.2
_AMQP: Final = _numbers(
    {
        "connection": "320",
        "auth answered": "403 530",
        "not_found answered": "404",
        "conflict answered": "405",
        "overload": "506",
        "server": "541",
        "server permanent": "501 502 503 504 505 540",
    }
)
# https://curl.se/libcurl/c/libcurl-errors.html
_CURL: Final = _numbers(
    {
        "timeout": "28",
        "connection": "5 6 7 16 18 35 52 55 56 92 95 96 97",
        "connection permanent": "51 58 60 77 83 90 91",
        "validation": "1 3 4 43",
        "server": "61",
    }
)
# https://www.iana.org/assignments/websocket/websocket.xml
_CLOSE_CODES: Final = _numbers(
    {
        "connection": "1000 1001 1005 1006 1015",
        "validation answered": "1002 1003 1007 1008 1009 1010",
        "server": "1011 1012 1014",
        "overload": "1013",
        "auth answered": "3000 3003",
        "timeout": "3008",
    }
)


def of_mysql(number: int) -> Rule:
    """The rule for a number of the server's (from 1000) or of the client library's (from 2000)."""
    return _MYSQL.get(number) or (Rule("connection") if 2000 <= number < 3000 else _REFUSED)


def of_mongo(number: int) -> Rule:
    """The rule for an error code of MongoDB."""
    return _MONGO.get(number) or _REFUSED


def of_smtp(number: int) -> Rule | None:
    """The rule for a reply code of a mail server."""
    return _SMTP.get(number) or (Rule("server") if 400 <= number < 500 else _REFUSED if 500 <= number < 600 else None)


def of_amqp(number: int) -> Rule | None:
    """The rule for a reply code of a message broker."""
    return _AMQP.get(number) or (_REFUSED if 300 <= number < 500 else None)


def of_curl(number: int) -> Rule | None:
    """The rule for libcurl's result."""
    return _CURL.get(number)


def of_close_code(number: int) -> Rule | None:
    """The rule for the code with which a peer closed a WebSocket; 4400 to 4599 are in use for HTTP statuses."""
    return _CLOSE_CODES.get(number) or (of_status(number - 4000) if 4400 <= number <= 4599 else None)
