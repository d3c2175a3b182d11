"""Rules about how clients are used: RA301, RA302, RA401."""

from __future__ import annotations

from resilient_agents.scan.form import Scope, last_name
from resilient_agents.scan.holders import names_of
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.members import receiver
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.values import Symbol

__all__ = ["client_per_call", "reused_request_socket", "unbounded_fan_out"]

POOLED = {"http", "redis", "model"}
"""Kinds whose clients hold connections that are worth keeping."""
SINGLE = {"http.client", "urllib"}
"""Libraries whose clients are one connection and not to be shared, or keep none."""
ONCE = {"main", "__init__", "__enter__", "__aenter__", "setup", "setUp", "run", "start"}
RELAXED = {"REQ_RELAXED", "req_relaxed"}


def client_per_call(found: Found, _: Resolver) -> str | None:
    call, owner = found.call, found.seen.owner
    if owner is None or owner.made is None or call.kind not in POOLED or call.function in ONCE | {None}:
        return None
    if call.dependency in SINGLE:
        return None
    here, made = found.seen.spot, owner.made.spot
    if owner.of is not None or (made.file, made.scope) != (here.file, here.scope) or _repeated(found):
        return None
    return f"{owner.client.name} is made for each call of {call.function}; make it once and share its connections"


def _repeated(found: Found) -> bool:
    """Whether one client that is made here makes many calls here."""
    owner, scope, block = found.seen.owner, found.seen.spot.within, found.seen.site.block
    while block >= 0 and owner is not None and owner.made is not None:
        if scope.blocks[block].kind in ("loop", "each") and not scope.encloses(block, owner.made.spot.block):
            return True
        block = scope.blocks[block].parent
    return False


def unbounded_fan_out(found: Found, resolver: Resolver) -> str | None:
    seen = found.seen
    if not seen.operation.is_async or seen.site.awaited:
        return None
    scope = seen.spot.within
    if not any(block.kind == "each" for block in scope.inside(seen.site.block)):
        return None
    for site in scope.calls:
        if last_name(site.callee) == "gather" and site.starred:
            values = resolver.evaluate(site.callee, seen.spot)
            if any(isinstance(value, Symbol) and value.path == "asyncio.gather" for value in values):
                return f"as many {found.call.callee} at once as there are items; put a bulkhead around it"
    return None


def reused_request_socket(found: Found, resolver: Resolver) -> str | None:
    seen = found.seen
    owner = seen.owner
    if owner is None or owner.made is None or seen.operation.option != "RCVTIMEO" or found.call.limit != "explicit":
        return None
    made, path = owner.made, receiver(seen.site.callee)
    kinds = [value for each in made.site.arguments for value in resolver.evaluate(each, made.spot)]
    if not any(isinstance(value, Symbol) and value.path.endswith(".REQ") for value in kinds):
        return None
    if not path.startswith("self.") or not found.call.limit_source.startswith(("setsockopt", "attribute", "set ")):
        return None
    scopes = seen.spot.file.form.scopes
    if sum(_renewed(scope, path) for scope in scopes) > len(names_of(made.spot.within, made.number)):
        return None
    return f"after a timeout of {path} it takes no new request: close it and make another, or set REQ_RELAXED"


def _renewed(scope: Scope, path: str) -> int:
    """How often a scope makes, closes or relaxes what stands under the name."""
    calls = [site for site in scope.calls if receiver(site.callee) == path]
    relaxed = any(last_name(argument) in RELAXED for site in calls for argument in site.arguments)
    closed = any(last_name(site.callee) in ("close", "disconnect") for site in calls)
    made = sum(binding.value != ("const", None) for binding in scope.bindings.get(path, ()))
    return made + 10 * (relaxed or closed)
