"""The `main` of an example: each policy against a fake that fails."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator

from resilient_agents.scan.advice.examples.expressions import short
from resilient_agents.scan.advice.examples.guarded import Function, Guarded
from resilient_agents.scan.advice.examples.layout import indented
from resilient_agents.scan.advice.examples.signatures import parameters, sample

__all__ = ["not_shown", "shown"]

OVERLOADED = frozenset(["subprocess", "socket", "other_net"])
"""Kinds whose preset repeats only what was refused, since a tool may have effects."""

SHOWN = frozenset(["retry", "circuit breaker", "bulkhead", "health check"])
"""What a drill has lines for, whichever way a function calls; a time limit ends what is awaited."""


def not_shown(guarded: Guarded, functions: list[Function]) -> str:
    """Why no drill shows a policy; "" where one does."""
    if _best(guarded, functions) is not None:
        return ""
    if SHOWN & {*guarded.advised.candidates}:
        return "no fake can take the place of its client there"
    return "all it needs is a time limit, which its call or client takes itself: `scan --fix` gives it one"


def shown(guarded: list[Guarded], functions: list[Function], taken: Collection[str]) -> Iterator[str]:
    """The lines of `main`; `taken` are names that it cannot have."""
    entry = "show" if "main" in taken else "main"
    yield from ("", "", f"def {entry}() -> None:")
    yield '    """Show it against a fake that fails, in virtual time; nothing leaves the process."""'
    seen: list[Function] = []
    for each in guarded:
        found = _best(each, functions)
        if found is not None:
            it = "it" if any(one.cls and one.node.name != "__init__" for one in seen) else "it: Any"
            seen.append(found)
            yield from indented(_shown(each, found, it))
    yield from ("", "", 'if __name__ == "__main__":', f"    {entry}()")


def _best(guarded: Guarded, functions: list[Function]) -> Function | None:
    """The function that shows a policy best: one that a fake can stand behind, and that may be tried again."""
    mine = [each for each in functions if _fit(each, guarded)]

    def worse(each: Function) -> tuple[bool, bool, bool, int]:
        once = _drilled(each, guarded) == guarded.once
        return once, len({call.policy for call in each.calls}) > 1, each.by_call, len(each.calls)

    return min(mine, key=worse, default=None)


def _fit(each: Function, guarded: Guarded) -> bool:
    fakes = [call.fake for call in each.calls if call.fake is not None]
    mine = [call.fake for call in each.calls if call.policy in guarded.variables]
    if not mine or len(fakes) < len(each.calls):
        return False
    limited = all(fake is not None and fake.is_async for fake in mine)
    made = each.node.name == "__init__" and any(fake.owner == "self" for fake in fakes)
    seen = limited or not SHOWN.isdisjoint(guarded.advised.candidates)
    return seen and not made and (_apart(each, guarded) or bool(_address(each, guarded)))


def _drilled(each: Function, guarded: Guarded) -> str:
    """The variable of the policy that it shows: that of its first call, which meets what fails."""
    return next(call.policy for call in each.calls if call.policy in guarded.variables)


def _apart(each: Function, guarded: Guarded) -> bool:
    """Whether what stands in for the calls of the dependency stands in for no other call."""
    mine = guarded.variables
    return {c.fake for c in each.calls if c.policy in mine}.isdisjoint(
        c.fake for c in each.calls if c.policy not in mine
    )


def _address(each: Function, guarded: Guarded) -> str:
    """What the arguments of its calls have, and those of others have not; "" where nothing tells them apart."""
    name = guarded.advised.dependency.name
    told = all((name in call.said) is (call.policy in guarded.variables) for call in each.calls)
    return name if told else ""


def _shown(guarded: Guarded, each: Function, it: str) -> Iterator[str]:
    kind = "overload" if guarded.advised.dependency.target.kind in OVERLOADED else "connection"
    policy, mine = _drilled(each, guarded), guarded.variables
    to = "" if _apart(each, guarded) else _address(each, guarded)
    label = f"{each.name}, {guarded.name}" if guarded.word else each.name
    fakes: dict[tuple[str, str], dict[str, str]] = {}
    for one in each.calls:
        fake, own = one.fake, one.policy
        assert fake is not None
        word = f"{'outage' if to or own in mine else 'fine'}{'.coroutine' if fake.is_async else ''}"
        fakes.setdefault((fake.owner, fake.name), {})[".".join(fake.path)] = word
    said = {
        key: f"stand_in({{{', '.join(f'{path!r}: {word}' for path, word in calls.items())}}})".replace("'", '"')
        for key, calls in fakes.items()
    }
    yield f'outage = Outage("{kind}", to={json.dumps(to)})' if to else f'outage = Outage("{kind}")'
    if any("fine" in word for calls in fakes.values() for word in calls.values()):
        yield "fine = Outage()"
    call = f"{each.node.name}({_arguments(each, said)})"
    cls = each.cls.replace(".", "_")
    if each.node.name == "__init__":
        call = f"{cls}({_arguments(each, said)})"
    elif each.cls:
        yield f"{it} = {cls}.__new__({cls})"
        held = ", ".join(f"{name}={fake}" for (owner, name), fake in said.items() if owner == "self")
        if held:
            yield f"vars(it).update({held})"
        call = f"{it.partition(':')[0]}.{each.node.name if each.is_property else call}"
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
        value = value if value is not None else ast.unparse(sample(arg, each.node)).replace("'", '"')
        found.append(value if arg in it.posonlyargs else f"{arg.arg}={value}")
    return ", ".join(found)
