"""Advice as a configuration: one policy for each dependency, on the preset that fits it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from resilient_agents.scan.advice.advise import Advice, Advised
from resilient_agents.scan.advice.patterns import lines
from resilient_agents.scan.counts import counted
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.records import Call

__all__ = ["Written", "added_to", "for_writes", "names", "policy_of", "table", "writes_apart"]

PRESET_OF = {
    "model": "llm",
    "http": "http",
    "grpc": "http",
    "database": "database",
    "redis": "database",
    "subprocess": "tool",
    "socket": "tool",
    "other_net": "tool",
    "bus": "background",
}
"""The preset that a policy extends, by the kind of its dependency."""

WATCHING = ("circuit_breaker", "bulkhead")
"""What of a policy can be told to only watch."""

SWITCHES = {"retry": "retry", "circuit breaker": "circuit_breaker", "bulkhead": "bulkhead"}
"""What a preset may bring that is not meant here: the pattern, and the key that switches it off."""


@dataclass(frozen=True)
class Written:
    """A configuration, the names of the policies that were added to it, and of those that it had."""

    text: str
    added: list[str]
    kept: list[str]


def names(advice: Advice) -> dict[str, Advised]:
    """A name for the policy of each dependency that is a candidate for something a policy can do."""
    found: dict[str, Advised] = {}
    for each in advice.dependencies:
        if not any(pattern in each.candidates for pattern in ("time limit", *SWITCHES)):
            continue
        name = each.dependency.target.slug
        if name in found:
            name = f"{name}-{each.dependency.target.library.lower().replace('.', '-')}"
        number = 2
        while name in found:
            name, number = f"{name.rstrip('0123456789')}{number}", number + 1
        found[name] = each
    return found


def added_to(text: str, advice: Advice, known: Iterable[str], presets: Mapping[str, Mapping[str, object]]) -> Written:
    """A configuration with a policy more for each dependency.

    What stands in it stays as it is, letter for letter; a name that it has is left alone.

    Args:
        text: The configuration as it is, "" where there is none.
        known: The names of its policies.
        presets: What each preset brings.
    """
    wanted: dict[str, Iterator[str]] = {}
    for name, each in names(advice).items():
        wanted[name] = table(name, each, presets)
        if writes_apart(each):
            wanted[for_writes(name)] = _once(name, each)
    kept = set(known)
    new = {name: policy for name, policy in wanted.items() if name not in kept}
    policies = "\n".join("\n".join(policy) for policy in new.values())
    before = f"{text.rstrip()}\n\n" if text.strip() else ""
    return Written(f"{before}{policies}" if new else text, list(new), [name for name in wanted if name in kept])


def table(name: str, each: Advised, presets: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """The lines of its policy in a configuration."""
    it, preset = each.dependency, PRESET_OF[each.dependency.target.kind]
    yield f"# {_plain(it.name)} ({it.target.kind}), {each.score.priority} priority: {counted(len(it.found), 'call')}."
    if not it.target.known:
        yield "# Where these calls go the code does not say: if to several addresses, give each a policy of its own."
    yield f"[policies.{json.dumps(name)}]"
    yield f'extends = "{preset}"'
    for verdict in each.verdicts:
        key = SWITCHES.get(verdict.pattern)
        if key is not None and not verdict.candidate and key in presets[preset]:
            yield f"{key} = false  # {_plain(verdict.why)}"
    for pattern, key in SWITCHES.items():
        if key in WATCHING and pattern in each.candidates:
            why = _plain(each.why(pattern)) if key not in presets[preset] else "true: it only watches"
            yield f"{key}.shadow = false  # {why}"
    if "rate limit" in each.candidates:
        yield f"# A rate limit needs your number: {_plain(each.why('rate limit'))}"
    if len(it.in_async) < len(it.waiting):
        yield "# Plain functions cannot be interrupted: their clients need a limit, too, or these `thread = true`."
        yield "timeout.thread = false"
        yield "attempt_timeout.thread = false"
    if stuck := [each for each in it.blocking if each.call.limit == "none"]:
        which = _plain(lines(stuck))
        yield f"# No policy can interrupt what holds up its event loop: give {which} a limit of its own, or a thread."
    yield ""


def writes_apart(each: Advised) -> bool:
    """Whether some of its calls may not be made twice, while the policy of the others repeats."""
    return "retry" in each.candidates and bool(each.dependency.repeatable(False))


def for_writes(name: str) -> str:
    return f"{name}-once"


def policy_of(advice: Advice) -> Callable[[Call], str | None]:
    """What names the policy of a call: the one of its dependency, as `added_to` writes it.

    A function with a call that may not be made twice gets the policy for such calls. None where there is none and the
    policy would repeat that call, where the dependency has no policy, in a function that calls several dependencies,
    and in one that waits for what comes by itself.
    """
    writing = {_function(one) for each in advice.dependencies for one in each.dependency.repeatable(False)}
    serving = {_function(one) for each in advice.dependencies for one in each.dependency.serving}
    called: dict[tuple[str, int], set[int]] = {}
    for number, each in enumerate(advice.dependencies):
        for one in each.dependency.found:
            called.setdefault(_function(one), set()).add(number)
    found: dict[tuple[str, int, int], str | None] = {}
    for name, each in names(advice).items():
        for one in each.dependency.found:
            function = _function(one)
            if function in serving or len(called[function]) > 1:
                continue
            if function not in writing or "retry" not in each.candidates:
                found[_place(one.call)] = name
            else:
                found[_place(one.call)] = for_writes(name) if writes_apart(each) else None
    return lambda call: found.get(_place(call))


def _function(found: Found) -> tuple[str, int]:
    """Where its function stands."""
    spot = found.seen.spot
    function = spot.file.form.function(spot.scope)
    return found.call.path, function.line if function is not None else 0


def _place(call: Call) -> tuple[str, int, int]:
    return call.path, call.line, call.column


def _once(name: str, each: Advised) -> Iterator[str]:
    """The same policy for the calls that may not be made twice."""
    writes = each.dependency.repeatable(False)
    yield f"# {_plain(each.dependency.name)}, what may not be made twice: {_plain(lines(writes))}."
    yield "# A write whose answer was lost may have taken effect: tried again only where nothing was sent."
    yield f"[policies.{json.dumps(for_writes(name))}]"
    yield f"extends = {json.dumps(name)}"
    yield "idempotent = false"
    yield ""


def _plain(text: str) -> str:
    """Fit for a comment: what was read in a file may be anything."""
    return "".join(character if character.isprintable() else "?" for character in text)
