"""Draws operations in the terminal, from spans: `resilient-agents trace FILE`. Needs no extra."""

from __future__ import annotations

from resilient_agents.trace.otlp import Reading, read
from resilient_agents.trace.spans import Moment, Span, from_sdk
from resilient_agents.trace.summary import summary
from resilient_agents.trace.terminal import render
from resilient_agents.trace.tree import Operation, operations
from resilient_agents.trace.waterfall import waterfall

__all__ = ["Moment", "Operation", "Reading", "Span", "from_sdk", "operations", "read", "render", "summary", "waterfall"]
