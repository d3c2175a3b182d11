"""Do the tests notice when the code is wrong? One module at a time, from the root of the repository:

    python -m tests.mutation resilient_agents/backoff.py tests/test_backoff.py

changes the module in one place after another, runs the tests given against each change, and prints those that no test
noticed, in the form that `survivors.toml` takes, where the ones that may live have a reason. Takes a few seconds for
each of some hundred changes; `--only NAME` looks at one function, `--list` only names the changes.

A script of our own, because mutmut 3 rewrites every function of the package into a switch, which the tests that look
at code objects, pickles and frames notice by themselves, and cosmic-ray starts a fresh interpreter for each change,
most of whose time is imports. Here a process that has imported everything else forks for each change, and the tests
that have noticed most run first. What runs in processes of its own is not changed. Needs `fork`.
"""
