"""A function of a file as an example has it: its signature, and of its body the calls that leave the process.

The calls stand in the order of the file, in the `with` blocks that make or enter a client. What the function does
besides, it does in its file: an example must be safe to run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from resilient_agents.scan.advice.examples.bodies import (
    awaited,
    awaits,
    bound,
    defined,
    imported,
    kept_target,
    laid_by,
    looped,
    lost,
    names_waited_for,
    shared_names,
    target_of,
    typed,
    used,
    without_results,
)
from resilient_agents.scan.advice.examples.bodies import entered as entered_name
from resilient_agents.scan.advice.examples.clients import Clients
from resilient_agents.scan.advice.examples.expressions import Unfit, Words, short
from resilient_agents.scan.advice.examples.fakes import Fake, fake_of
from resilient_agents.scan.advice.examples.guarded import Function, Guard, Placed
from resilient_agents.scan.advice.examples.signatures import ANY, annotation, parameters, signature
from resilient_agents.scan.advice.examples.sources import FunctionNode, blocks_of, leaves
from resilient_agents.scan.inventory import Found
from resilient_agents.scan.values import ClientValue

__all__ = ["function"]

CALL = "answer"
NOTHING = ast.arguments([], [], None, [], [], None, [])


def function(
    node: FunctionNode, cls: str, found: list[tuple[Found, Guard]], words: Words, clients: Clients
) -> Function:
    """Make it. Raises Unfit."""
    return _Writer(node, cls, found, words, clients).write()


class _Writer:
    def __init__(
        self, node: FunctionNode, cls: str, found: list[tuple[Found, Guard]], words: Words, clients: Clients
    ) -> None:
        self.node, self.cls, self.words, self.clients = node, cls, words, clients
        self.found = found
        self.calls = [self._node_of(each) for each, _ in found]
        self.entered = {id(item.context_expr) for item in self._items()}
        guards = list(dict.fromkeys(guard for _, guard in found))
        entered = any(id(call) in self.entered for call in self.calls)
        apart = len(guards) > 1 or any(each.call.in_loop or each.call.in_try for each, _ in found)
        self.by_call = (apart or node.name == "__init__" or self._yields()) and not entered
        if entered and len(guards) > 1:
            raise Unfit("it enters the answers of several dependencies, which one policy cannot guard")
        self.guards = guards
        self.made: dict[str, tuple[ast.expr, str]] = {}
        self.local: dict[str, ClientValue] = {}
        self.fakes: dict[int, Fake] = {}
        self.answered: dict[str, Fake] = {}
        self.emitted: list[Placed] = []
        self.awaitable: set[int] = set()
        self.is_async = isinstance(node, ast.AsyncFunctionDef)
        self.shared = shared_names(node)
        self.later = names_waited_for(node)
        self.looped = looped(node)

    def _node_of(self, found: Found) -> ast.Call:
        call = self.words.source.call(found.seen.site)
        if call is None:
            raise Unfit(f"line {found.call.line} can be read only in part")
        return call

    def _items(self) -> Iterator[ast.withitem]:
        for statement in leaves(self.node.body):
            if isinstance(statement, (ast.With, ast.AsyncWith)):
                yield from statement.items

    def _yields(self) -> bool:
        inside = (each for statement in leaves(self.node.body) for each in ast.iter_child_nodes(statement))
        return any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in inside)

    def write(self) -> Function:
        words = self.words
        words.parameters = [each.arg for each in parameters(self.node)]
        words.local = bound(self.node)
        if own := {"given", "given_more"} & {*words.parameters, *words.local}:
            raise Unfit(f"{own.pop()} is a name that the example needs for itself")
        words.imports = imported(self.node)
        self.clients.typed = {}
        for (found, guard), call in zip(self.found, self.calls, strict=True):
            words.calls[id(call)] = functools.partial(self._guarded, found=found, guard=guard)
        for (found, _), call in zip(self.found, self.calls, strict=True):
            self.clients.place(words, call, found.seen, self.cls, self.local)
        self._make_local()
        body = self._block(self.node.body)
        if not self.emitted:
            raise Unfit("its calls stand where an example cannot have them")
        method = bool(self.cls) and "staticmethod" not in map(short, self.node.decorator_list)
        returns = self._returned(body)
        body = used(body)
        if reason := lost(body, self.emitted, is_async=self.is_async):
            raise Unfit(reason)
        arguments = signature(self.node, self.clients.typed, method=method)
        made = defined(self.node.name, arguments, body, returns, is_async=self.is_async)
        made.decorator_list = self._decorators()
        return Function(made, self.cls, self.emitted, self.by_call)

    def _decorators(self) -> list[ast.expr]:
        kept = [each for each in self.node.decorator_list if short(each) in ("staticmethod", "classmethod", "property")]
        if self.by_call:
            return kept
        policy = ast.Name(self.guards[0].policy, ast.Load())
        return [*kept, ast.Call(ast.Name("resilient", ast.Load()), [policy], [])]

    def _make_local(self) -> None:
        """The clients that the function makes by itself; what it has by other means is held at the top."""
        for name in sorted(self.local):
            values = self.words.local[name]
            reused = not self.words.has_call(values[0]) and any(map(self.words.has_call, values[1:]))
            if reused and all(map(self.words.has_call, values[1:])):
                values = values[:1]  # the name has a client first, and then what that answers
            entered = [item for item in self._items() if entered_name(item) == name]
            value = entered[0].context_expr if entered else values[0]
            made = None
            if len(values) == 1 and isinstance(value, ast.Call) and not self.words.has_call(value):
                self.clients.place_maker(self.words, value, self.local[name], self.cls)
                made = self.words.chain(value)
            if made is None and reused:
                raise Unfit(f"{name} is a client first, and then what it answers")
            if made is None:
                self.clients.instead(self.words, name, self.local.pop(name))
            else:
                self.made[name] = made, self._enters(name)

    def _enters(self, name: str) -> str:
        """The method by which a `with` enters what the name then holds; "" where none does."""
        for statement in leaves(self.node.body):
            if isinstance(statement, (ast.With, ast.AsyncWith)) and name in map(entered_name, statement.items):
                return "__enter__" if isinstance(statement, ast.With) else "__aenter__"
        return ""

    def _guarded(self, call: ast.Call, found: Found, guard: Guard) -> ast.expr:
        made = self.words.called(call)
        target = made.func
        if isinstance(target, ast.Call) and isinstance(target.func, ast.Name) and target.func.id == "given":
            raise Unfit(f"what it calls is found by other means: {short(call.func)}")
        if found.seen.runner:
            handed = [*made.args, *(each.value for each in made.keywords)]
            target = next((each for each in handed if isinstance(each, (ast.Attribute, ast.Name))), target)
        of_loop = found.seen.operation.is_async and not found.seen.runner
        waits = of_loop and id(call) not in self.entered
        if waits and id(call) in self.looped:
            raise Unfit(f"it goes over what it calls, and does not wait for it: {short(call.func)}")
        policy = guard.own if self.by_call else guard.policy
        calls = {id(each.made): each.fake for each in self.emitted}
        fake = fake_of(target, self.made, self.answered, calls, set(self.words.parameters), of_loop)
        if fake is not None:
            self.fakes[id(call)] = fake
        in_thread = self.is_async and guard.holds_up and id(call) not in self.entered
        has_await = waits or bool(found.seen.runner)
        if has_await:
            self.awaitable.add(id(call))
        whole = self._under(policy, made, found, in_thread=in_thread, waits=has_await)
        self.emitted.append(Placed(found, policy, fake, self._said(made), in_thread, whole, waits))
        return whole

    def _under(self, policy: str, made: ast.Call, found: Found, *, in_thread: bool, waits: bool) -> ast.expr:
        """The call under its policy; an `await` of the file's stands around it where it is awaited."""
        way = ast.Attribute(ast.Name(policy, ast.Load()), "acall" if self.is_async else "call", ast.Load())
        if in_thread and self.by_call and found.call.kind == "subprocess":  # its types do not go through two callables
            way.attr = "call"
            guarded = ast.Call(way, [made.func, *made.args], made.keywords)
            return ast.Await(ast.Call(self.words.to_thread(), [ast.Lambda(NOTHING, guarded)], []))
        if in_thread:
            made = ast.Call(self.words.to_thread(), [made.func, *made.args], made.keywords)
        if not self.by_call:
            return ast.Await(made) if in_thread else made
        guarded = ast.Call(way, [made.func, *made.args], made.keywords)
        return ast.Await(guarded) if self.is_async and not waits else guarded

    def _said(self, made: ast.Call) -> str:
        """The arguments of a call, with the constants among them."""
        values: list[ast.AST] = [*made.args, *(each.value for each in made.keywords)]
        names = {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}
        values += [line for name, line in self.words.kept.constants.items() if name in names]
        return "; ".join(ast.unparse(ast.fix_missing_locations(value)) for value in values)

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for statement in body:
            if made and isinstance(made[-1], ast.Return):
                break
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if isinstance(statement, (ast.With, ast.AsyncWith)):
                made += self._with(statement)
            elif any(True for _ in blocks_of(statement)):
                heads = [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.expr)]
                made += [line for head in heads for line in self._alone(head)]
                made += [line for block in blocks_of(statement) for line in self._block(block)]
            else:
                made += self._simple(statement)
        return made

    def _with(self, statement: ast.With | ast.AsyncWith) -> list[ast.stmt]:
        items, before = [], []
        for item in statement.items:
            name = entered_name(item)
            if name in self.made:
                items.append(ast.withitem(self.made[name][0], ast.Name(name, ast.Store())))
            elif id(item.context_expr) in self.words.calls:
                if name:
                    self.words.answers.add(name)
                context = self.words.expression(item.context_expr)
                items.append(ast.withitem(context, ast.Name(name, ast.Store()) if name else None))
            else:
                before += self._alone(item.context_expr)
        inside = self._block(statement.body)
        if items:
            inside = [type(statement)(items, inside or [ast.Pass()], lineno=0)]
        return [*before, *inside]

    def _alone(self, expression: ast.expr) -> list[ast.stmt]:
        """The calls in an expression that is otherwise work of the file."""
        found: list[ast.stmt] = []
        for node in self.words.outermost(expression):
            made = self.words.expression(node)
            waits = self.is_async and id(node) in self.awaitable
            found.append(ast.Expr(ast.Await(made) if waits else made))
        return found

    def _simple(self, statement: ast.stmt) -> list[ast.stmt]:
        value: ast.expr | None = getattr(statement, "value", None)
        target = target_of(statement)
        if value is None or not self.words.has_call(statement):
            return self._besides(statement, value, target)
        before = len(self.emitted)
        try:
            made = self.words.expression(value)
        except Unfit:
            made = None
        if made is None or (target in self.later and laid_by(made, self.emitted[before:])):
            del self.emitted[before:]
            return self._alone(value)
        if isinstance(statement, ast.Return):
            return [self._assigned(CALL, made) if self._more() else ast.Return(made)]
        kept = kept_target(statement, self.shared, method=bool(self.cls))
        if kept is not None and id(awaited(value)) in self.words.calls:
            of_module = [ast.Global([kept.id])] if isinstance(kept, ast.Name) else []
            place = ("", kept.id) if isinstance(kept, ast.Name) else (self.cls, kept.attr)
            self.clients.made_there.add(place)
            return [*of_module, ast.Assign([kept], made, lineno=0)]
        if target and (fake := self.fakes.get(id(awaited(value)))) is not None:
            self.answered[target] = fake
        return [self._assigned(target, made) if target else ast.Expr(made)]

    def _more(self) -> bool:
        return len(self.emitted) < len(self.found)

    def _assigned(self, name: str, value: ast.expr) -> ast.stmt:
        target = ast.Name(name, ast.Store())
        if name in self.words.answers or name in self.words.parameters or name in self.made:
            self.words.answers.add(name)
            return ast.Assign([target], value, lineno=0)
        self.words.answers.add(name)
        return ast.AnnAssign(target, ANY, value, 1)

    def _besides(self, statement: ast.stmt, value: ast.expr | None, target: str) -> list[ast.stmt]:
        """Making a client, and what is done to an answer."""
        if target in self.made:
            return [ast.AnnAssign(ast.Name(target, ast.Store()), ANY, self._started(target), 1)]
        if value is None or not isinstance(statement, (ast.Expr, ast.Return)):
            return []
        base = self.words.root(value)
        if not (isinstance(base, ast.Name) and base.id in self.words.answers) or awaits(value):
            return []
        if isinstance(statement, ast.Return) and self._more():
            return []
        try:
            return [type(statement)(self.words.expression(value))]
        except Unfit:
            return []

    def _started(self, name: str) -> ast.expr:
        """What makes a client of the function: a process is started by a thread, where it would hold up a loop."""
        made = self.made[name][0]
        blocks = self.local[name].client.name == "subprocess.Popen" and self.is_async
        if not blocks or not isinstance(made, ast.Call):
            return made
        return ast.Await(ast.Call(self.words.to_thread(), [made.func, *made.args], made.keywords))

    def _returned(self, body: list[ast.stmt]) -> ast.expr:
        """The type of what it returns; a body that returns nothing gets the words of the file for it."""
        values = [each.value for each in leaves(self.node.body) if isinstance(each, ast.Return) and each.value]
        if not values or self.node.name == "__init__":
            without_results(body)
            return ast.Constant(None)
        kind = annotation(self.node.returns)
        if not any(isinstance(each, ast.Return) for each in leaves(body)):
            last = values[-1]
            # A text where the file promises something else would be an error here, too.
            text = isinstance(last, ast.JoinedStr) or (isinstance(last, ast.Constant) and isinstance(last.value, str))
            other = kind is not ANY and "str" not in ast.unparse(kind)
            given = self.words.has_call(last) or (text and other)
            body.append(ast.Return(self.words.given(last) if given else self.words.expression(last)))
        if kind is ANY or self._yields():
            return ANY
        return typed(body, kind)
