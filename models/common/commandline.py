"""The command line that all models share: train, evaluate, predict.

::

    def main(arguments: list[str] | None = None) -> int:
        parser = build_parser("alexnet", "AlexNet, as published in 2012.", EXAMPLES)
        parser.add_model_argument("--classes", type=positive_int, default=1000, help="...")
        parser.train.set_defaults(epochs=90, batch=128, learning_rate=0.01)
        chosen = parser.parse_args(arguments)
        ...

    if __name__ == "__main__":
        exit_with(main)
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from models.common.runs import LATEST
from models.common.workers import add_worker_flags
from symgraph.backends.cuda.status import status
from symgraph.errors import DeviceError, LoaderLostError, PeerLostError, SymgraphError
from symgraph.parallel.launch import DIED, LOST

COMMANDS = ("train", "evaluate", "predict")

_EXAMPLES = """\
examples:
  python models/{name}.py
      train on the images of digits that ship with scikit-learn
  python models/{name}.py --max-steps 3 --out /tmp/try
      three steps, to see that everything works
  python models/{name}.py --data prepared/flowers --epochs 30 --batch 64
      train on a data set of your own, prepared before
  python models/{name}.py --resume
      go on from the latest checkpoint under runs/, as if the run had never stopped
  python models/{name}.py --gpus 2
      two processes, one for each GPU, that average; two CPU workers where there is none
  python models/{name}.py evaluate --checkpoint runs/{name}-20250102-030405
      measure the accuracy of the latest checkpoint of that run
  python models/{name}.py predict cat.jpg dog.jpg --top 3
      the three most likely classes of each picture, by the newest run
"""


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help shows defaults and keeps line breaks."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", _Help)
        # An abbreviation that works today means something else once another flag exists.
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)

    def error(self, message: str) -> NoReturn:
        """Print one line to standard error and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class ModelParser(CommandParser):
    """The parser of one model; `train`, `evaluate`, `predict` are the parsers of its commands."""

    train: CommandParser
    evaluate: CommandParser
    predict: CommandParser
    model_group: argparse._ArgumentGroup
    commands: argparse._SubParsersAction[CommandParser]

    def add_command(self, name: str, description: str) -> CommandParser:
        """Add a command that this model has and others do not, with the flags of the machine."""
        command = self.commands.add_parser(name, description=description)
        _add_machine_flags(command)
        return command

    def add_model_argument(self, *names: str, **options: Any) -> None:
        """Add a flag about the model itself, under "model", to `train`.

        The other commands find it in the checkpoint: see `Classifier.settings`.
        """
        self.model_group.add_argument(*names, action=_Given, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; the command is `train` unless another one is named first."""
        words = list(sys.argv[1:] if args is None else args)
        if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
            words.insert(0, "train")
        chosen, rest = super().parse_known_args(words, namespace)
        chosen.words = words
        return chosen, rest

    def format_help(self) -> str:
        """The help of `train`, which is what a bare call runs; its usage shows the others."""
        return self.train.format_help()


_USAGE = """
  python models/{name}.py [train] [flags]           train; the flags are below
  python models/{name}.py evaluate [flags]          measure the accuracy of a checkpoint
  python models/{name}.py predict IMAGE... [flags]  name what pictures show
  python models/{name}.py COMMAND --help            the flags of one command"""


def build_parser(name: str, description: str, epilog: str = "") -> ModelParser:
    """The command line of the model `name`, whose file is ``models/<name>.py``.

    `epilog` is text for the end of the help, after the worked examples that all models share.
    A parsed line has `command` and one attribute per flag. Wrong values end the program with
    status 2 and one line that names the flag and what it accepts.

    >>> parser = build_parser("alexnet", "AlexNet.")
    >>> chosen = parser.parse_args(["--max-steps", "3"])
    >>> chosen.command, chosen.max_steps, chosen.batch, chosen.resume
    ('train', 3, 128, None)
    """
    examples = _EXAMPLES.format(name=name) + (f"\n{epilog.strip()}\n" if epilog.strip() else "")
    parser = ModelParser(prog=f"{name}.py")
    commands = parser.commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    parser.train = commands.add_parser(
        "train", usage=_USAGE.format(name=name), description=description, epilog=examples
    )
    parser.evaluate = commands.add_parser(
        "evaluate", description=f"Measure the accuracy of a checkpoint of {name}."
    )
    parser.predict = commands.add_parser(
        "predict", description=f"Name what pictures show, with a checkpoint of {name}."
    )
    for command in (parser.evaluate, parser.predict):
        _add_checkpoint_flags(command, name)
    for command in (parser.train, parser.evaluate):
        _add_data_flag(command)
    every = (parser.train, parser.evaluate, parser.predict)
    parser.model_group = parser.train.add_argument_group("model")
    _add_train_flags(parser.train, name)
    add_worker_flags(parser.train, positive_int, _Given)
    parser.predict.add_argument("images", nargs="+", metavar="IMAGE", help="a picture file")
    parser.predict.add_argument(
        "--top", type=positive_int, default=5, metavar="N", help="classes shown for each picture"
    )
    for command in every:
        _add_machine_flags(command)
    return parser


_TEXT_EXAMPLES = """\
examples:
  python models/{name}.py
      train on the documentation that ships with Python
  python models/{name}.py --max-steps 3 --out /tmp/try
      three steps, to see that everything works
  python models/{name}.py --data book.txt --epochs 20
      train on a text of your own
  python models/{name}.py --resume
      go on from the latest checkpoint under runs/, as if the run had never stopped
  python models/{name}.py evaluate --checkpoint runs/{name}-20250102-030405
      bits per character of the latest checkpoint of that run
  python models/{name}.py predict "The statement" --length 500 --temperature 0.6
      go on with a text, by the newest run
"""

_TEXT_USAGE = """
  python models/{name}.py [train] [flags]          train; the flags are below
  python models/{name}.py evaluate [flags]         measure bits per character of a checkpoint
  python models/{name}.py predict [TEXT] [flags]   go on with a text
  python models/{name}.py COMMAND --help           the flags of one command"""


def build_text_parser(name: str, description: str, epilog: str = "") -> ModelParser:
    """The command line of a model of texts, as `build_parser` is that of a classifier of images."""
    examples = _TEXT_EXAMPLES.format(name=name) + (
        f"\n{epilog.strip()}\n" if epilog.strip() else ""
    )
    parser = ModelParser(prog=f"{name}.py")
    commands = parser.commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    parser.train = commands.add_parser(
        "train", usage=_TEXT_USAGE.format(name=name), description=description, epilog=examples
    )
    parser.evaluate = commands.add_parser(
        "evaluate", description=f"Measure bits per character of a checkpoint of {name}."
    )
    parser.predict = commands.add_parser(
        "predict", description=f"Go on with a text, with a checkpoint of {name}."
    )
    for command in (parser.evaluate, parser.predict):
        _add_checkpoint_flag(command, name)
    for command in (parser.train, parser.evaluate):
        _add_data_flag(
            command, "python",
            "a text file (UTF-8), or 'python': the documentation that ships with Python; with a "
            "checkpoint, what it was trained on unless given",
        )  # fmt: skip
    parser.model_group = parser.train.add_argument_group("model")
    _add_train_flags(
        parser.train, name, "passes over the text", "places of the text that are read in one step",
        "of weights and dropout",
    )  # fmt: skip
    add_worker_flags(parser.train, positive_int, _Given, images=False)
    add = parser.predict.add_argument
    add("prompt", nargs="?", default="\n", metavar="TEXT", help="what to go on with")
    add("--length", type=positive_int, default=300, metavar="N", help="characters to write")
    add(
        "--temperature", type=positive_float, default=0.7, metavar="X",
        help="below 1 the likely becomes likelier, above 1 it becomes wilder",
    )  # fmt: skip
    add("--seed", type=seed, default=0, metavar="N", help="another one writes another text")
    for command in (parser.train, parser.evaluate, parser.predict):
        _add_machine_flags(command)
    return parser


def check_device(device: str) -> None:
    """Check that the device of `--device` can be used.

    Raises:
        DeviceError: CUDA was asked for, and CuPy or a GPU is missing; the text says which.
    """
    if device == "cpu":
        return
    found = status()
    if found.problem:
        raise DeviceError(
            f"--device cuda: {found.problem}.", fix=f"{found.fix}; or run with --device cpu"
        )


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Run `main` and exit with its status; errors of symgraph become text, without a traceback.

    Status 1 after a SymgraphError, `DIED` where a loader died, 130 after Ctrl-C, and `LOST`,
    without a word, in a worker that misses another one: whoever started them tells why. Any other
    exception keeps its traceback: it is a defect and not the user's mistake.
    """
    try:
        status = main()
    except PeerLostError:
        status = LOST
    except LoaderLostError as error:
        print(f"error: {error}", file=sys.stderr)
        status = DIED
    except SymgraphError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status = 130
    sys.exit(status)


def positive_int(text: str) -> int:
    """A whole number of at least 1, for `type=`."""
    return _whole(text, 1, None)


def seed(text: str) -> int:
    """A whole number from 0 to 2**63 - 1, for `type=`."""
    return _whole(text, 0, 2**63 - 1)


def positive_float(text: str) -> float:
    """A finite number above 0, for `type=`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" and "(default: False)" tell nobody anything.
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class _Given(argparse.Action):
    """Store a value and note in `given` that the user chose it: a resumed run keeps the rest."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = (*namespace.given, self.dest)


def _add_train_flags(
    parser: argparse.ArgumentParser,
    name: str,
    epochs: str = "passes over the images",
    batch: str = "images in one step",
    random: str = "of weights, order of images and dropout",
) -> None:
    training = parser.add_argument_group("training")
    add = training.add_argument
    # fmt: off
    settings: tuple[tuple[str, Callable[[str], float], float, str, str], ...] = (
        ("--epochs",        positive_int,   10,   "N", epochs),
        ("--batch",         positive_int,   128,  "N", batch),
        ("--learning-rate", positive_float, 0.01, "X", "rate at the start"),
        ("--seed",          seed,           0,    "N", random),
    )
    # fmt: on
    for flag, kind, start, metavar, text in settings:
        add(flag, action=_Given, type=kind, default=start, metavar=metavar, help=text)
    add("--max-steps", type=positive_int, metavar="N", help="stop after N steps, whatever --epochs")
    run = parser.add_argument_group("run folder")
    add = run.add_argument
    add("--out", metavar="DIR", help=f"where to write (default: runs/{name}-<date>-<time>)")
    add(
        "--resume",
        nargs="?",
        const=LATEST,
        metavar="PATH",
        help="go on from a checkpoint: a file, the folder of a run, or, without a PATH or with "
        f"'{LATEST}', the latest one in --out or under runs/; settings not given are kept",
    )
    add(
        "--checkpoint-every",
        type=positive_int,
        default=1000,
        metavar="N",
        help="steps between two checkpoints; there is one at the end too",
    )


_IMAGES = (
    "a prepared data set, CIFAR or MNIST as published (a folder or a .tar.gz of binary files), or "
    "'digits': images that ship with scikit-learn; with a checkpoint, what it was trained on "
    "unless given"
)


def _add_data_flag(
    parser: argparse.ArgumentParser, default: str = "digits", text: str = _IMAGES
) -> None:
    parser.set_defaults(given=())
    parser.add_argument_group("data").add_argument(
        "--data", action=_Given, default=default, metavar="PATH", help=text
    )


def _add_checkpoint_flag(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--checkpoint",
        default=LATEST,
        metavar="PATH",
        help=f"a file, the folder of a run, or '{LATEST}': the latest one in runs/{name}-*",
    )


def _add_checkpoint_flags(parser: argparse.ArgumentParser, name: str) -> None:
    _add_checkpoint_flag(parser, name)
    parser.add_argument(
        "--batch", type=positive_int, default=128, metavar="N", help="images at a time"
    )


def _add_machine_flags(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to compute"
    )
    machine.add_argument("--quiet", action="store_true", help="print results and errors only")


def _whole(text: str, low: int, high: int | None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        upper = "" if high is None else f" and at most {high}"
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {low}{upper}, not {text!r}"
        )
    return value
