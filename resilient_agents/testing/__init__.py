"""For tests of code that uses policies: virtual time, events to compare, functions that fail to order.

```python
from resilient_agents.testing import FakeClock, failing

def test_it_waits_longer_each_time():
    with FakeClock() as clock:
        assert policy.call(failing(ConnectionError, ConnectionError, "ok")) == "ok"
    assert clock.now == 3.0
```

All of it works with pytest and its plugins for async code, with unittest, and without either. The fixtures of
`resilient_agents.testing.plugin` are there where pytest is and the package is installed.
"""

from resilient_agents.testing.calls import failing, force_open, limit_attempts, no_waits
from resilient_agents.testing.clock import FakeClock
from resilient_agents.testing.drill import Outage, drill, stand_in
from resilient_agents.testing.events import CapturedEvents, capture_events
from resilient_agents.testing.leaks import no_leaks

__all__ = [
    "CapturedEvents",
    "FakeClock",
    "Outage",
    "capture_events",
    "drill",
    "failing",
    "force_open",
    "limit_attempts",
    "no_leaks",
    "no_waits",
    "stand_in",
]
