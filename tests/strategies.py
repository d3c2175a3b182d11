"""Strategies and functions that tests of several strategies share."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from resilient_agents.core.call import Call, Proceed
from resilient_agents.errors import Rejected


class Again:
    """Calls what is inside twice; a retry that does not care."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            await proceed(call)
        except Exception:
            pass
        return await proceed(call)


class Refuses:
    """Refuses calls that were made to wait inside it."""

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        return proceed(call)

    def recheck(self, call: Call) -> None:
        raise Rejected("changed my mind", policy=call.name, strategy="refuses")


async def value(result: Any = "value") -> Any:
    return result
