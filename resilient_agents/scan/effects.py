"""What a call does to the other side: whether it may be made twice, and whether anybody is asked at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from resilient_agents.scan.form import Expression
from resilient_agents.scan.holders import sites_on
from resilient_agents.scan.limits import by_symbol, types_of
from resilient_agents.scan.resolve import Resolver
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.values import Data, Opaque, Spot, Values

__all__ = ["repeatable", "serves"]

METHODS = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"), True),
    **dict.fromkeys(("POST", "PATCH"), False),
}
"""Of HTTP: RFC 9110, section 9.2.2, and RFC 5789 for PATCH."""
STATEMENTS = {
    **dict.fromkeys(("SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "VALUES", "TABLE", "PRAGMA", "USE", "SET"), True),
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "MERGE", "UPSERT", "REPLACE", "COPY", "LOAD"), False),
    **dict.fromkeys(("CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "CALL", "EXEC", "EXECUTE", "DO"), False),
}
"""Of SQL, by the first word. The others, `WITH` among them, may be anything."""
HARMLESS = (" IF EXISTS", " IF NOT EXISTS", " OR REPLACE ", " OR IGNORE ", " IGNORE ", " DO NOTHING")
"""What makes a statement that writes the same when it is done twice."""
TEXTS = frozenset(["text", "SQL"])
"""Functions that make a statement of a text: of SQLAlchemy, of psycopg."""
NOTHING = ("const", None)
KEYS = frozenset(["idempotency-key", "x-idempotency-key"])


def repeatable(seen: Sighting, resolver: Resolver) -> bool | None:
    """Whether making it twice is the same as once; None where the code does not say."""
    operation = seen.operation
    answer = operation.idempotent
    if answer is None and operation.says is not None:
        answer = _said(resolver, seen, operation.says)
    elif answer is None and operation.sends is not None:
        answer = _sent(resolver, seen, *operation.sends)
    return True if answer is False and (_keyed(resolver, seen) or _asks_a_model(resolver, seen)) else answer


def serves(seen: Sighting, resolver: Resolver) -> bool:
    """Whether it waits for what comes by itself, or talks to one who came: there is nobody whom it could ask again."""
    owner = seen.owner
    while owner is not None:
        if owner.client.serving:
            return True
        owner = owner.of
    if seen.operation.serves_with is not None:
        return _argument(seen.given.keywords, seen.given.arguments, *seen.operation.serves_with) != NOTHING
    serving, owner = seen.operation.serves, seen.owner
    after = seen.operation.serves_after
    if after and owner is not None and any(True for _ in sites_on(resolver, owner, seen, after)):
        return True
    if isinstance(serving, bool) or owner is None or owner.made is None:
        return serving is True
    types = types_of(resolver, owner.made, owner.through, seen.spot)
    return bool(types) and all(by_symbol(dict.fromkeys(serving, "yes"), path) for path in types)


def _said(resolver: Resolver, seen: Sighting, at: int) -> bool | None:
    """What the word says that a call begins with: a method of HTTP, a statement of SQL."""
    arguments = seen.given.arguments
    words = STATEMENTS if seen.client.kind == "database" else METHODS
    found = {_worth(words, text) for text in _texts(resolver, arguments[at], seen.spot)} if at < len(arguments) else ()
    return next(iter(found)) if len(found) == 1 else False if False in found else None


def _sent(resolver: Resolver, seen: Sighting, name: str, at: int) -> bool | None:
    """What a request that is made before says, or whether it is given a body: GET without, POST with one."""
    given = seen.given
    values = resolver.evaluate(given.arguments[0] if given.arguments else given.keywords.get("url"), seen.spot)
    if given.spread or given.starred or not values:
        return None
    answers = {_body(given.keywords, given.arguments, name, at)}
    for value in values:
        if isinstance(value, Opaque) and value.path.rpartition(".")[2] == "Request":
            site, spot = value.made.site, value.made.spot
            method = site.keywords.get("method")
            words = {_worth(METHODS, text) for text in _texts(resolver, method, spot)} if method is not None else ()
            answers |= {*words} or {_body(site.keywords, site.arguments, name, at)}
        elif not isinstance(value, Data):
            return None
    return False if False in answers else None if None in answers else True


def _body(keywords: Mapping[str, Expression], arguments: tuple[Expression, ...], name: str, at: int) -> bool:
    """Whether there is none, so that it may be made twice."""
    return _argument(keywords, arguments, name, at) == NOTHING


def _argument(keywords: Mapping[str, Expression], arguments: tuple[Expression, ...], name: str, at: int) -> Expression:
    return keywords[name] if name in keywords else arguments[at] if at < len(arguments) else NOTHING


def _worth(words: dict[str, bool], text: str) -> bool | None:
    line = f"{' '.join(text.upper().split())} "
    answer = words.get(line.partition(" ")[0])
    return True if answer is False and any(each in line for each in HARMLESS) else answer


def _texts(resolver: Resolver, expression: Expression, spot: Spot) -> Iterator[str]:
    """What is known of the beginning of what an argument may be; "" for what is not."""
    values = resolver.evaluate(expression, spot)
    if not values:
        yield ""
    for value in values:
        if isinstance(value, Data) and value.expression is not None:
            kind, text = value.expression[:2]
            if kind == "starts":
                yield from _texts(resolver, text, value.spot)
            else:
                yield text if kind == "const" and isinstance(text, str) else ""
        elif isinstance(value, Opaque):
            maker = value.path.partition("().")[0].rpartition(".")[2]
            site = value.made.site
            if maker in TEXTS and value.path.endswith(maker) and site.arguments:
                yield from _texts(resolver, site.arguments[0], value.made.spot)
            else:
                yield maker  # `insert(users).values(name=name)`
        else:
            yield ""


def _keyed(resolver: Resolver, seen: Sighting) -> bool:
    """Whether the other side knows a repeated call by its key."""
    keywords = seen.given.keywords
    return "idempotency_key" in keywords or _names_a_key(resolver.evaluate(keywords.get("headers"), seen.spot))


def _names_a_key(headers: Values) -> bool:
    dicts = [each.expression for each in headers if isinstance(each, Data)]
    return any(each is not None and each[0] == "dict" and KEYS & {key.lower() for key in each[1]} for each in dicts)


def _asks_a_model(resolver: Resolver, seen: Sighting) -> bool:
    """Whether it is a request of HTTP for what a model says, whichever of its first arguments is the URL."""
    if seen.client.kind != "http":
        return False
    urls = [*seen.given.arguments[:2], *(() if (named := seen.given.keywords.get("url")) is None else (named,))]
    return any(_ends(resolver, url, seen.spot, resolver.known.model_urls) for url in urls)


def _ends(resolver: Resolver, expression: Expression, spot: Spot, ends: tuple[str, ...]) -> bool:
    """Whether what an argument may be ends so, whatever it begins with: `f"{BASE}/chat/completions"`."""
    values = resolver.evaluate(expression, spot)
    written = [value.expression for value in values if isinstance(value, Data) and value.expression is not None]
    texts = [each[2] if each[0] == "starts" else each[1] for each in written if each[0] in ("const", "starts")]
    return bool(texts) and len(texts) == len(values) and all(str(text).endswith(ends) for text in texts)
