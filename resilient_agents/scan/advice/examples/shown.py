"""The `main` of an example: each policy against a fake that fails."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from resilient_agents.scan.advice.examples.expressions import short
from resilient_agents.scan.advice.examples.functions import Function
from resilient_agents.scan.advice.examples.guarded import Guarded
from resilient_agents.scan.advice.examples.layout import indented
from resilient_agents.scan.advice.examples.signatures import parameters, sample

__all__ = ["shown"]

OVERLOADED = frozenset(["subprocess", "socket", "other_net"])
"""Kinds whose preset repeats only what was refused, since a tool may have effects."""

SHOWN = frozenset(["retry", "circuit breaker", "bulkhead", "health check"])
"""What a drill has lines for."""
UNFIT = "no function calls it by a client that a fake can be"


def shown(guarded: list[Guarded], functions: list[Function], taken: Collection[str]) -> Iterator[str]:
    """The lines of `main`; `taken` are names that it cannot have."""
    entry = "show" if "main" in taken else "main"
    yield from ("", "", f"def {entry}() -> None:")
    yield '    """Show it against a fake that fails, in virtual time; nothing leaves the process."""'
    seen: list[Function] = []
    for each in guarded:
        found = _best(each, functions)
        if not SHOWN & {*each.advised.candidates}:
            yield f'    print("{each.name}: nothing to show: of what a fake can show its advice names none")'
        elif found is None:
            yield f'    print("{each.name}: nothing to show: {UNFIT}")'
        else:
            it = "it" if any(one.cls for one in seen) else "it: Any"
            seen.append(found)
            yield from indented(_shown(each, found, it))
    yield from ("", "", 'if __name__ == "__main__":', f"    {entry}()")


def _best(guarded: Guarded, functions: list[Function]) -> Function | None:
    """The function that shows a policy best: one that a fake can stand behind, and that may be tried again."""
    mine = [each for each in functions if _fit(each, guarded)]

    def worse(each: Function) -> tuple[bool, bool, bool, int]:
        once = _drilled(each, guarded) == guarded.once
        return once, len({*each.policies}) > 1, each.by_call, len(each.found)

    return min(mine, key=worse, default=None)


def _fit(each: Function, guarded: Guarded) -> bool:
    properties = any(short(decorator) == "property" for decorator in each.node.decorator_list)
    faked = bool(each.fakes) and None not in each.fakes
    mine = not {guarded.variable, guarded.once}.isdisjoint(each.policies)
    return faked and mine and _told_apart(each, guarded) and not properties and each.node.name != "__init__"


def _drilled(each: Function, guarded: Guarded) -> str:
    """The variable of the policy that it shows: that of its first call, which meets what fails."""
    return next(policy for policy in each.policies if policy in (guarded.variable, guarded.once))


def _told_apart(each: Function, guarded: Guarded) -> bool:
    """Whether what stands in for the calls of the dependency stands in for no other call."""
    places, mine = list(zip(each.fakes, each.policies, strict=True)), (guarded.variable, guarded.once)
    return {fake for fake, own in places if own in mine}.isdisjoint(fake for fake, own in places if own not in mine)


def _shown(guarded: Guarded, each: Function, it: str) -> Iterator[str]:
    kind = "overload" if guarded.advised.dependency.target.kind in OVERLOADED else "connection"
    policy, mine = _drilled(each, guarded), (guarded.variable, guarded.once)
    label = f"{each.name}, {guarded.name}" if guarded.word else each.name
    fakes: dict[tuple[str, str], dict[str, str]] = {}
    for fake, own in zip(each.fakes, each.policies, strict=True):
        assert fake is not None
        word = f"{'outage' if own in mine else 'fine'}{'.coroutine' if fake.is_async else ''}"
        fakes.setdefault((fake.owner, fake.name), {})[".".join(fake.path)] = word
    said = {
        key: f"stand_in({{{', '.join(f'{path!r}: {word}' for path, word in calls.items())}}})".replace("'", '"')
        for key, calls in fakes.items()
    }
    yield f'outage = Outage("{kind}")'
    if any("fine" in word for calls in fakes.values() for word in calls.values()):
        yield "fine = Outage()"
    call = f"{each.node.name}({_arguments(each, said)})"
    if each.cls:
        cls = each.cls.replace(".", "_")
        yield f"{it} = {cls}.__new__({cls})"
        held = ", ".join(f"{name}={fake}" for (owner, name), fake in said.items() if owner == "self")
        if held:
            yield f"vars(it).update({held})"
        call = f"{it.partition(':')[0]}.{call}"
    health = f", health={guarded.variable_of('health')}" if "health check" in guarded.advised.candidates else ""
    top = ", ".join(f"{name}={fake}" for (owner, name), fake in said.items() if owner == "global")
    patches = [f"patch.dict(globals(), {top})"] if top else []
    patches += [
        f'patch.object({name}, "{path}", {word})'
        for (owner, name), calls in fakes.items()
        if owner == "module"
        for path, word in calls.items()
    ]
    lines = [
        f"for line in drill(lambda: {call}, outage, {policy}{health}):",
        f'    print("{label}:", line)',
    ]
    yield from [f"with {', '.join(patches)}:", *indented(lines)] if patches else lines


def _arguments(each: Function, said: dict[tuple[str, str], str]) -> str:
    it = each.node.args
    skipped = [it.vararg, it.kwarg]
    wanted = [each for each in parameters(each.node) if each not in skipped]
    bound = bool(each.cls) and not any(short(d) == "staticmethod" for d in each.node.decorator_list)
    positional = [*it.posonlyargs, *it.args]
    free = {arg.arg for arg in positional[len(positional) - len(it.defaults) :]} if it.defaults else set()
    free |= {arg.arg for arg, value in zip(it.kwonlyargs, it.kw_defaults, strict=True) if value is not None}
    found = []
    for arg in wanted[bound:]:
        value = said.get(("param", arg.arg))
        if value is None and arg.arg in free:
            continue
        value = value if value is not None else ast.unparse(sample(arg)).replace("'", '"')
        found.append(value if arg in it.posonlyargs else f"{arg.arg}={value}")
    return ", ".join(found)
