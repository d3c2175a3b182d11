"""Which failure is this: what kind, worth another try or not, when, and whether the dependency is to blame.

No client library is imported: a class is known by its top package and name (`classes`, `traits`), the rest is read from
what errors carry (`facts`, `hints`, `readers`) and looked up (`codes`); `explain` puts it together. What decides, first
to last:

- **kind**: `register`, a code that is always meant (`insufficient_quota`), a class that says more than a status does,
  the HTTP status, SQLSTATE, errno and the like, the class, a code that is weak evidence. An error that says nothing is
  explained by its `__cause__`, else by its `__context__` unless that was suppressed. A library's connection error is
  explained further by its cause, so that a timeout or a bad certificate inside it shows.
- **transient**: `error.transient` (True or False), `register`, the server (`x-should-retry`, pushback), the kind. One
  that was raised locally and says that it is transient is nobody's wrong argument: `unknown`.
- **verdict**: *failure* for timeout, connection, overload, server and unknown; *neutral* for rate_limit, rejected,
  cancellation and an expired deadline; for the rest *success* if the dependency answered (not with 408 or 429),
  *neutral* if the error was raised locally. A 429 for a spent quota is therefore neutral, a 403 for it a success.
- **ExceptionGroup**: transient if all its leaves are; the kind they share, else the worst (`_WORST_FIRST`); the longest
  wait; a failure if one leaf is, else a success if one leaf is, else neutral.
- A certificate that does not verify is `connection`, a failure, and not transient.

`classify` never raises, whatever the error's attributes do. A result keeps no reference to the error and no message.
"""

from __future__ import annotations

from dataclasses import replace

from resilient_agents.classify import traits as classes
from resilient_agents.classify.codes import of_status
from resilient_agents.classify.explain import explain
from resilient_agents.classify.facts import TELLING, carries, get, name_of, status_of, told_by
from resilient_agents.classify.hints import hints_of
from resilient_agents.classify.kinds import KINDS, UNKNOWN, Failure, Kind, Phase, Verdict, failure_of
from resilient_agents.classify.traits import learn, means_control, register, traits_of

__all__ = [
    "KINDS",
    "Failure",
    "Kind",
    "Phase",
    "Verdict",
    "classify",
    "classify_result",
    "counts_against_dependency",
    "http_failure",
    "is_control",
    "is_transient",
    "means_control",
    "register",
    "transient_by_itself",
    "verdict",
]


def classify(error: BaseException) -> Failure:
    """Say which failure `error` is. Never raises; an error that nothing is known about is of kind `unknown`."""
    cls = type(error)
    traits = classes.known.get(id(cls))
    if traits is None or traits.cls() is not cls:
        traits = learn(cls)
    try:
        plain = traits.plain
        if plain is not None and (not (own := error.__dict__) or TELLING.isdisjoint(own)):
            if traits.final:
                return plain
            if error.__cause__ is None and error.__context__ is None:
                made_of = error.args
                if not made_of or (len(made_of) == 1 and type(made_of[0]) is str) or not carries(error):
                    return plain
    except Exception:  # a KeyboardInterrupt's heir may define even `__dict__`; `explain` does not ask
        pass
    return explain(error, traits, 0, {})


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: the default of `Retry(on=)`."""
    return classify(error).transient


def transient_by_itself(error: BaseException) -> bool:
    """Whether another try may succeed by what `error` says, its `__cause__` included, its own `__context__` left out.

    An error raised while another was handled may be transient only because that other one is; this tells the two apart.
    Does not touch the error, which other threads may hold too. Never raises.
    """
    return explain(error, traits_of(error), 0, {}, hear_context=False).transient


def verdict(error: BaseException) -> Verdict:
    """What `error` says about the dependency: "failure", "success" (it is alive) or "neutral" (nothing)."""
    return classify(error).verdict


def counts_against_dependency(error: BaseException) -> bool:
    """Whether `error` is the dependency's failure: the default of `CircuitBreaker(on=)`."""
    return classify(error).verdict == "failure"


def is_control(error: Exception) -> bool:
    """Whether `error` is how a framework steers, or a group with such an error in it: nobody's failure."""
    traits = traits_of(error)
    return traits.control or (traits.group and classify(error).kind == "control")


def http_failure(result: object) -> bool:
    """Whether `result` is a response with status 408, 429 or at least 500: a predicate for `when=`.

    A response is any object with an integer `.status_code` or `.status` (httpx, requests, aiohttp, urllib ...).
    """
    for name in ("status_code", "status"):
        status = get(result, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return status in (408, 429) or 500 <= status <= 599
    return False


def classify_result(result: object) -> Failure:
    """Say which failure a result is that `when=` has called one; a result that says nothing is of kind `unknown`.

    Status and wait are read as from an error. The verdict is "failure": `when=` said so. Never raises.
    """
    name = name_of(type(result))
    try:
        facts = told_by(result)
        status = status_of(facts)
        hints = hints_of(facts, status)
        rule = of_status(status, hinted=hints.wait is not None) if status else UNKNOWN
        failure = failure_of(rule, name, status=status, retry_after=hints.wait, decided=hints.retry)
    except Exception:
        failure = failure_of(UNKNOWN, name)
    return replace(failure, verdict="failure")
