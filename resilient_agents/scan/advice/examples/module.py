"""The text of an example: policies, clients, functions, and a `main` that shows them against a fake that fails."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from resilient_agents.scan.advice.examples.bodies import defined
from resilient_agents.scan.advice.examples.clients import Clients, Held
from resilient_agents.scan.advice.examples.expressions import GIVEN, GIVEN_MORE, Kept
from resilient_agents.scan.advice.examples.guarded import Function, Guarded
from resilient_agents.scan.advice.examples.layout import indented, laid_out
from resilient_agents.scan.advice.examples.shown import shown
from resilient_agents.scan.advice.examples.sources import FunctionNode

__all__ = ["Example"]

WIDE = 100


@dataclass
class Example:
    """All that one module has."""

    path: str
    guarded: list[Guarded]
    functions: list[Function]
    init: dict[str, ast.arguments]
    """The signature of `__init__` by class, where the class has one."""
    clients: Clients
    kept: Kept
    taken: frozenset[str]
    """Names of the file that the module's own must not have."""
    left: list[str] = field(default_factory=list)
    """What is not in it, and why."""

    def text(self) -> str:
        body = [*self._constants(), "", *self._policies(), *laid_out(self._body())]
        code = "\n".join(body)
        while body and not body[0]:
            del body[0]
        head = [f'"""{line}' if number == 0 else line for number, line in enumerate(self._docstring())]
        return "\n".join([*head, '"""', "", *self._imports(code), "", *body, ""])

    def held(self) -> Iterator[Held]:
        yield from self.clients.top.values()
        for held in self.clients.of_class.values():
            yield from held.values()

    def _docstring(self) -> Iterator[str]:
        names = ", ".join(each.advised.dependency.name for each in self.guarded)
        yield _plain(f"{self.path} under the policies of what it calls.")
        yield ""
        yield from _folded(_plain(f"It calls {names}."))
        yield ""
        yield _plain(f"Made by `resilient-agents scan --examples` from {self.path}:")
        for function in self.functions:
            lines = ", ".join(str(line) for line in sorted({one.found.call.line for one in function.calls}))
            yield _plain(f"- {function.name}: line{'s' if ',' in lines else ''} {lines}")
        yield from (_plain(f"- left out: {reason}") for reason in self.left)
        yield ""
        yield "Only what leaves the process is here; what the functions do besides, they do in the file."
        for each in self.guarded:
            yield ""
            yield _plain(f"{each.advised.dependency.name}, {each.advised.score.priority} priority:")
            for verdict in each.advised.verdicts:
                yield from _folded(f"{'+' if verdict.candidate else '-'} {verdict.pattern}: {_plain(verdict.why)}")

    def _imports(self, code: str) -> Iterator[str]:
        used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
        standard = {"import tomllib"}
        if "Any" in used:
            standard.add("from typing import Any")
        if "patch" in used:
            standard.add("from unittest.mock import patch")
        other: set[str] = set()
        together: dict[str, list[ast.alias]] = {}
        for name, node in self.kept.imports.items():
            if name in used and isinstance(node, ast.ImportFrom):
                together.setdefault(node.module or "", []).extend(node.names)
            elif name in used and isinstance(node, ast.Import):
                lines = {ast.unparse(ast.Import([alias])) for alias in node.names}
                (standard if _is_standard(node.names[0].name) else other).update(lines)
        for module, names in together.items():
            plain = sorted((each for each in names if each.asname is None), key=_as_sorted)
            renamed = [[each] for each in names if each.asname is not None]  # on a line each, as sorted imports are
            for line in [plain, *renamed]:
                if line:
                    (standard if _is_standard(module) else other).add(ast.unparse(ast.ImportFrom(module, line, 0)))
        for module in self._typed_modules(code):
            (standard if _is_standard(module) else other).add(f"import {module}")
        ours = ["Policy"] * ("Policy" in used) + ["Registry"]
        other.add(f"from resilient_agents import {', '.join([*ours, *['resilient'] * ('resilient' in used)])}")
        if "CallEnded" in used:
            other.add("from resilient_agents.events import CallEnded, Event")
        if "HealthMonitor" in used:
            other.add("from resilient_agents.health import HealthCheck, HealthMonitor")
        testing = [each for each in ("Outage", "drill", "stand_in") if each in used]
        if testing:
            other.add(f"from resilient_agents.testing import {', '.join(testing)}")
        yield "from __future__ import annotations"
        for group in (standard, other):
            yield ""
            yield from sorted(group, key=lambda line: (line.startswith("from"), line.split()[1].lower(), line))

    def _typed_modules(self, code: str) -> Iterator[str]:
        for held in (*self.held(), *self.clients.handed):
            module = held.client.name.rpartition(".")[0]
            if held.nameable and f": {held.client.name}" in code and module:
                while module.rpartition(".")[2][:1].isupper():
                    module = module.rpartition(".")[0]
                yield module

    def _words(self) -> set[str]:
        """The names that functions and clients use."""
        code = "\n".join(ast.unparse(ast.fix_missing_locations(each.node)) for each in self.functions)
        code += "\n" + "\n".join(short_all(held.made) for held in self.held() if held.made is not None)
        return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}

    def _constants(self) -> Iterator[str]:
        words = self._words()
        for name, line in self.kept.constants.items():
            if name in words:
                yield from laid_out([ast.unparse(ast.fix_missing_locations(line))])

    def _policies(self) -> Iterator[str]:
        yield 'POLICIES = """'
        for number, each in enumerate(self.guarded):
            if number:
                yield ""
            yield each.table.rstrip().replace("\\", "\\\\").replace('"""', '""\\"')
        yield '"""'

    def _body(self) -> Iterator[str]:
        yield "policies = Registry(tomllib.loads(POLICIES))"
        for each in self.guarded:
            yield f'{each.variable} = policies.policy("{each.name}")'
            if each.once:
                yield "# For what may not be made twice: the same strategies, repeated only where nothing was sent."
                yield f'{each.once} = Policy(*{each.variable}.strategies, idempotent=False, name="{each.name}-once")'
        yield from self._health()
        handed = any(held.made is None for held in self.clients.top.values())
        if handed or "given" in self._words():
            yield from GIVEN
        if "given_more" in self._words():
            yield from GIVEN_MORE
        yield from self._top()
        yield from self._functions()
        yield from shown(self.guarded, self.functions, self.taken)

    def _health(self) -> Iterator[str]:
        checks = []
        for each in self.guarded:
            if "health check" not in each.advised.candidates:
                continue
            name = each.variable_of("health")
            checks.append(f'HealthCheck("{each.name}", {name}, interval=10.0)')
            yield ""
            yield ""
            if "circuit breaker" in each.advised.candidates:
                yield f"def {name}() -> tuple[str, str]:"
                yield f'    """Degraded while the circuit of {each.name} is not closed."""'
                yield f'    state = policies.circuit_breaker("{each.name}").state'
                yield '    return "healthy" if state == "closed" else "degraded", f"the circuit is {state}"'
                continue
            latest = each.variable_of("latest")
            yield f'{latest} = {{"outcome": "success"}}'
            yield ""
            yield ""
            yield f"def {name}() -> tuple[str, str]:"
            yield f'    """Degraded after a call of {each.name} that failed."""'
            yield f'    outcome = {latest}["outcome"]'
            yield '    return "degraded" if outcome == "failure" else "healthy", f"the last call: {outcome}"'
            yield ""
            yield ""
            yield f"def {each.variable_of('ended')}(event: Event) -> None:"
            yield "    if isinstance(event, CallEnded):"
            yield f'        {latest}["outcome"] = event.outcome'
            yield ""
            yield ""
            yield f"{each.variable}.observe({each.variable_of('ended')})"
        if checks:
            yield ""
            yield ""
            yield f"monitor = HealthMonitor([{', '.join(checks)}])"

    def _top(self) -> Iterator[str]:
        """Clients that the module holds: made by `connect`, so that to import it does nothing."""
        top = list(self.clients.top.values())
        besides = sorted(name for cls, name in self.clients.made_there if not cls and name not in self.clients.top)
        if top or besides:
            yield from ("", "")
        yield from (f"{name}: Any" for name in besides)
        for held in top:
            said = f"{ast.unparse(held.type)} = given({_plain(held.said)!r})"
            yield f"{held.name}: {'Any' if held.made is not None else said}"
        made = [held for held in top if held.made is not None]
        shared = "" if len(self.guarded) > 1 else next((held.guard for held in made if held.guard), "")
        for guard in dict.fromkeys(held.guard or shared for held in made):
            yield from ("", "")
            yield from self._connect(guard, [held for held in made if (held.guard or shared) == guard])

    def _connect(self, guard: str, made: list[Held], cls: str = "") -> Iterator[str]:
        """What makes clients that wait for whom they connect to is guarded as their calls are."""
        word = next((each.word for each in self.guarded if each.variable == guard), "")
        name = "connect" if cls else f"{word}connect"
        taken = name in self.taken or (
            cls and any(each.cls == cls and each.node.name == name for each in self.functions)
        )
        if guard:
            yield f"@resilient({guard})"
        waits = any(held.waits for held in made)
        yield f"{'async ' if waits else ''}def {name}{'_' if taken else ''}({'self' if cls else ''}) -> None:"
        yield '    """Make the clients as the file does, when the program starts."""'
        if not cls:
            yield f"    global {', '.join(held.name for held in made)}"
        yield from dict.fromkeys(_made_line(held, made, bool(cls)) for held in made)

    def _functions(self) -> Iterator[str]:
        classes = dict.fromkeys([each.cls for each in self.functions])
        for cls in classes:
            inside = [each for each in self.functions if each.cls == cls]
            if not cls:
                for each in inside:
                    yield from ("", "", *self._function(each))
                continue
            yield from ("", "", f"class {cls.replace('.', '_')}:")
            held = self.clients.of_class.get(cls, {})
            yield from (f"    {each.name}: {ast.unparse(each.type)}" for each in held.values() if each.made is None)
            fakes = [call.fake for each in inside for call in each.calls if call.fake is not None]
            inherited = {fake.name for fake in fakes if fake.owner == "self" and not fake.path} - held.keys()
            yield from (f"    {name}: Any" for name in sorted(inherited - {each.node.name for each in inside}))
            made = [each for each in held.values() if each.made is not None and not (each.guard or each.waits)]
            if made:
                own = next((each for each in inside if each.node.name == "__init__"), None)
                node = self._init(cls, made, own)
                inside = [each for each in inside if each is not own]
                yield from ("", *indented(ast.unparse(ast.fix_missing_locations(node)).splitlines()))
            late = [each for each in held.values() if each.made is not None and (each.guard or each.waits)]
            for guard in dict.fromkeys(each.guard for each in late):
                lines = self._connect(guard, [each for each in late if each.guard == guard], cls)
                yield from ("", *indented(lines))
            for each in inside:
                yield from ("", *indented(self._function(each)))

    def _init(self, cls: str, made: list[Held], own: Function | None) -> FunctionNode:
        lines: list[ast.stmt] = [
            ast.AnnAssign(
                ast.Attribute(ast.Name("self", ast.Load()), each.name, ast.Store()),
                ast.Name("Any", ast.Load()),
                each.made,
                0,
            )
            for each in made
        ]
        arguments = own.node.args if own is not None else self.init.get(cls)
        arguments = arguments or ast.arguments([], [ast.arg("self", None)], None, [], [], None, [])
        after = own.node.body if own is not None else []
        return defined("__init__", arguments, [*lines, *after], ast.Constant(None))

    def _function(self, each: Function) -> Iterator[str]:
        loops = sorted({one.found.call.line for one in each.calls if one.found.repeated})
        tries = sorted({one.found.call.line for one in each.calls if one.found.call.in_try})
        threads = sorted({one.found.call.line for one in each.calls if one.in_thread})
        if threads:
            yield f"# It holds up the event loop in the file, line {', '.join(map(str, threads))}; here a thread waits."
        if loops:
            yield f"# In a loop, line {', '.join(map(str, loops))}: what one pass does is guarded, not the loop."
        if tries:
            yield f"# In a try, line {', '.join(map(str, tries))}: guarded inside, where the policy sees the error."
        yield from ast.unparse(ast.fix_missing_locations(each.node)).splitlines()


def _made_line(held: Held, others: list[Held], of_class: bool) -> str:
    """The line that makes a client, with those that come of the same call."""
    first = "self." if of_class else ""
    if not held.parts:
        return f"    {first}{held.name}{': Any' if of_class else ''} = {short_all(held.made)}"
    wanted = {each.name for each in others if each.parts == held.parts}
    names = [f"{first}{name}" if name in wanted else "_" for name in held.parts]
    return f"    {', '.join(names)} = {short_all(held.made)}"


def short_all(node: ast.expr | None) -> str:
    return ast.unparse(ast.fix_missing_locations(node)) if node is not None else ""


def _as_sorted(alias: ast.alias) -> tuple[bool, bool, str]:
    """Constants, then classes, then the rest."""
    name = alias.name
    return not (name.isupper() and len(name) > 1), not name[:1].isupper(), name


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _plain(text: str) -> str:
    """Fit for a docstring or a comment: what was read in a file may be anything."""
    return "".join(each if each.isprintable() else "?" for each in text).replace("\\", "/").replace('"', "'")


def _folded(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= WIDE:
            yield line
            line = " "
        line = f"{line} {word}" if line else word
    yield line
