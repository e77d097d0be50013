"""`frozen` makes of a class what `dataclass(frozen=True)` does, but for what it says itself."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, astuple, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from symgraph.frozen import frozen


def bodies() -> dict[str, Callable[[], type]]:
    """One class of each kind, made anew in each call; all are called Thing."""

    def plain() -> type:
        class Thing:
            """What it is."""

            x: int
            y: str = "q"

        return Thing

    def empty() -> type:
        class Thing:
            """Nothing."""

        return Thing

    def single() -> type:
        class Thing:
            """One."""

            x: Any

        return Thing

    def settings() -> type:
        class Thing:
            """All settings that fields may have."""

            kind: ClassVar[str] = "k"
            x: int
            made: list[int] = field(default_factory=list)
            hidden: str = field(default="h", repr=False)
            aside: Any = field(default=None, compare=False)

        return Thing

    def checked() -> type:
        class Thing:
            """It looks at what it is given."""

            x: int

            def __post_init__(self) -> None:
                if self.x < 0:
                    raise ValueError("negative")

        return Thing

    def own() -> type:
        class Thing:
            """It has methods itself."""

            x: int

            def __repr__(self) -> str:
                return "mine"

            def __eq__(self, other: object) -> bool:
                return True

        return Thing

    def own_hash() -> type:
        class Thing:
            """It has a hash itself."""

            x: int

            def __hash__(self) -> int:
                return 5

        return Thing

    def undocumented() -> type:
        class Thing:
            x: int
            y: float = 0.5

        return Thing

    return {made.__name__: made for made in (
        plain, empty, single, settings, checked, own, own_hash, undocumented
    )}  # fmt: skip


def outcome(action: Callable[[], Any]) -> Any:
    """What comes of it: the text of the result, or the error."""
    try:
        return repr(action())
    except (TypeError, ValueError, AttributeError) as problem:
        return type(problem), str(problem)


LOOKS: list[Callable[[type], Any]] = [
    lambda kind: kind.__doc__,
    inspect.signature,
    lambda kind: [(one.name, one.type, one.default) for one in fields(kind)],
    lambda kind: kind.__match_args__,  # type: ignore[attr-defined]
    lambda kind: kind.__init__.__qualname__,  # type: ignore[misc]
    lambda kind: inspect.get_annotations(kind.__init__),  # type: ignore[misc]
    lambda kind: kind(),
    lambda kind: kind(3),
    lambda kind: kind(x=3),
    lambda kind: kind(-3),
    lambda kind: kind(3, "z"),
    lambda kind: kind(3, other=4),
    lambda kind: kind(1, 2, 3, 4, 5, 6),
    lambda kind: kind(3) == kind(3),
    lambda kind: kind(3) == kind(4),
    lambda kind: kind(3) == 3,
    lambda kind: kind() == kind(),
    lambda kind: kind(3).__eq__(3),
    lambda kind: kind(3, [1], "h", 1) == kind(3, [1], "h", 2),
    lambda kind: kind(3, [1], "g") == kind(3, [1], "h"),
    lambda kind: hash(kind(3)),
    lambda kind: hash(kind(3, "z")),
    lambda kind: hash(kind()),
    lambda kind: hash(kind(3, (1,), "h", [])),
    lambda kind: kind(3).made is kind(3).made,
    lambda kind: setattr(kind(3), "x", 4),
    lambda kind: setattr(kind(3), "new", 4),
    lambda kind: delattr(kind(3), "x"),
    lambda kind: (replace(kind(3), x=4), asdict(kind(3)), astuple(kind(3))),
    lambda kind: replace(kind(3), x=-4),
    lambda kind: replace(kind(3), other=4),
    lambda kind: (copy.copy(kind(3)), copy.deepcopy(kind(3))),
    lambda kind: [vars(kind(3)), vars(kind(x=3))],
]


@pytest.mark.parametrize("number", range(len(LOOKS)))
@pytest.mark.parametrize("body", bodies())
def test_it_is_as_the_standard_one(body: str, number: int) -> None:
    look, make = LOOKS[number], bodies()[body]
    ours = outcome(lambda: look(frozen(make())))
    assert ours == outcome(lambda: look(dataclass(frozen=True)(make())))


@pytest.mark.parametrize("options", [{"eq": False}, {"repr": False}, {"eq": False, "repr": False}])
@pytest.mark.parametrize("body", bodies())
def test_so_it_is_without_some_methods(body: str, options: dict[str, bool]) -> None:
    ours = frozen(**options)(bodies()[body]())
    standard = dataclass(frozen=True, **options)(bodies()[body]())  # type: ignore[call-overload]
    for name in ("__repr__", "__eq__", "__hash__"):
        assert (name in vars(ours)) == (name in vars(standard))
    assert vars(ours(3) if fields(ours) else ours()) == vars(
        standard(3) if fields(standard) else standard()
    )


@frozen
class Point:
    """A place."""

    x: int
    y: Any = 0


@frozen
class Higher(Point):
    """A place with a height."""

    z: int = 7


def test_a_subclass_has_the_fields_of_both() -> None:
    assert repr(Higher(1)) == "Higher(x=1, y=0, z=7)"
    assert Higher(1) == Higher(1, 0, 7) != Point(1)
    assert str(inspect.signature(Point)) == "(x: 'int', y: 'Any' = 0) -> None"


def test_it_can_be_pickled_and_copied() -> None:
    assert pickle.loads(pickle.dumps(Higher(1, (2,), 3))) == Higher(1, (2,), 3)
    assert copy.deepcopy(Point(1, [2])) == Point(1, [2])


def test_it_can_be_matched_by_position() -> None:
    match Higher(1, 2, 3):
        case Higher(x, 2, z):
            assert (x, z) == (1, 3)
        case _:
            pytest.fail("no match")


def test_one_that_holds_itself_can_be_shown() -> None:
    inside: list[Any] = []
    inside.append(Point(1, inside))
    assert repr(inside) == "[Point(x=1, y=[...])]"


def test_what_is_made_first_by_a_subclass_belongs_to_the_base() -> None:
    @frozen
    class Base:
        """It is made by a class without fields."""

        x: int

    class Below(Base):
        """It has no fields of its own."""

        def __init__(self) -> None:
            super().__init__(5)

    class Bare(Base):
        """It has nothing of its own."""

    assert (Below().x, Bare(6).x, Base(7).x) == (5, 6, 7)
    assert "__init__" not in vars(Bare)
    assert inspect.isfunction(vars(Base)["__init__"])


def test_init_is_written_once_and_not_before_it_is_needed() -> None:
    @frozen
    class Later:
        """It is not yet needed."""

        x: int

    assert not inspect.isfunction(vars(Later)["__init__"])
    Later(1)
    written = vars(Later)["__init__"]
    assert inspect.isfunction(written)
    Later(2)
    assert vars(Later)["__init__"] is written


def test_threads_may_make_the_first_ones_together() -> None:
    for _ in range(20):

        @frozen
        class Shared:
            """Many make it."""

            x: int

        made: list[Any] = []
        start = threading.Barrier(4)

        def make(kind: Any = Shared, made: list[Any] = made, start: Any = start) -> None:
            start.wait()
            made.append(kind(1))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [Shared(1)] * 4


def test_no_attribute_of_a_subclass_can_be_assigned_either() -> None:
    class Bare(Point):
        """The standard one would let it have others."""

    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'new'"):
        Bare(1).new = 2  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del Bare(1).x


def test_a_standard_frozen_one_cannot_inherit_from_it() -> None:
    with pytest.raises(TypeError, match="cannot inherit frozen dataclass from a non-frozen one"):

        @dataclass(frozen=True)
        class _Below(Point):  # type: ignore[misc]
            z: int = 0


REFUSED = {
    "a default before none": ({"x": "int", "y": "int"}, {"x": 1}, "Thing.y follows x, a default"),
    "no argument": ({"x": "int"}, {"x": field(init=False)}, "Thing.x has a setting"),
    "by name only": ({"x": "int"}, {"x": field(kw_only=True)}, "Thing.x has a setting"),
    "a hash apart": ({"x": "int"}, {"x": field(hash=False)}, "Thing.x has a setting"),
    "own assignment": ({}, {"__setattr__": object.__setattr__}, "Thing has __setattr__ itself"),
    "own deletion": ({}, {"__delattr__": object.__delattr__}, "Thing has __delattr__ itself"),
    "a list as default": ({"x": "list"}, {"x": []}, "mutable default"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_make_is_refused_at_once(case: str) -> None:
    annotations, members, message = REFUSED[case]
    kind = type("Thing", (), {"__annotations__": annotations, "__doc__": "A.", **members})
    with pytest.raises((TypeError, ValueError), match=message):
        frozen(kind)
