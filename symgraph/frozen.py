"""Frozen dataclasses that cost little to make.

`dataclass(frozen=True)` writes six methods as text and compiles them, half a millisecond a class,
and an `import symgraph` makes two hundred classes. Here two of the six are shared by all, and each
of the others is written when it is first looked up, which for most never happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

Made = TypeVar("Made")
Fields = tuple[Field[Any], ...]


@overload
def frozen(cls: type[Made], /) -> type[Made]: ...
@overload
def frozen(*, eq: bool = True, repr: bool = True) -> Callable[[type[Made]], type[Made]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[Any] | None = None, /, *, eq: bool = True, repr: bool = True) -> Any:
    """Make a class what `dataclass(frozen=True)` makes it; `fields`, `replace`, `asdict` know it.

    Methods that it has itself stay. Two things are stricter: no attribute at all can be assigned,
    in subclasses either; and a dataclass that inherits from it is to be made by `frozen`, too.

    >>> @frozen
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> Point(3)
    Point(x=3, y=0)
    """
    if cls is None:
        return lambda later: _freeze(later, eq, repr)
    return _freeze(cls, eq, repr)


def _freeze(cls: type[Any], eq: bool, repr: bool) -> type[Any]:
    own = set(vars(cls))
    if own & _GUARDS.keys():
        raise TypeError(f"frozen: {cls.__name__} has {' and '.join(own & _GUARDS.keys())} itself.")
    if "__eq__" in own and vars(cls)["__hash__"] is None:
        own.remove("__hash__")  # Python wrote it, since the class has an `__eq__`
    written = ["__init__", *["__repr__"] * repr, *["__eq__", "__hash__"] * eq]
    methods = _GUARDS | {name: _Unwritten(cls, name) for name in written}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    # without methods to write it only collects the fields, and looks whether they can be fields
    dataclass(init=False, repr=False, eq=False)(cls)
    _check(cls, fields(cls))
    return cls


def _check(cls: type[Any], found: Fields) -> None:
    optional = ""
    for one in found:
        required = one.default is MISSING and one.default_factory is MISSING
        if not one.init or one.kw_only or one.hash is not None:
            raise TypeError(f"frozen: {cls.__name__}.{one.name} has a setting that it cannot have.")
        if required and optional:
            raise TypeError(f"frozen: {cls.__name__}.{one.name} follows {optional}, a default.")
        optional = optional if required else one.name


def _no_assignment(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _no_deletion(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_GUARDS: dict[str, Any] = {"__setattr__": _no_assignment, "__delattr__": _no_deletion}


class _Unwritten:
    """A method of a class until it is first looked up: then it is written, and takes its place."""

    def __init__(self, cls: type[Any], name: str) -> None:
        self.cls, self.name = cls, name

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        method = _write(self.cls, self.name)
        setattr(self.cls, self.name, method)
        return method if instance is None else method.__get__(instance)


def _write(cls: type[Any], name: str) -> Any:
    names: dict[str, Any] = {"__name__": cls.__module__}
    exec(_TEXTS[name](cls, fields(cls), names), names)
    method = names[name]
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    if name == "__init__":
        method.__annotations__ = {one.name: one.type for one in fields(cls)} | {"return": None}
    return recursive_repr()(method) if name == "__repr__" else method


def _init(cls: type[Any], found: Fields, names: dict[str, Any]) -> str:
    names["_assign"], names["_FACTORY"] = object.__setattr__, _FACTORY
    parameters, body = ["self"], []
    for one in found:
        name = value = one.name
        if one.default is not MISSING:
            names[f"_default_{name}"] = one.default
            parameters.append(f"{name}=_default_{name}")
        elif one.default_factory is not MISSING:
            names[f"_make_{name}"] = one.default_factory
            parameters.append(f"{name}=_FACTORY")
            value = f"_make_{name}() if {name} is _FACTORY else {name}"
        else:
            parameters.append(name)
        body.append(f"_assign(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    return "\n    ".join([f"def __init__({', '.join(parameters)}):", *body, "pass"])


def _repr(cls: type[Any], found: Fields, names: dict[str, Any]) -> str:
    shown = ", ".join(f"{one.name}={{self.{one.name}!r}}" for one in found if one.repr)
    return f'def __repr__(self): return f"{{self.__class__.__qualname__}}({shown})"'


def _eq(cls: type[Any], found: Fields, names: dict[str, Any]) -> str:
    equal = f"{_values('self', found)} == {_values('other', found)}"
    same_class = "other.__class__ is self.__class__"
    return f"def __eq__(self, other): return {equal} if {same_class} else NotImplemented"


def _hash(cls: type[Any], found: Fields, names: dict[str, Any]) -> str:
    return f"def __hash__(self): return hash({_values('self', found)})"


def _values(of: str, found: Fields) -> str:
    return f"({''.join(f'{of}.{one.name}, ' for one in found if one.compare)})"


_TEXTS = {"__init__": _init, "__repr__": _repr, "__eq__": _eq, "__hash__": _hash}


class _Factory:
    """The default of an argument that is made anew in each call, as signatures show it."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()
