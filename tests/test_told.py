"""Events are classes made of their fields, whose constructors are made when they are wanted."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from resilient_agents.base.told import Told


class Seen(Told):
    who: str


class Counted(Seen):
    """Of its base's fields and its own."""

    times: int = 1
    note: str | None = None


class Recounted(Counted):
    """Adds nothing."""


def test_a_class_takes_its_bases_fields_first() -> None:
    """In order, by position and by name, with the defaults that stand on the class."""
    assert repr(Recounted("a", 2)) == "Recounted(who='a', times=2, note=None)"
    assert Counted("a", note="x") == Counted(who="a", times=1, note="x")
    assert Recounted("a") != Counted("a")


def test_its_signature_can_be_looked_at_before_the_first_is_made() -> None:
    """A constructor that nobody has called yet says what it takes, as its bases' and its subclasses' do."""

    class Fresh(Recounted):
        late: float = 0.0

    parameters = inspect.signature(Fresh).parameters
    assert [(name, each.default) for name, each in parameters.items()] == [
        ("who", inspect.Parameter.empty),
        ("times", 1),
        ("note", None),
        ("late", 0.0),
    ]
    assert parameters["late"].annotation == "float"
    assert list(inspect.signature(Seen).parameters) == ["who"]


def test_what_is_missing_is_named() -> None:
    """As of any class."""
    with pytest.raises(TypeError, match=r"Seen\.__init__\(\) missing 1 required positional argument: 'who'"):
        Seen()  # type: ignore[call-arg]


def test_it_survives_pickle_and_copy_and_matches_by_position() -> None:
    """Like a dataclass."""
    made = Counted("a", 3)
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == made
    match made:
        case Counted(who, times):
            assert (who, times) == ("a", 3)
