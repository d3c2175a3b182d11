"""A dict that keeps entries of another."""

from __future__ import annotations

import ast

from resilient_agents.scan.form import Expression, Site

__all__ = ["kept"]


def kept(node: ast.DictComp, items: Expression, calls: list[Site]) -> Expression:
    """The dict that some entries of another make, as they are: `{k: v for k, v in given.items() if v is not None}`."""
    target = node.generators[0].target
    if items is None or items[0] != "call" or not isinstance(target, ast.Tuple):
        return None
    callee = calls[items[1]].callee
    made = [getattr(each, "id", "") for each in (node.key, node.value)]
    same = made == [getattr(each, "id", None) for each in target.elts]
    return ("dict", {}, True, (callee[1],)) if same and callee is not None and callee[2:] == ("items",) else None
