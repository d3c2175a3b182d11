"""The changes that `python -m tests.mutation` makes, and those that may live."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.mutate import mutants
from tests.mutation.survivors import listed

ROOT = Path(__file__).parents[1]
SOURCE = '''
"""A module."""
from typing import TYPE_CHECKING
__all__ = ["f"]

def f(a: int = 1, *, b: bool = True) -> "int | None":
    """Compare."""
    if a < 2 and not b:
        raise ValueError("no")
    while a:
        a -= 1
        g(a)
        break
    return a + 2
'''


def test_each_change_is_one_change() -> None:
    """Every mutant compiles, differs from the module, and leaves the module's own tree alone."""
    found = list(mutants(SOURCE))
    own = ast.unparse(ast.parse(SOURCE))
    texts = [ast.unparse(mutant.tree) for mutant in found]
    assert own not in texts
    assert len(set(texts)) == len(texts) == len({mutant.name for mutant in found})
    for mutant in found:
        compile(mutant.tree, "mutant", "exec")


def test_what_is_changed() -> None:
    """Comparisons, logic, arithmetic, constants, results, statements; neither docstrings nor annotations."""
    assert {mutant.name for mutant in mutants(SOURCE)} == {
        "f: 1 => 2",
        "f: True => False",
        "f: a < 2 and (not b) => a < 2 or not b",
        "f: a < 2 => a <= 2",
        "f: 2 => 3",
        "f: not b => b",
        "f: raise ValueError('no') => pass",
        "f: while a: a -= 1 g(a) break => while not a: a -= 1 g(a) break",
        "f: a -= 1 => a += 1",
        "f: a -= 1 => pass",
        "f: 1 => 2 (2)",
        "f: g(a) => pass",
        "f: break => continue",
        "f: return a + 2 => return None",
        "f: a + 2 => a - 2",
        "f: 2 => 3 (2)",
    }


def test_only_one_function_is_changed_when_asked() -> None:
    """`--only` takes the name of a function or class."""
    assert not list(mutants(SOURCE, "g"))
    assert list(mutants(SOURCE, "f"))


LISTED = listed()


@pytest.mark.parametrize("path", LISTED)
def test_a_listed_survivor_is_still_a_change_of_its_module(path: str) -> None:
    """A reason for code that is gone goes, too, and each has one."""
    names = {mutant.name for mutant in mutants((ROOT / path).read_text())}
    assert LISTED[path].keys() <= names
    assert all(LISTED[path].values())
