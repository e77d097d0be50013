"""The settings of symgraph: few, typed, and each able to say where its value came from.

An argument of a function wins over `with config(...)`, that over `config.set(...)`, that over the
environment (`SYMGRAPH_VERIFY=1`), that over the default. A setting is added when a file reads it,
and there are never more than `MOST_SETTINGS`.
"""

from __future__ import annotations

import difflib
import operator
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, overload

from symgraph.errors import ConfigError, UnknownSettingError

T = TypeVar("T")

MOST_SETTINGS = 15
PREFIX = "SYMGRAPH_"
BY_DEFAULT = "default"
BY_PROCESS = "config.set()"
BY_CONTEXT = "with config()"

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class Setting(Generic[T]):
    """One typed setting: its default, what it means, and how a value is checked.

    `check` takes a Python value, or the text of an environment variable if `text` is true. It
    gives the value to keep and raises `ValueError` with what a value must be.
    """

    __slots__ = ("check", "default", "meaning", "name")

    def __init__(self, default: T, meaning: str, check: Callable[[object, bool], T]) -> None:
        self.name = ""
        self.default = default
        self.meaning = meaning
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        _SETTINGS[name] = self

    @overload
    def __get__(self, config: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, config: Config, owner: type) -> T: ...

    def __get__(self, config: Config | None, owner: type) -> Setting[T] | T:
        if config is None:
            return self
        overrides = _OVERRIDES.get()
        value: T = overrides[self.name] if self.name in overrides else _PROCESS[self.name]
        return value

    @property
    def variable(self) -> str:
        """The environment variable that sets it, as `SYMGRAPH_VERIFY`."""
        return PREFIX + self.name.upper()

    def checked(self, value: object, source: str, text: bool = False) -> T:
        """Give `value` as it will be kept; raises `ConfigError` naming `source`."""
        try:
            return self.check(value, text)
        except ValueError as error:
            raise ConfigError(
                f"config: `{self.name}` must be {error}: got {value!r} from {source}.",
                fix=f"{self.name} is {self.meaning}",
            ) from None


class _Process(dict[str, Any]):
    """Values of the whole process; the first read of any setting reads the environment.

    Not at import: a misspelt variable is then an error that a program can catch and show.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self.changes = 0
        self.lock = threading.RLock()

    def __missing__(self, name: str) -> Any:
        self.load()
        return self[name]

    def load(self) -> None:
        """Read defaults and environment unless that has been done."""
        with self.lock:
            if not self:
                values, sources = _from_environment(os.environ)
                self.sources.update(sources)
                self.update(values)


_SETTINGS: dict[str, Setting[Any]] = {}
_PROCESS = _Process()
_OVERRIDES: ContextVar[Mapping[str, Any]] = ContextVar("symgraph.config", default={})  # noqa: B039


def _flag(value: object, text: bool) -> bool:
    if text and str(value).lower() in _TRUE + _FALSE:
        return str(value).lower() in _TRUE
    if isinstance(value, bool):
        return value
    raise ValueError(f"one of {', '.join(_TRUE + _FALSE)} (any case)" if text else "True or False")


def _one_of(*names: str) -> Callable[[object, bool], str]:
    def check(value: object, text: bool) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise ValueError(f"one of {', '.join(names)}")

    return check


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _whole(value: object, text: bool, wanted: str) -> int | None:
    """Give None or an integer; raises `ValueError` with what is wanted."""
    if value is None or (text and str(value).lower() == "none"):
        return None
    if isinstance(value, bool):
        raise ValueError(wanted)
    try:
        return int(str(value)) if text else operator.index(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise ValueError(wanted) from None


def _seed(value: object, text: bool) -> int | None:
    wanted = "None or an integer from 0 to 2**64 - 1"
    number = _whole(value, text, wanted)
    if number is not None and not 0 <= number < 2**64:
        raise ValueError(wanted)
    return number


def _threads(value: object, text: bool) -> int | None:
    cores = usable_cores()
    wanted = f"None or an integer from 1 to {cores}, the cores that this process may use"
    number = _whole(value, text, wanted)
    if number is not None and not 1 <= number <= cores:
        raise ValueError(wanted)
    return number


_BYTES = {"": 1, "B": 1}
_BYTES.update((prefix.upper() + "B", 1000**power) for power, prefix in enumerate("kMGTP", 1))
_BYTES.update((prefix.upper() + "IB", 1024**power) for power, prefix in enumerate("kMGTP", 1))


def parse_bytes(value: object) -> int:
    """Give a number of bytes from an int or from a text; GB is 1e9 of them, GiB is 2**30.

    Raises `ValueError` with what a value must be.

    >>> parse_bytes("80 GB"), parse_bytes("1.5 KiB"), parse_bytes(12)
    (80000000000, 1536, 12)
    """
    wanted = 'bytes as an integer >= 0 or a text such as "8 GB" or "512 MiB"'
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,99})(?:\.(\d{1,99}))?\s*([A-Za-z]*)\s*", value, re.ASCII)
        factor = _BYTES.get(found[3].upper()) if found else None
        if found is None or factor is None:
            raise ValueError(wanted)
        digits = found[2] or ""
        amount: int = int(found[1] + digits) * factor // 10 ** len(digits)
        return amount
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(wanted)
    number: int = operator.index(value)
    if number < 0:
        raise ValueError(wanted)
    return number


def _memory(value: object, text: bool) -> int | None:
    if value is None or (text and str(value).lower() == "none"):
        return None
    try:
        return parse_bytes(value)
    except ValueError as problem:
        raise ValueError(f"None or {problem}") from None


def _path(word: str, wanted: str) -> Callable[[object, bool], str]:
    """A path, the empty text, or a word that is no path, in any case."""

    def check(value: object, text: bool) -> str:
        path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if not isinstance(path, str) or "\0" in path:
            raise ValueError(wanted)
        return word if path.lower() == word else path

    return check


class Config:
    """All settings, read as attributes: `config.verify`. There is one instance, `config`.

    >>> with config(float_dtype="float64"):
    ...     config.float_dtype
    'float64'
    """

    __slots__ = ()

    float_dtype = Setting(
        "float32",
        "the dtype of a tensor, or of a Python float that meets no other float",
        _one_of("float32", "float64", "float16", "bfloat16"),
    )
    verify = Setting(False, "whether a graph is verified after every pass", _flag)
    rewrites = Setting(
        "real",
        "how sound a rule must be that rewrites a graph: none, exact, real (and exact), fast (all)",
        _one_of("none", "exact", "real", "fast"),
    )
    origins = Setting(True, "whether nodes remember the user's source lines", _flag)
    memory_limit = Setting[int | None](
        None, "the bytes that a function may need; None: the machine's memory", _memory
    )
    backend = Setting(
        "auto",
        "what functions run on; auto: cpu, compiled, where llvmlite is installed, else reference",
        _one_of("auto", "cpu", "cuda", "reference"),
    )
    precision = Setting(
        "fp32",
        "how products of float32 are computed; bf16, fp16: from operands rounded to a half"
        " precision; tf32: from operands rounded to 11 bits, by CUDA devices",
        _one_of("fp32", "tf32", "bf16", "fp16"),
    )
    threads = Setting[int | None](
        None,
        "how many threads a compiled function and oneDNN use; None: one for each usable core",
        _threads,
    )
    capture = Setting(
        True,
        "whether a step on a CUDA device is recorded as a CUDA graph and launched as one",
        _flag,
    )
    seed = Setting[int | None](None, "the seed of all randomness; None draws a fresh one", _seed)
    onednn = Setting(
        "",
        "the path of oneDNN's libdnnl.so.3; none: do without it; empty: search for it",
        _path("none", 'the path of a file, "none", or "" to search for it'),
    )
    cache = Setting(
        "",
        "the folder of compiled code; off: keep none; empty: the user's cache folder",
        _path("off", 'the path of a folder, "off", or "" for the user\'s cache folder'),
    )

    def __call__(self, **settings: object) -> AbstractContextManager[None]:
        """Give a context in which `settings` hold, for this thread or asynchronous task alone.

        Values are checked here, before the block is entered. Raises `ConfigError`.
        """
        return _override(_checked(settings, BY_CONTEXT))

    def set(self, **settings: object) -> None:
        """Set values for the whole process; nothing is changed if one of them is wrong.

        A process that is spawned later starts from its environment, not from these.
        Raises `ConfigError`.
        """
        values = _checked(settings, BY_PROCESS)
        with _PROCESS.lock:
            _PROCESS.load()
            _PROCESS.changes += 1
            _PROCESS.update(values)
            _PROCESS.sources.update(dict.fromkeys(values, BY_PROCESS))

    def reset(self) -> None:
        """Forget every `config.set` and read the environment again at the next use."""
        with _PROCESS.lock:
            _PROCESS.changes += 1
            _PROCESS.clear()
            _PROCESS.sources.clear()

    def pick(self, name: str, argument: object = None) -> Any:
        """Give `argument`, checked, or the setting if the argument is None: the first wins.

        Raises `ConfigError`.

        >>> config.pick("verify", True)
        True
        """
        setting = _find(name)
        if argument is None:
            return getattr(self, name)
        return setting.checked(argument, "an argument")

    def values(self) -> dict[str, Any]:
        """Give the values that hold here and now, as `config.set` takes them."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def stamp(self) -> object:
        """Give what equals a later answer only if no setting has changed here in between.

        >>> before = config.stamp()
        >>> with config(verify=True):
        ...     config.stamp() == before
        False
        """
        return _PROCESS.changes, _OVERRIDES.get()

    def where(self, name: str) -> str:
        """Tell where a value came from: a context, `config.set()`, a variable or the default.

        Raises `ConfigError` if there is no such setting.

        >>> with config(verify=True):
        ...     config.where("verify")
        'with config()'
        """
        _find(name)
        if name in _OVERRIDES.get():
            return BY_CONTEXT
        _PROCESS.load()
        return _PROCESS.sources[name]

    def __getattr__(self, name: str) -> Any:
        raise _unknown(f"config: there is no setting `{name}`.", name)

    def __setattr__(self, name: str, value: object) -> None:
        _find(name)
        raise ConfigError(
            f"config: `{name}` is not assigned, so that every change has an end or a name.",
            fix=f"config.set({name}={value!r}) for the process, or `with config(...)` for a block",
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_SETTINGS})

    def __repr__(self) -> str:
        header = ("setting", "value", "from", "is")
        rows = [header] + [
            (name, repr(getattr(self, name)), self.where(name), setting.meaning)
            for name, setting in _SETTINGS.items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]])
            for row in rows
        )


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    settings = {setting.variable: setting for setting in _SETTINGS.values()}
    values = {name: setting.default for name, setting in _SETTINGS.items()}
    sources = dict.fromkeys(values, BY_DEFAULT)
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        if variable not in settings:
            # Not an UnknownSettingError: as an AttributeError it would be lost while an attribute
            # is being read, which is when the environment is first looked at.
            raise ConfigError(
                f"environment: the variable {variable} names no setting.",
                details=["there are: " + ", ".join(settings)],
                fix=_near(variable.upper(), list(settings)),
            )
        setting = settings[variable]
        values[setting.name] = setting.checked(environment[variable], variable, text=True)
        sources[setting.name] = variable
    return values, sources


def _checked(settings: Mapping[str, object], source: str) -> dict[str, Any]:
    return {name: _find(name).checked(value, source) for name, value in settings.items()}


def _find(name: str) -> Setting[Any]:
    if not isinstance(name, str):
        raise ConfigError(
            f"config: the name of a setting is a string, got {type(name).__name__}.",
            fix=f"there are: {', '.join(_SETTINGS)}",
        )
    if name not in _SETTINGS:
        raise _unknown(f"config: there is no setting `{name}`.", name)
    return _SETTINGS[name]


def _unknown(message: str, name: str) -> UnknownSettingError:
    return UnknownSettingError(
        message, details=["there are: " + ", ".join(_SETTINGS)], fix=_near(name, list(_SETTINGS))
    )


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else ""


@contextmanager
def _override(values: Mapping[str, Any]) -> Iterator[None]:
    token = _OVERRIDES.set({**_OVERRIDES.get(), **values})
    try:
        yield
    finally:
        _OVERRIDES.reset(token)


config = Config()
