"""A bare ASGI application: health by `health_app`, and three paths of its own."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from resilient_agents.integrations import answers
from resilient_agents.integrations.asgi import health_app
from tests.servers import service

if "BUSY_PARENT" in os.environ:
    service.be_a_busy_parent()

health = health_app(service.monitor)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or scope["path"] in answers.PATHS:
        await health(scope, receive, send)
        return
    said: Any = None
    if scope["path"] == "/work":
        service.measured()
        said = await service.policy.acall(done)
    elif scope["path"] == "/trip":
        service.breaker.open()
    else:
        said = service.state()
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})


async def done() -> str:
    return "done"
