"""The order in which to roll out: watch first, then what can hurt most, then the rest."""

from __future__ import annotations

from collections.abc import Iterator

from resilient_agents.scan.advice.advise import Advice, Advised
from resilient_agents.scan.advice.policies import for_writes, names, writes_apart
from resilient_agents.scan.advice.score import PRIORITIES

__all__ = ["as_plan"]


def as_plan(advice: Advice, paths: str) -> str:
    return "\n".join(_lines(advice, paths)) + "\n"


FILE = "resilience.toml"
_WATCHES = frozenset(["circuit breaker", "bulkhead"])
"""Patterns whose strategies can only watch, for a start."""


def _lines(advice: Advice, paths: str) -> Iterator[str]:
    policies = names(advice)
    if not policies:
        yield "nothing to roll out: no dependency is a candidate for a policy"
        return
    yield "1. Write the policies, and look at them."
    yield f"   resilient-agents scan --write-policies {FILE} {paths}"
    yield f"   resilient-agents config check {FILE}"
    yield ""
    yield "2. Shadow: guard the calls, and let circuit breakers and bulkheads only watch; retries and time limits act."
    yield f"   resilient-agents scan --fix=policy --dry-run {paths}"
    yield "   Without --dry-run it decorates the functions of calls that can wait for ever."
    if by_hand := [name for name, each in policies.items() if each.score.terms["unguarded"]]:
        yield f'   Calls that have a limit it leaves to you, by @resilient("NAME"): {", ".join(by_hand)}.'
    yield f"   sed -i.bak 's/shadow = false/shadow = true/' {FILE}"
    yield "   Look for a week at what would have been refused:"
    yield "   sum by (resilient_agents_policy, resilient_agents_strategy) ("
    yield '     increase(resilient_agents_rejections_total{resilient_agents_shadow!=""}[1d])'
    yield "   )"
    yield ""
    number = 3
    for priority in PRIORITIES:
        there = {name: each for name, each in policies.items() if each.score.priority == priority}
        if there:
            yield from _phase(f"{number}. Enforce, {priority} priority", there)
            number += 1
    yield f"{number}. Scan again: what is guarded counts as protected, and the scores fall."
    yield f"   resilient-agents scan --advise {paths}"


def _phase(head: str, policies: dict[str, Advised]) -> Iterator[str]:
    every = [
        name for each in policies for name in (each, for_writes(each)) if name == each or writes_apart(policies[each])
    ]
    yield f"{head}: {', '.join(every)}."
    for name in (name for name, each in policies.items() if _WATCHES.intersection(each.candidates)):
        yield f"   sed -i.bak '/^\\[policies\\.\"{name}\"\\]/,/^$/s/shadow = true/shadow = false/' {FILE}"
    for name in every:
        yield f"   resilient-agents simulate {FILE}:{name} --scenario retry-storm"
    yield "   Reload, and look at what callers see:"
    yield "   sum by (resilient_agents_policy, resilient_agents_outcome) ("
    yield "     rate(resilient_agents_policy_duration_seconds_count[5m])"
    yield "   )"
    yield ""
