"""Applications that tests/test_servers.py runs under real servers."""
