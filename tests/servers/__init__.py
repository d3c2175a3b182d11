"""Applications that tests/test_servers.py runs under real servers."""

SLOTS = 2  # calls that each of their processes lets through at once
