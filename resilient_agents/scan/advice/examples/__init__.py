"""Advice as modules that run: the functions and clients of a file under the policies that the advice names."""

from resilient_agents.scan.advice.examples.write import Examples, examples, write

__all__ = ["Examples", "examples", "write"]
