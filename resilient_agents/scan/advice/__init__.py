"""From calls to advice: what a code base depends on, what that can do to it, and which patterns would help."""

from resilient_agents.scan.advice.advise import Advice, advise
from resilient_agents.scan.advice.dependencies import Dependency
from resilient_agents.scan.advice.patterns import PATTERNS, Verdict
from resilient_agents.scan.advice.score import FORMULA, Score

__all__ = ["FORMULA", "PATTERNS", "Advice", "Dependency", "Score", "Verdict", "advise"]
