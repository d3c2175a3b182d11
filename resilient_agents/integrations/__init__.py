"""One module for each outside framework or protocol, imported only by those who use it."""

from resilient_agents.integrations.sdk_retries import without_sdk_retries

__all__ = ["without_sdk_retries"]
