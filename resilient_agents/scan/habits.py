"""Rules about how clients are used: RA301, RA401."""

from __future__ import annotations

from resilient_agents.scan.callers import handed_through, reaches
from resilient_agents.scan.form import Scope, last_name
from resilient_agents.scan.holders import names_of
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.members import receiver
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import ClientValue, FunctionValue, Made, Method, Spot, Symbol

__all__ = ["asks", "client_per_call", "renewed", "reused_request_socket"]

POOLED = {"http", "redis", "model"}
"""Kinds whose clients hold connections that are worth keeping."""
SINGLE = {
    *("http.client", "urllib", "yfinance", "google.auth", "discord_webhook", "edge_tts", "gtts"),
    *("speech_recognition", "yt_dlp", "youtube_dl", "huggingface_hub", "pycurl", "newspaper", "ntplib"),
}
"""Libraries whose clients are one connection and not to be shared, or keep none."""
ONCE = {
    *("main", "__init__", "__enter__", "__aenter__", "setup", "setUp", "run", "start"),
    *("lifespan", "on_startup", "post_init", "setup_hook", "startup"),
}
SHARED = {"adapter", "client", "http_client", "session"}
"""What a client is given that has the connections already."""
LAST = {
    "close",
    "stop",
    "shutdown",
    "cleanup",
    "clean_up",
    "exit",
    "aexit",
    "del",
    "terminate",
    "destroy",
    "teardown",
    "disconnect",
    "quit",
}
"""Functions after which nothing is asked any more."""
NOTHING = ("const", None)
RELAXED = {"REQ_RELAXED", "req_relaxed"}


def client_per_call(found: Found, resolver: Resolver) -> str | None:
    call, owner = found.call, found.seen.owner
    if owner is None or owner.made is None or call.kind not in POOLED or call.function in ONCE | {None}:
        return None
    if call.dependency in SINGLE:
        return None
    here, made = found.seen.spot, owner.made.spot
    if _shares(owner.made, resolver) or any(each.kind == "lambda" for each in here.within.inside(here.block)):
        return None
    if owner.of is not None or (made.file, made.scope) != (here.file, here.scope) or _repeated(found):
        return None
    if any("." in name for name in names_of(made, owner.made.number)):  # it is kept: `self.session = …`
        return None
    return f"{owner.client.name} is made for each call of {call.function}; make it once and share its connections"


def _shares(made: Made, resolver: Resolver) -> bool:
    """Whether it is given connections that this call has not made: `Webhook.from_url(url, session=self.session)`."""
    given = [each for name, each in made.site.keywords.items() if name in SHARED and each != NOTHING]
    values = [value for each in given for value in resolver.evaluate(each, made.spot)]
    own = (made.spot.file, made.spot.scope)
    makers = [each.made.spot for each in values if isinstance(each, ClientValue) and each.made is not None]
    return bool(given) and own not in [(spot.file, spot.scope) for spot in makers]


def _repeated(found: Found) -> bool:
    """Whether one client that is made here makes many calls here."""
    owner, scope, block = found.seen.owner, found.seen.spot.within, found.seen.site.block
    while block >= 0 and owner is not None and owner.made is not None:
        if scope.blocks[block].kind in ("loop", "each") and not scope.encloses(block, owner.made.spot.block):
            return True
        block = scope.blocks[block].parent
    return False


def reused_request_socket(found: Found, resolver: Resolver) -> str | None:
    seen = found.seen
    if seen.operation.option != "RCVTIMEO" or found.call.limit != "explicit":
        return None
    path = receiver(seen.site.callee)
    if not path.startswith("self.") or not found.call.limit_source.startswith(("setsockopt", "attribute", "set ")):
        return None
    if not asks(seen, resolver) or renewed(seen, resolver):
        return None
    return f"after a timeout of {path} it takes no new request: close it and make another, or set REQ_RELAXED"


def asks(seen: Sighting, resolver: Resolver) -> bool:
    """Whether it is a method of a REQ socket whose making is there to read."""
    if seen.owner is None or not _asks(seen.owner, resolver):
        return False
    values = resolver.evaluate(seen.site.callee, seen.spot)
    return all(isinstance(each, Method) and _asks(each.owner, resolver) for each in values)


def renewed(seen: Sighting, resolver: Resolver) -> bool:
    """Whether the file makes what the call is made on anew, closes it to go on, or relaxes it."""
    path, file = receiver(seen.site.callee), seen.spot.file
    makers = [
        number
        for number, scope in enumerate(file.form.scopes)
        if any(each.value != NOTHING for each in scope.bindings.get(path, ()))
    ]
    return (
        len(makers) > 1
        or any(_relaxes_or_closes(scope, path) for scope in file.form.scopes)
        or any(_made_again(resolver, FunctionValue(file, number)) for number in makers)
    )


def _asks(owner: ClientValue, resolver: Resolver) -> bool:
    """Whether it is a REQ socket."""
    return resolver.settled((owner, "REQ"), lambda: _made_to_ask(owner.made, owner.through, resolver))


def _made_to_ask(made: Made | None, through: Made | None, resolver: Resolver) -> bool:
    if made is None:
        return False
    handed = [(each, made.spot) for each in made.site.arguments]
    if through is not None:
        handed = [handed_through(each, spot, through) for each, spot in handed]
    kinds = [kind for each, spot in handed for kind in resolver.evaluate(each, spot)]
    return any(isinstance(kind, Symbol) and kind.path.endswith(".REQ") for kind in kinds)


def _relaxes_or_closes(scope: Scope, path: str) -> bool:
    calls = [site for site in scope.calls if receiver(site.callee) == path]
    if any(last_name(argument) in RELAXED for site in calls for argument in site.arguments):
        return True
    closed = any(last_name(site.callee) in ("close", "disconnect") for site in calls)
    return closed and scope.name.strip("_") not in LAST


def _made_again(resolver: Resolver, maker: FunctionValue) -> bool:
    """Whether a function that goes on calls what has made it; a call of the same name that is not known may do."""
    name = maker.within.name
    if name in ONCE:
        return False
    for number, scope in enumerate(maker.file.form.scopes):
        if number != maker.scope and scope.name not in ONCE:
            for index, site in enumerate(scope.calls):
                if last_name(site.callee) == name:
                    values = resolver.callee(Spot(maker.file, number, site.order, site.block), index)
                    if not values or reaches(resolver, values, maker):
                        return True
    return False
