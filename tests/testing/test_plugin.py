"""The fixtures, in runs of pytest of their own: alone, and beside the plugins for async code."""

from __future__ import annotations

import importlib.util

import pytest

pytest_plugins = ["pytester"]

COMMON = """
    import asyncio
    import threading

    import pytest

    from resilient_agents import Bulkhead, Policy, Retry, fixed
    from resilient_agents.testing import failing

    policy = Policy(Retry(3, wait=fixed(1000)))
"""


def run(pytester: pytest.Pytester, source: str, *options: str, passed: int = 0, failed: int = 0) -> pytest.RunResult:
    pytester.makepyfile(COMMON + source)
    result = pytester.runpytest_subprocess("-presilient_agents.testing.plugin", "-pno:resilient_agents", *options)
    result.assert_outcomes(passed=passed, failed=failed)
    return result


def test_the_fixtures_of_a_plain_test(pytester: pytest.Pytester) -> None:
    """Each does what the function of the test kit does, for one test."""
    run(
        pytester,
        """
    def test_clock(fake_clock):
        assert policy.call(failing(ConnectionError, "ok")) == "ok"
        assert fake_clock.now == 1000

    def test_events(fake_clock, captured_events):
        policy.call(int)
        assert captured_events.names[-1] == "CallEnded"

    def test_no_waits(no_policy_waits):
        policy.call(failing(ConnectionError, "ok"))

    def test_no_leaks(no_leaks):
        policy.call(int)
    """,
        passed=4,
    )


LEAKS = """
    slots, streams = Bulkhead(9), []

    def test_leaks():
        streams.append(Policy(slots).stream(failing([1, 2]).stream))
        next(streams[-1])

    @pytest.mark.allow_leaks
    def test_may_leak():
        test_leaks()

    def test_is_whole():
        Policy(slots).call(int)
"""


def test_every_test_is_guarded_where_the_configuration_says_so(pytester: pytest.Pytester) -> None:
    """The test that leaves something behind fails, no other."""
    run(pytester, LEAKS, passed=3)
    result = run(pytester, LEAKS, "-o", "resilient_agents_leaks=true", passed=2, failed=1)
    result.stdout.fnmatch_lines(["*left behind: slots of Bulkhead(9): 1*"])


ASYNC = """
    async def sleeps_and_retries(fake_clock, sleep):
        await sleep(5000)
        assert await policy.acall(failing(ConnectionError, "ok").coroutine) == "ok"
        assert fake_clock.now == pytest.approx(6000)
"""


@pytest.mark.skipif(importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not here")
def test_with_pytest_asyncio(pytester: pytest.Pytester) -> None:
    """Its loop goes by the clock, and a task that a test leaves behind fails it."""
    run(
        pytester,
        ASYNC
        + """
    @pytest.mark.asyncio
    async def test_it(fake_clock, no_leaks):
        await sleeps_and_retries(fake_clock, asyncio.sleep)

    tasks = []

    @pytest.mark.asyncio
    async def test_leaks(no_leaks):
        tasks.append(asyncio.create_task(asyncio.sleep(100)))

    @pytest.mark.asyncio
    async def test_cancels(no_leaks):
        asyncio.create_task(asyncio.sleep(100)).cancel()
    """,
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        passed=2,
        failed=1,
    )


def test_with_anyio(pytester: pytest.Pytester) -> None:
    """On asyncio by itself, on trio with its mock clock as an option of the backend."""
    run(
        pytester,
        ASYNC
        + """
    import anyio
    import trio.testing

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        if request.param == "trio":
            return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
        return "asyncio"

    @pytest.mark.anyio
    async def test_it(anyio_backend, fake_clock):
        await sleeps_and_retries(fake_clock, anyio.sleep)
    """,
        passed=2,
    )


@pytest.mark.skipif(importlib.util.find_spec("pytest_trio") is None, reason="pytest-trio is not here")
def test_with_pytest_trio(pytester: pytest.Pytester) -> None:
    """With its own fixture for virtual time."""
    run(
        pytester,
        ASYNC
        + """
    import trio

    @pytest.mark.trio
    async def test_it(autojump_clock, fake_clock):
        await sleeps_and_retries(fake_clock, trio.sleep)
    """,
        passed=1,
    )
