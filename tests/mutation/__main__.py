"""`python -m tests.mutation MODULE TEST...`"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.mutation.mutate import Mutant, mutants
from tests.mutation.run import Runner
from tests.mutation.survivors import excused


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Do the tests notice wrong code?")
    parser.add_argument("module", type=Path, help="the file to change, such as resilient_agents/backoff.py")
    parser.add_argument("tests", nargs="*", help="test files or anything else that pytest takes")
    parser.add_argument("--only", metavar="NAME", help="only changes in this function or class")
    parser.add_argument("--again", metavar="FILE", type=Path, help="only the changes that a run printed into this file")
    parser.add_argument("--list", action="store_true", help="name the changes and run nothing")
    options = parser.parse_args()
    found = list(mutants(options.module.read_text(), options.only))
    if options.again:
        named = {
            line.removesuffix(' = ""') for line in options.again.read_text().splitlines() if line.endswith(' = ""')
        }
        found = [mutant for mutant in found if json.dumps(mutant.name) in named]
    if options.list:
        print("\n".join(mutant.name for mutant in found))
        return 0
    if not options.tests:
        parser.error("name the tests that should notice")
    reasons = excused(options.module)
    runner = Runner(options.module, options.tests)
    lived: list[Mutant] = []

    def work() -> None:
        print(f"{len(found)} changes; the tests alone take {sum(runner.seconds.values()):.1f} s", flush=True)
        for name in runner.failing:
            print(f"left out, because it fails as it is: {name}", flush=True)
        began, spared = time.monotonic(), 0
        for number, mutant in enumerate(found, 1):
            if runner.notices(mutant):
                continue
            if mutant.name in reasons:
                spared += 1
                continue
            lived.append(mutant)
            print(f'# {number}/{len(found)}, line {mutant.line}\n{json.dumps(mutant.name)} = ""', flush=True)
        print(
            f"{len(found)} changes, {len(found) - len(lived) - spared} noticed, {spared} survive with a reason, "
            f"{len(lived)} without, {time.monotonic() - began:.0f} s",
            flush=True,
        )

    runner.run(work)
    return bool(lived)


if __name__ == "__main__":
    sys.exit(main())
