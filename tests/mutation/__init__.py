"""Do the tests notice when the code is wrong? One module at a time, from the root of the repository:

    python -m tests.mutation resilient_agents/backoff.py tests/test_backoff.py

changes the module in one place after another, runs the tests given against each change, and prints those that no test
noticed, in the form that `survivors.toml` takes, where the ones that may live have a reason. Most changes take a tenth
of a second, a module a minute or two. `--only NAME` looks at one function, `--list` only names the changes. Begin with
the quick tests and write what is printed into a file; `--again FILE` then tries what they left with more tests, or with
new ones. On a busy machine a test that fails for want of time counts as one that has noticed.

A script of our own, because mutmut 3 rewrites every function of the package into a switch, which the tests that look
at code objects, pickles and frames notice by themselves, and cosmic-ray starts a fresh interpreter for each change,
most of whose time is imports. Here a process that has collected the tests forks for each change, and only those run
that come to the changed line. What runs in processes of its own is not changed. Needs `fork`.
"""
