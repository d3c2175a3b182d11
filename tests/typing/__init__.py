"""How the public names look to a type checker. Nothing here runs: `mypy --strict tests/typing` and `pyright` read it.

A wrong use carries an ignore with its code. Both checkers report an ignore that is not needed, so each proves that the
use is refused.
"""
