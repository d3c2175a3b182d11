"""Policies and shared strategies by name, for a service that has dozens of them.

    registry.configure("resilience.toml")
    policy = registry.policy("openai")          # the same object ever after, from any thread

The rooms: target (what a configuration asks for, every stateful strategy under a name) -> change (a change before it
happens) -> recent and keyed (one policy per host, tenant or model) -> store (what names stand for) -> names (the
registry itself) -> shorthand. They are imported when they are asked for: who composes policies needs none.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from resilient_agents.base.trial import VARIABLE

if TYPE_CHECKING:
    from resilient_agents.registry.keyed import Keyed
    from resilient_agents.registry.names import Registry
    from resilient_agents.registry.shorthand import (
        get_bulkhead,
        get_circuit_breaker,
        get_gate,
        get_policy,
        get_rate_limit,
        registry,
    )
    from resilient_agents.registry.store import Changes

__all__ = [
    "Changes",
    "Keyed",
    "Registry",
    "get_bulkhead",
    "get_circuit_breaker",
    "get_gate",
    "get_policy",
    "get_rate_limit",
    "registry",
]

_ROOMS = {"Changes": "store", "Keyed": "keyed", "Registry": "names"}


if not TYPE_CHECKING:  # to a type checker it would say that any name is there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_ROOMS.get(name, 'shorthand')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if os.environ.get(VARIABLE):
    from resilient_agents.registry.experiments import start_what_the_environment_says

    _experiments = start_what_the_environment_says()
