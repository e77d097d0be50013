"""Texts as numbers of characters, cut into windows that follow each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt

from models.common.cursor import Epochs
from symgraph.errors import ArgumentError, DataError, DataMissingError

Numbers = npt.NDArray[np.int32]

PYTHON = "python"
VALIDATION = 10  # one part in ten, the last one
MAX_BYTES = 1 << 30


@lru_cache(maxsize=1)
def python_text() -> str:
    """Give the documentation of the language that ships with Python, as `help("while")` shows it.

    The topics stand in the order of their names, and a paragraph that stands in several of them is
    kept once, so that nothing of the validation text was seen in training. Another version of
    Python has another text.
    """
    parts = (part.strip("\n") for name in sorted(topics) for part in topics[name].split("\n\n"))
    return "\n\n".join(dict.fromkeys(part for part in parts if part.strip()))


@dataclass(frozen=True)
class Text:
    """A text; its last tenth is for validation.

    `characters` are those that it has, in order; the number of one is its place there.
    """

    whole: str
    characters: str

    @cached_property
    def numbers(self) -> Numbers:
        """Give the number of each character.

        Raises `DataError` for a character that is not among `characters`.
        """
        return encoded(self.whole, self.characters)

    @property
    def train(self) -> Numbers:
        """Give the part to train on."""
        return self.numbers[: self._cut]

    @property
    def validation(self) -> Numbers:
        """Give the last tenth."""
        return self.numbers[self._cut :]

    @property
    def _cut(self) -> int:
        return len(self.whole) - len(self.whole) // VALIDATION

    @cached_property
    def digest(self) -> str:
        """Give a number that no other text has."""
        return hashlib.sha256(self.whole.encode()).hexdigest()


def encoded(text: str, characters: str) -> Numbers:
    """Give the place of each character of a text among `characters`.

    Raises `DataError` for one that is not there.
    """
    places = {character: place for place, character in enumerate(characters)}
    unknown = sorted(set(text) - set(places))
    if unknown:
        shown = ", ".join(f"{one!r}" for one in unknown[:5])
        raise DataError(
            f"the text has {len(unknown)} character{'s' * (len(unknown) > 1)} that the model does "
            f"not know: {shown}{', ...' if len(unknown) > 5 else ''}.",
            fix="leave them out, or train a model on a text that has them",
        )
    return np.fromiter((places[one] for one in text), np.int32, len(text))


def open_text(name: str, characters: str | None = None) -> Text:
    """Open a text file, or Python's documentation, with the `characters` of a model or its own.

    Raises `DataMissingError` where there is no such file, `DataError` where it is no text in UTF-8,
    larger than 1 GiB, or has characters that are not among those given.
    """
    whole = python_text() if name == PYTHON else _read(Path(name))
    found = Text(whole, "".join(sorted(set(whole))) if characters is None else characters)
    if len(found.numbers) < 2 * VALIDATION:
        raise DataError(f"{name}: a text of {len(whole)} characters is too short.")
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataMissingError(
            f"there is no text file {path}.", fix=f"--data {PYTHON} needs no file"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error.reason}.") from None


@dataclass(frozen=True, eq=False)
class Window:
    """Some characters in a row at several places: `inputs` and the `targets` one further, (T, B).

    `first` says that it does not follow another window.
    """

    inputs: Numbers
    targets: Numbers
    epoch: int
    first: bool


class Windows(Epochs[Window]):
    """Reads a text at `batch` places at once, `steps` characters in a window.

    The text is cut into `batch` parts of the same length, and window after window goes through all
    of them; what is left at the ends is not read.

    Raises `ArgumentError` where the text is too short for one window.
    """

    def __init__(self, numbers: Numbers, batch: int, steps: int) -> None:
        part = len(numbers) // batch
        count = max(part - 1, 0) // steps
        if not count:
            raise ArgumentError(
                f"a text of {len(numbers)} characters has no windows of {steps} characters at "
                f"{batch} places.",
                fix="a smaller --batch, fewer --steps or a longer text",
            )
        super().__init__(count, windows=count)
        self._parts = numbers[: part * batch].reshape(batch, part).T  # (place in the part, B)
        self.steps = steps

    def part(self, epoch: int, position: int) -> Window:
        """Give one window."""
        start = position * self.steps
        rows = self._parts[start : start + self.steps + 1]
        inputs, targets = np.ascontiguousarray(rows[:-1]), np.ascontiguousarray(rows[1:])
        return Window(inputs, targets, epoch, position == 0)
