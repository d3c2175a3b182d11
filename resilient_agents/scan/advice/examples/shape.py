"""What an example is but for names: two that differ by nothing else are one."""

from __future__ import annotations

import ast

from resilient_agents.scan.advice.examples.module import Example

__all__ = ["shape"]


def shape(example: Example) -> str:
    """Equal for two examples that differ by names and texts alone."""
    body: list[ast.stmt] = [each.node for each in example.functions]
    body += [ast.Expr(held.made) for held in example.held() if held.made is not None]
    switches = [(verdict.pattern, verdict.candidate) for each in example.guarded for verdict in each.advised.verdicts]
    kinds = [each.advised.dependency.target.kind for each in example.guarded]
    known = {name: ast.unparse(_anonymous(line)) for name, line in example.kept.imports.items()}
    copies = [ast.parse(ast.unparse(ast.fix_missing_locations(each))) for each in body]
    return repr(([ast.dump(_Nameless(known).visit(each)) for each in copies], switches, kinds))


def _anonymous(node: ast.stmt) -> ast.stmt:
    """An import without the name that it gives."""
    names = [ast.alias(alias.name, None) for alias in node.names]  # type: ignore[attr-defined]
    if isinstance(node, ast.ImportFrom):
        return ast.ImportFrom(node.module, names, 0)
    return ast.Import(names)


class _Nameless(ast.NodeTransformer):
    """Names in the order in which they come; what is imported is known by what it is."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self.seen: dict[str, str] = {}

    def _of(self, name: str) -> str:
        return self.known.get(name) or self.seen.setdefault(name, f"n{len(self.seen)}")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._of(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(self._of(node.arg), node.annotation and self.visit(node.annotation))

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = ""
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.name = ""
        return self.generic_visit(node)
