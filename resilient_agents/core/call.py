"""One invocation on its way through the strategies, and what a strategy is.

A strategy is one coroutine method. An async call awaits the chain of them; a blocking call drives the same chain with
one `send(None)`, which runs to its end because a blocking runtime never suspends (see runtime.py).
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar, cast

from resilient_agents.classify import Failure
from resilient_agents.core.known import Known, failure_of

if TYPE_CHECKING:
    from resilient_agents.core.audience import Audience
    from resilient_agents.core.given_up import Moment
    from resilient_agents.core.opening import Opened
    from resilient_agents.core.runtime import Runtime
    from resilient_agents.core.threads import Worker, Workers
    from resilient_agents.events import Event
    from resilient_agents.idempotency import Write

__all__ = ["NEUTRAL", "NO_PLAN", "NO_RECHECKS", "ORDINARY", "STOPPED", "Boxed", "Call", "Closer", "Neutral", "Plan",
           "Proceed", "Rare", "Rechecks", "Strategy", "call_of", "name_of", "run_closers", "unboxed"]  # fmt: skip

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")


class Strategy(Protocol):
    """One layer of a policy.

    `execute` may also be a plain function that returns `proceed(call)` when there is nothing to do afterwards. It
    catches `Exception` only, releases in `finally`, and waits only through `call.runtime`. Optional attributes:

    - `owns_attempts = True`: the layer repeats what is inside it
    - `stands_in = True`: it answers for what is inside it when that fails; `innermost = True`: nothing may be inside
    - `recheck(call)`: refuse a call that waited inside
    - `heard = True`: the layer around it may hear for it how calls end, by its `execute_around(layer, proceed, call)`
    - `refuse_no_stream(name)`: raise TypeError for a function that is no stream, when it is decorated
    - `describe()`: plain data for `Policy.describe`
    """

    def execute(self, proceed: Proceed, call: Call, /) -> Awaitable[Any]: ...


Proceed = Callable[["Call"], Awaitable[Any]]
Rechecks = dict[int, tuple[Callable[["Call"], None], ...]]
"""By the identity of a layer that may make calls wait: the layers around it that want a second look afterwards."""


class Neutral:
    """The outcome that is neither success nor failure: closed early, cancelled."""

    __slots__ = ()


NEUTRAL = Neutral()

Closer = Callable[["Exception | Neutral | None"], None]


class Boxed(Exception):
    """Carries a user's StopIteration through coroutines, which would turn it into a RuntimeError (PEP 479)."""

    def __init__(self, error: StopIteration) -> None:
        self.error = error


STOPPED: Final = "coroutine raised StopIteration"
"""What Python says where a coroutine would let one out."""


def unboxed(error: E) -> E | StopIteration:
    """The error as the user raised it: use it wherever a predicate, handler or event sees an error."""
    return error.error if isinstance(error, Boxed) else error


def name_of(fn: Callable[..., Any]) -> str:
    """`module.qualname` of any callable: of a partial that of what it wraps, of an object that of its class."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    named: Any = fn if type(getattr(fn, "__qualname__", None)) is str else type(fn)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"


NO_RECHECKS: Final[Rechecks] = {}


class Plan:
    """What all calls of one function have in common until a policy changes.

    `name`: of the policy, None for that of the function. `chain`: what an ordinary call runs; it is right while `quiet`
    is the edition in force, which it never is where observers watch. `edition`: in which the plan was made. `layers`:
    what the chain runs through; `rechecks`: the second looks that they want. `alone`: the retry that is the whole
    policy, if its first attempt may be made without it; `retry`: the same of one around all else, which is `inside`;
    `counts`: where a good first attempt is counted; `since`: what stands for when it began, None if that must be known.
    """

    __slots__ = (
        *("alone", "chain", "edition", "innermost", "inside", "layers", "name", "quiet", "rechecks", "retry"),
        *("counts", "since"),
    )

    chain: Proceed
    innermost: Proceed
    of_key: ClassVar[bool] = False  # was it found by a call's arguments?

    def __init__(self, name: str | None, rechecks: Rechecks = NO_RECHECKS, edition: object = None) -> None:
        self.name = name
        self.layers: tuple[Strategy, ...] = ()
        self.rechecks = rechecks
        self.edition = self.quiet = edition
        self.alone: Any = None
        self.retry: Any = None
        self.inside: Any = None
        self.counts: Any = None
        self.since: Moment | None = None

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """The plan of a call with these arguments, where they decide; None where this is the one of all calls."""
        return None

    def enter(self, call: Call) -> Proceed:
        """The chain for any call, one that is watched or has a deadline, too, while `edition` is the one in force."""
        raise NotImplementedError  # of no edition: a plan is made before a call enters

    def paid(self) -> Plan:
        """That of a call that is ordinary but for the budget of a run; `NO_PLAN` where it has a deadline, too."""
        return NO_PLAN

    def named(self, name: str) -> Self:
        """The same plan for a function of that name, where the policy has no name of its own."""
        plan = copy.copy(self)
        plan.name = name
        return plan


NO_PLAN: Final = cast(Plan, None)


class Rare:
    """What few calls need. One object, `ORDINARY`, stands for it on all calls that need nothing of it.

    `audience`: those who watch; `began`: when the function, or chaos in its place, began in the present attempt, by the
    clock, for them.
    `closers`: None for an ordinary call; for a stream the callbacks to run once it ends, which take the place of "after
    `proceed`".
    `waited`: seconds spent queueing for slots and tokens so far. `opened`: what a stream iterates, from its first on.
    `cut_short`: an outer limit leaves the present attempt less time than its own.
    `error`: the last real error, from which a time limit raises; only set while there is a limit, cleared by it.
    `workers`: where a blocking function runs, None for the calling thread; `abandoned`: the worker that still runs it
    after an expiry; `branches`: its passes that are on, each of which may have such a worker. `reads`: told what a
    blocking stream reads its first item from, before it does.
    `marks`: what marks the context for calls inside it, by owner: probes of half-open circuits, charges to budgets.
    `write`: what became of the tries so far, where the policy was told of writes. `known`: what the last error was.
    """

    # Defaults of the class, so that making one sets nothing.
    audience: Audience | None = None
    began: float | None = None
    closers: list[Closer] | None = None
    opened: Opened | None = None
    waited = 0.0
    cut_short = False
    error: Exception | None = None
    workers: Workers | None = None
    abandoned: tuple[Worker, ...] = ()
    branches: Sequence[Call] = ()
    reads: Callable[[Any], None] | None = None
    marks: dict[Any, Any] | None = None
    write: Write | None = None
    known: Known | None = None


_RARE: Final = tuple(name for name in vars(Rare) if not name.startswith("_"))


class _Ordinary:
    """The defaults in slots, where they are read ten times as fast as from a class."""

    __slots__ = _RARE

    def __reduce__(self) -> str:
        return "ORDINARY"

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} is set on the call, which then has a Rare of its own")


ORDINARY: Final = cast(Rare, _Ordinary())
for _name in _RARE:
    object.__setattr__(ORDINARY, _name, getattr(Rare, _name))


def _rare(name: str) -> Any:
    """Reads from the call's `rare`; what is set gives it one of its own."""
    unset = getattr(ORDINARY, name)

    def set_rare(call: Call, value: Any) -> None:
        if call.rare is ORDINARY:
            if value is unset:
                return
            call.rare = Rare()
        setattr(call.rare, name, value)

    return property(operator.attrgetter(f"rare.{name}"), set_rare)


class Call:
    """One invocation. What a strategy wants to leave for another one stands here, all that is rare in `rare`.

    It has no constructor, which would cost more than what it sets: `call_of` makes one, and core/wrappers.py too.
    """

    plan: Plan
    runtime: Runtime
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rare: Rare
    hedge: int = 0  # which further request of a hedged call this is, from 1
    look_at_opening: Callable[[Call, Awaitable[Opened]], Awaitable[Opened]] | None = None
    """Of a stream that will be read in another task or thread: what looks whether it can be."""

    if TYPE_CHECKING:
        audience: Audience | None
        closers: list[Closer] | None
        opened: Opened | None
        waited: float
        cut_short: bool
        error: Exception | None
        workers: Workers | None
        abandoned: tuple[Worker, ...]
        marks: dict[Any, Any] | None
        write: Write | None
    else:
        __slots__ = ("args", "fn", "kwargs", "plan", "rare", "runtime")
        audience, closers, opened = _rare("audience"), _rare("closers"), _rare("opened")
        waited, cut_short, error = _rare("waited"), _rare("cut_short"), _rare("error")
        workers, abandoned, marks = _rare("workers"), _rare("abandoned"), _rare("marks")
        write = _rare("write")

    @property
    def name(self) -> str:
        """The policy's own name, else that of the function."""
        return self.plan.name or name_of(self.fn)

    def own_rare(self) -> Rare:
        """The call's own, in which what is set is a single step."""
        if self.rare is ORDINARY:
            self.rare = Rare()
        return self.rare

    origin = property(id)
    """Identity of the call, the same for all that was forked from it."""

    def outer_rechecks(self, strategy: Strategy) -> tuple[Callable[[Call], None], ...]:
        """What the layers around `strategy` have to say about a call that waited in it."""
        return self.plan.rechecks.get(id(strategy), ())

    def recheck(self, strategy: Strategy, waited: float) -> None:
        """Called by `strategy` after it made the call wait: the layers around it may refuse the call by raising
        `Rejected`."""
        if self.plan.rechecks and (rechecks := self.outer_rechecks(strategy)):
            self.own_rare().waited += waited  # nobody else asks how long it has waited
            for recheck in rechecks:
                recheck(self)

    def tell(self, kind: Callable[Concatenate[str, P], Event], *facts: P.args, **named: P.kwargs) -> None:
        """Those who watch, if anybody does, are told of an event of this kind."""
        audience = self.rare.audience
        if audience is not None:
            audience.tell(kind(audience.policy, *facts, **named))

    def failure(self, error: BaseException) -> Failure:
        return failure_of(self, unboxed(error))

    def close(self, outcome: Exception | Neutral | None, kept: int = 0) -> None:
        """Run the closers of a stream once, innermost first, as layers left them on the way out, all but the first
        `kept`."""
        found = self.closers or []
        closers, self.closers = found[kept:], found[:kept]
        run_closers(closers, outcome)


def run_closers(closers: Iterable[Closer], outcome: Exception | Neutral | None) -> None:
    """Run each of them, whatever another raises; the first such error comes out at the end."""
    broken: Exception | None = None
    for closer in closers:
        try:
            closer(outcome)
        except Exception as error:
            broken = broken or error
    if broken is not None:
        try:
            raise broken
        finally:
            broken = None


def call_of(
    plan: Plan, runtime: Runtime, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call:
    """A call of `fn`, about which nothing rare is known yet."""
    call = Call()
    call.plan = plan
    call.runtime = runtime
    call.fn = fn
    call.args = args
    call.kwargs = kwargs
    call.rare = ORDINARY
    return call
