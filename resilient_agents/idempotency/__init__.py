"""Calls that write: what a policy may repeat, and the key by which the other side knows a repetition.

A request whose answer got lost may have taken effect. A policy that was told `idempotent=False` repeats it only where
nothing was sent, where the function has asked for its `idempotency_key()`, or where `reconcile` says that the first try
did not take effect. Otherwise the error comes out, with `unknown_outcome=True` in its note and on `CallEnded`.

A policy that was told nothing of writes has no part of this in its chain.
"""

from __future__ import annotations

from resilient_agents.idempotency.write import Write, idempotency_key
from resilient_agents.idempotency.writes import Writes

__all__ = ["Write", "Writes", "idempotency_key"]
