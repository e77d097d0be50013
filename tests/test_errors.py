"""Every error has the root, a builtin, the one form, and survives a trip between processes."""

from __future__ import annotations

import builtins
import copy
import inspect
import pickle

import pytest

from symgraph import errors
from symgraph.errors import SymgraphError

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == "symgraph.errors"
]
BUILTINS = {kind for kind in vars(builtins).values() if inspect.isclass(kind)}


def test_all_classes_are_found() -> None:
    assert len(CLASSES) >= 20
    assert SymgraphError in CLASSES


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
class TestEveryError:
    def test_it_has_the_root_and_a_matching_builtin(self, kind: type[SymgraphError]) -> None:
        assert issubclass(kind, SymgraphError)
        assert kind.__doc__
        expected = set(kind.__mro__) & (BUILTINS - {Exception, BaseException, object})
        assert expected or kind is SymgraphError

    def test_it_survives_pickle_and_copy(self, kind: type[SymgraphError]) -> None:
        error = kind("matmul: no", details=["h : float32[B, 4]", "V : float32[3, 2]"], fix="V")
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(other) is kind
            assert (other.message, other.details, other.fix) == (
                error.message,
                error.details,
                error.fix,
            )
            assert str(other) == str(error)

    def test_it_renders_in_the_one_form(self, kind: type[SymgraphError]) -> None:
        assert str(kind("op: it must hold.")) == "op: it must hold."
        full = kind("op: it must hold.", details=["a : int32", "b : int8"], fix="cast b")
        assert str(full).splitlines() == [
            "op: it must hold.",
            "  a : int32",
            "  b : int8",
            "  fix: cast b",
        ]

    def test_it_is_caught_as_its_builtins(self, kind: type[SymgraphError]) -> None:
        for base in kind.__mro__[1:-1]:
            with pytest.raises(base):
                raise kind("x")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.DTypeError, TypeError),
        (errors.UndecidedError, TypeError),
        (errors.UnknownNameError, AttributeError),
        (errors.UnknownSettingError, errors.ConfigError),
        (errors.DeviceError, RuntimeError),
        (errors.DataMissingError, FileNotFoundError),
        (errors.CheckpointMissingError, errors.CheckpointError),
    ],
)
def test_the_builtin_is_the_one_a_numpy_user_expects(
    kind: type[SymgraphError], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)


def test_details_are_kept_as_a_tuple() -> None:
    lines = ["a"]
    error = SymgraphError("m", details=lines)
    lines.append("b")
    assert error.details == ("a",)


def test_an_error_names_no_cause_by_itself() -> None:
    error = errors.DataMissingError("no file")
    assert error.__cause__ is None
    assert error.errno is None
