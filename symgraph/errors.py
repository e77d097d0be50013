"""Every exception that symgraph raises on purpose.

All derive from `SymgraphError` and from the builtin a NumPy user would expect. A message says what
was done and what must hold; then one line per value involved, with its type and the user's source
line; then a fix::

    ShapeError: matmul: last dim of `h` must equal first dim of `V`: 4 != 3 for every B.
      h : float32[B, 4]   made at train.py:12   h = x @ W
      V : float32[3, 2]   made at train.py:13   V = shared(...)
      fix: V needs shape (4, 2)
"""

from __future__ import annotations

from collections.abc import Sequence


class SymgraphError(Exception):
    """The root of all errors of this library.

    `message` is the sentence, `details` the lines about the values involved, `fix` the remedy.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.message, *(f"  {line}" for line in self.details)]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.details, self.fix)


def _rebuild(
    kind: type[SymgraphError], message: str, details: tuple[str, ...], fix: str
) -> SymgraphError:
    return kind(message, details=details, fix=fix)


class DimError(SymgraphError, ValueError):
    """A size is impossible, or the arithmetic of sizes was misused."""


class UndecidedError(DimError, TypeError):
    """A question about symbolic sizes has no answer that holds for all of them."""


class ShapeError(SymgraphError, ValueError):
    """Shapes do not fit, for every value of the sizes."""


class GuardError(ShapeError):
    """Shapes that were undecided while building do not fit the arrays now given."""


class DTypeError(SymgraphError, TypeError):
    """A dtype is unknown, or values of these dtypes cannot meet in this operation."""


class GraphError(SymgraphError, ValueError):
    """A graph is used in a way that has no meaning (unbound input, wrong update, cycle)."""


class GradError(SymgraphError, ValueError):
    """A gradient does not exist: the path is cut, or the value is not a float scalar."""


class ArgumentError(SymgraphError, ValueError):
    """An argument has a value that the function does not accept."""


class IndexRangeError(SymgraphError, IndexError):
    """An index is outside of the axis that it selects from."""


class ArgumentTypeError(SymgraphError, TypeError):
    """An argument has a Python type that the function does not accept."""


class InputError(SymgraphError, TypeError):
    """The arrays given to a compiled function are missing, surplus, or of the wrong type."""


class UnknownNameError(SymgraphError, AttributeError):
    """No operation, setting or member has this name."""


class ConfigError(SymgraphError, ValueError):
    """A setting has an impossible value."""


class UnknownSettingError(ConfigError, UnknownNameError):
    """No setting has this name."""


class MemoryLimitError(SymgraphError, MemoryError):
    """A function needs more memory than it may have, for the sizes now given."""


class NotFiniteError(SymgraphError, FloatingPointError):
    """A guarded function computed a NaN, or an infinity out of finite numbers."""


class PassError(SymgraphError, RuntimeError):
    """A pass or a rule broke an invariant of the graph."""


class LoweringError(SymgraphError, RuntimeError):
    """A loop nest breaks an invariant, or has no form in a backend's language: a bug of ours."""


class DeviceError(SymgraphError, RuntimeError):
    """A device or a library that was asked for is not there."""


class BackendError(SymgraphError, RuntimeError):
    """A library that a backend computes with is not usable, or refused what it was asked for."""


class WorkerError(SymgraphError, RuntimeError):
    """Workers of one training do not do the same, or do not reach each other."""


class PeerLostError(WorkerError):
    """Another worker of the same training is gone."""


class UnreachableError(WorkerError):
    """Workers cannot read or write each other's memory."""


class DataError(SymgraphError, ValueError):
    """A data set or one of its files is damaged, empty or not allowed."""


class DataMissingError(DataError, FileNotFoundError):
    """A path of a data set does not exist."""


class CheckpointError(SymgraphError, ValueError):
    """A checkpoint is damaged, cut short, from another model or from a newer version."""


class CheckpointMissingError(CheckpointError, FileNotFoundError):
    """There is no checkpoint at this path."""
