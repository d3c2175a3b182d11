"""Classes made of their fields, which are cheap to import: as dataclasses, they would take several times as long."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, cast, dataclass_transform

__all__ = ["Fields", "Told"]


class _Constructor:
    """Stands for a constructor until somebody calls it or looks at it: then it is made of the fields, and takes its
    place."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def __get__(self, made_of: object, kind: type) -> Any:
        owner = self.owner
        fields = owner.__match_args__
        stores = "".join(f"\n self.{name} = {name}" for name in fields)
        made: dict[str, Any] = {}
        exec(f"def __init__(self, {', '.join(fields)}):{stores}", made)
        constructor = made["__init__"]
        constructor.__defaults__ = tuple(getattr(owner, name) for name in fields if hasattr(owner, name))
        types = (inspect.get_annotations(each) for each in reversed(owner.__mro__))
        annotated = {name: of for each in types for name, of in each.items() if name in fields}
        constructor.__annotations__ = {**annotated, "return": None}
        constructor.__qualname__ = f"{owner.__qualname__}.__init__"
        constructor.__module__ = owner.__module__
        type.__setattr__(owner, "__init__", constructor)
        return constructor.__get__(made_of, kind)


@dataclass_transform()
class Fields:
    """Makes a class of its fields, as a dataclass is. The constructor is the only thing that is made, and not before it
    is needed: of twenty events, it is half of what their import takes. Defaults are attributes of the class."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own, above = cls.__annotations__, cast(Any, cls.__mro__[1])
        type.__setattr__(cls, "__match_args__", (*above.__match_args__, *own))
        if own:
            type.__setattr__(cls, "__init__", _Constructor(cls))


class Told(Fields):
    """The same for what is told: objects with the same fields are equal, and show them."""

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names: tuple[str, ...] = self.__match_args__
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __repr__(self) -> str:
        names: tuple[str, ...] = self.__match_args__
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({told})"
