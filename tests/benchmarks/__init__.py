"""What a policy costs, next to the bare call, its libraries by hand, and its peers: `python -m tests.benchmarks`.

Every figure is measured beside the ones it is compared with: rounds of short batches, each contender once a round.
"""
