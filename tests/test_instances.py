"""The registry of live components."""

from __future__ import annotations

import gc
import threading

from resilient_agents.base import instances


class Thing:
    pass


def test_it_lists_what_is_alive_in_order() -> None:
    """What was added comes out in that order, by kind."""
    things = [Thing() for _ in range(3)]
    for thing in things:
        instances.add("test order", thing)
    assert instances.each("test order") == things
    assert instances.each("test nothing") == []


def test_it_keeps_nothing_alive() -> None:
    """What is gone is not listed any more, and leaves no entry behind."""
    thing = Thing()
    instances.add("test weak", thing)
    del thing
    gc.collect()
    assert instances.each("test weak") == []
    assert instances.live["test weak"] == {}


def test_it_may_be_used_while_others_come_and_go() -> None:
    """Reading while four threads add and drop thousands of things never fails, and those that stay are there."""
    stay = [Thing() for _ in range(5)]
    for thing in stay:
        instances.add("test race", thing)

    def churn() -> None:
        for _ in range(5000):
            instances.add("test race", Thing())

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert instances.each("test race")[:5] == stay
    for thread in threads:
        thread.join()
    gc.collect()
    assert instances.each("test race") == stay
