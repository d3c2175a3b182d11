"""The order in which to roll out: watch first, then what can hurt most, then the rest."""

from __future__ import annotations

from collections.abc import Iterator

from resilient_agents.scan.advice.advise import Advice
from resilient_agents.scan.advice.policies import names
from resilient_agents.scan.advice.score import PRIORITIES

__all__ = ["as_plan"]


def as_plan(advice: Advice, paths: str) -> str:
    return "\n".join(_lines(advice, paths)) + "\n"


def _lines(advice: Advice, paths: str) -> Iterator[str]:
    policies = names(advice)
    if not policies:
        yield "nothing to roll out: no dependency is a candidate for a policy"
        return
    by_priority = {
        priority: [name for name, each in policies.items() if each.score.priority == priority]
        for priority in PRIORITIES
    }
    yield "1. Write the policies, and look at them."
    yield f"   resilient-agents scan --write-policies resilience.toml {paths}"
    yield "   resilient-agents config check resilience.toml"
    yield ""
    yield "2. Shadow: guard the calls, and let breakers and limits only watch: in each policy that has one, write"
    yield "   circuit_breaker = { shadow = true } (in place of true), and the same for bulkhead and rate_limit."
    yield "   Look for a week at what would have been refused:"
    yield "   sum by (resilient_agents_policy, resilient_agents_strategy) ("
    yield '     increase(resilient_agents_rejections_total{resilient_agents_shadow!=""}[1d])'
    yield "   )"
    yield ""
    number = 3
    for priority in PRIORITIES:
        if by_priority[priority]:
            yield f"{number}. Enforce, {priority} priority: {', '.join(by_priority[priority])}."
            for name in by_priority[priority]:
                yield f"   resilient-agents simulate resilience.toml:{name} --scenario retry-storm"
            yield "   Take the lines of shadow out of these, reload, and look at what callers see:"
            yield "   sum by (resilient_agents_policy, resilient_agents_outcome) ("
            yield "     rate(resilient_agents_policy_duration_seconds_count[5m])"
            yield "   )"
            yield ""
            number += 1
    yield f"{number}. Scan again: what is guarded counts as protected, and the scores fall."
    yield f"   resilient-agents scan --advise {paths}"
