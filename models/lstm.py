"""A model of characters: an embedding, LSTM layers, and a dense layer that says what comes next.

Graves: "Generating sequences with recurrent neural networks", 2013 (arXiv 1308.0850), section 3;
dropout between layers only as Zaremba, Sutskever, Vinyals: "Recurrent neural network
regularization", 2014 (arXiv 1409.2329).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symgraph as sg
from models.common.commandline import (
    ModelParser,
    build_text_parser,
    check_device,
    exit_with,
    positive_int,
)
from models.common.language import LanguageModel, Reader, States, evaluate, predict, train
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.nn import LSTM, Dense, Dropout, Embedding, Module

FEATURES = 64  # of a character
LIMITS = {"layers": 64, "hidden": 1 << 14, "steps": 1 << 16, "epochs": 1 << 30}


class CharacterModel(Reader):
    """Characters (T, B) as numbers -> logits (T, B, characters) of what follows each of them."""

    def __init__(
        self, characters: int, hidden: int = 256, layers: int = 1, *, dropout: float = 0.1
    ) -> None:
        self.characters, self.hidden = characters, hidden
        self.embedding = Embedding(characters, FEATURES)
        self.lstm = LSTM(FEATURES, hidden, layers, dropout=dropout)
        self.drop = Dropout(dropout)
        self.head = Dense(hidden, characters)

    def state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Outputs and memories of all layers."""
        return [(len(self.lstm.layers), batch, self.hidden)] * 2

    def read(self, x: Value, states: States, *, train: bool = False) -> tuple[Value, States]:
        """Numbers (T, B) -> logits (T, B, characters), and the states after them."""
        outputs, after = self.lstm(self.embedding(x), states, train=train)
        return self.head(self.drop(outputs, train=train, rows=1)), after

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Numbers (T, B) -> logits (T, B, characters), with nothing read before."""
        zeros = tuple(sg.zeros(shape) for shape in self.state_shapes(x.shape[1]))
        return self.read(x, zeros, train=train)[0]


def optimizer(net: Module, lr: float) -> sg.optim.Adam:
    """Adam, with gradients of a norm of at most 1: through many steps they may explode."""
    return sg.optim.Adam(net.parameters(), lr, clip_norm=1.0)


def model(layers: int = 1, hidden: int = 256, steps: int = 64, epochs: int = 10) -> LanguageModel:
    """One of the family; the rate falls along a cosine that ends after `epochs`."""
    given = {"layers": layers, "hidden": hidden, "steps": steps, "epochs": epochs}
    for name, value in given.items():
        if not 1 <= value <= LIMITS[name]:
            raise ArgumentError(f"lstm: {name} must lie in 1 .. {LIMITS[name]}, got {value}.")
    return LanguageModel(
        name="lstm",
        steps=steps,
        build=lambda characters: CharacterModel(characters, hidden, layers),
        optimizer=optimizer,
        schedule=lambda lr: sg.optim.Cosine(lr, epochs),
        settings=given,
        variant=model,
    )


MODEL = model()

NOTES = """\
without --data the text is the documentation of the language that ships with Python, without
repeated paragraphs: for 3.11 these are 373,215 characters. its last tenth is for validation.
the rate falls to zero over --epochs: another number of them is another course from the beginning.
with --workers each process reads some of the places of --batch, and keeps their states.
"""


def make_parser() -> ModelParser:
    """Make the command line."""
    parser = build_text_parser("lstm", "Train a model of characters with LSTM layers.", NOTES)
    add = parser.add_model_argument
    add("--layers", type=positive_int, default=1, metavar="N", help="LSTM layers")
    add("--hidden", type=positive_int, default=256, metavar="N", help="units of each layer")
    add(
        "--steps", type=positive_int, default=64, metavar="N",
        help="characters of a window, through which gradients go back",
    )  # fmt: skip
    parser.train.set_defaults(epochs=10, batch=32, learning_rate=0.004)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    chosen = make_parser().parse_args(arguments)
    check_device(chosen.device)
    command = {"train": train, "evaluate": evaluate, "predict": predict}[chosen.command]
    return command(MODEL, chosen)


if __name__ == "__main__":
    exit_with(main)
