"""`python -m tests.benchmarks.soak [--seconds 300]`: a busy process whose configuration is reloaded ten times a second.

Threads, an event loop and keyed policies call through one registry while limits grow and shrink, a file is bad now and
then, and the dependency fails in bursts. At the end: no call lost, no limit exceeded, nothing leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from resilient_agents import Registry, Rejected
from resilient_agents.config import ConfigError

THREADS = 6
TASKS = 24
RELOAD_EVERY = 0.1
MOST = 12
"""The largest limit that is ever configured."""


class Dependency:
    """Counts who is inside, and fails for a while now and then."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.peak = 0
        self.attempts = 0
        self.failing = False

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.attempts += 1
            self.peak = max(self.peak, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
        if self.failing and random.random() < 0.9:
            raise ConnectionError


class Soak:
    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.began = time.monotonic()
        self.until = self.began + seconds
        self.limit = 4
        self.write()
        self.registry = Registry(path)
        self.dependency = Dependency()
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.reloads = self.refused_files = self.rises = 0
        self.keyed = self.registry.keyed("service", key=lambda number: number, at_most=50)

    def write(self) -> None:
        self.path.write_text(
            f"""
            [policies.service]
            timeout = {{ seconds = "{random.choice([5, 10])}s", thread = false }}
            retry = {{ attempts = {random.randint(1, 4)}, wait = 0.002, budget = {{ ratio = 0.5 }} }}
            circuit_breaker = {{ failures = {random.randint(5, 50)}, reset_timeout = 0.05 }}
            rate_limit = {{ rate = {random.choice([2000, 5000])}, burst = {random.randint(20, 200)} }}
            bulkhead = {{ limit = {self.limit} }}
            """
        )

    def outcome(self, kind: str, error: BaseException | None) -> None:
        name = "success" if error is None else "rejected" if isinstance(error, Rejected) else type(error).__name__
        with self.lock:
            self.ended[kind] += 1
            self.ended[name] += 1

    def begin(self, kind: str) -> None:
        with self.lock:
            self.begun[kind] += 1

    def thread(self, kind: str) -> None:
        @self.registry.late("service")
        def work(number: int) -> None:
            self.dependency.enter()
            time.sleep(random.random() * 0.002)
            self.dependency.leave()

        keyed: Callable[[int], None] = self.keyed(lambda number: None)
        while time.monotonic() < self.until:
            self.begin(kind)
            try:
                number = random.randrange(400)
                keyed(number) if random.random() < 0.3 else work(number)
            except Exception as error:
                self.outcome(kind, error)
            else:
                self.outcome(kind, None)
            time.sleep(0.001)

    async def task(self) -> None:
        @self.registry.late("service")
        async def work() -> None:
            self.dependency.enter()
            try:
                await asyncio.sleep(random.random() * 0.002)
            except asyncio.CancelledError:
                with self.dependency.lock:
                    self.dependency.inside -= 1
                raise
            self.dependency.leave()

        while time.monotonic() < self.until:
            self.begin("task")
            try:
                if random.random() < 0.02:  # the caller loses patience
                    async with asyncio.timeout(0.001):
                        await work()
                else:
                    await work()
            except Exception as error:
                self.outcome("task", error)
                await asyncio.sleep(0.02)
            else:
                self.outcome("task", None)
                await asyncio.sleep(0.005)

    async def loop(self) -> None:
        await asyncio.gather(*(self.task() for _ in range(TASKS)))

    def reload(self) -> None:
        slots = self.registry.bulkhead("service")
        due = time.monotonic()
        while time.monotonic() < self.until:
            self.dependency.failing = self.reloads % 30 > 24
            self.limit = random.randint(1, MOST)
            if self.reloads % 7 == 6:
                self.path.write_text("[policies.service]\nbulkhead = -1\n")
            else:
                self.write()
            try:
                self.registry.reload()
                self.reloads += 1
                self.watch(slots.limit)
            except ConfigError:
                self.refused_files += 1
                self.reloads += 1
            due += RELOAD_EVERY
            time.sleep(max(0.0, due - time.monotonic()))

    def watch(self, limit: int) -> None:
        """After a shrink the number in use never rises before it is below the limit."""
        slots = self.registry.bulkhead("service")
        lowest = slots.in_use
        for _ in range(200):
            if self.dependency.inside > max(limit, lowest):
                self.rises += 1
            lowest = min(lowest, slots.in_use)

    def run(self) -> list[str]:
        threads = [threading.Thread(target=self.thread, args=("thread",)) for _ in range(THREADS)]
        threads += [
            threading.Thread(target=lambda: asyncio.run(self.loop())),
            threading.Thread(target=self.reload),
        ]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, (self.until - time.monotonic()) / 3))
        early = blocks()
        time.sleep(max(0.0, self.until - time.monotonic() - 1))
        late = blocks()
        for thread in threads:
            thread.join(60)
        slots = self.registry.bulkhead("service")
        print(f"calls {dict(self.ended)}; attempts {self.dependency.attempts}; peak {self.dependency.peak}")
        pace = self.reloads / (time.monotonic() - self.began)
        print(f"reloads {self.reloads}, {pace:.1f} a second, {self.refused_files} of them of bad files")
        print(f"memory blocks {early} -> {late}")
        wrong = [
            (self.reloads < 0.5 * (self.until - self.began) / RELOAD_EVERY, "the reloads stopped"),
            (slots.metrics()["calls"] != self.dependency.attempts, f"calls were not counted: {slots.metrics()}"),
            (any(thread.is_alive() for thread in threads), "a thread hangs"),
            (any(self.begun[kind] != self.ended[kind] for kind in self.begun), f"calls were lost: {self.begun}"),
            (self.dependency.peak > MOST, f"{self.dependency.peak} calls were inside, {MOST} are allowed at most"),
            (self.rises > 0, f"the number inside rose {self.rises} times after a shrink"),
            (self.dependency.inside != 0, "somebody is still inside"),
            ((slots.in_use, slots.queued) != (0, 0), f"slots leaked: {slots.describe()}"),
            (slots.limit > MOST, "the limit is nobody's"),
            (late > early + 20_000, "memory piles up"),
        ]
        return [text for is_so, text in wrong if is_so]


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()  # not gc.get_objects(), which can break a tuple that another thread is filling


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (default 300)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wrong = Soak(Path(folder) / "resilience.toml", options.seconds).run()
    for text in wrong:
        print("WRONG:", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
