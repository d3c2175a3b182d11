"""What a policy costs, against the bare call, the same libraries stacked by hand, and the peers: `python -m tests.benchmarks`.

Every figure is measured next to the ones it is compared with, in one process: rounds of short batches, each contender once a round.
"""
