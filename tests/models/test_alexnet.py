"""AlexNet as published (arXiv 1412.2302): sizes, constants, initial weights, update rule."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from models import alexnet
from models.alexnet import AlexNet
from models.common.classifier import inputs, train_step
from models.common.commandline import exit_with
from symgraph.graph.graph import Graph
from symgraph.nn import Conv2d, Dense, Dropout, LocalResponseNorm, MaxPool2d

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def net() -> AlexNet:
    """Return the net for 1,000 classes."""
    sg.seed(0)
    return AlexNet(1000)


#          name            weight              std    bias
PUBLISHED = [
    ("features.0", (96, 3, 11, 11), 0.01, 0.0),
    ("features.4", (256, 48, 5, 5), 0.01, 0.1),
    ("features.8", (384, 256, 3, 3), 0.01, 0.0),
    ("features.10", (384, 192, 3, 3), 0.01, 0.1),
    ("features.12", (256, 192, 3, 3), 0.01, 0.0),
    ("classifier.1", (9216, 4096), 0.005, 0.1),
    ("classifier.4", (4096, 4096), 0.005, 0.1),
    ("classifier.7", (4096, 1000), 0.01, 0.0),
]


def test_number_of_parameters(net: AlexNet) -> None:
    assert net.count() == 60_965_224
    names = [f"{name}.{kind}" for name, *_ in PUBLISHED for kind in ("weight", "bias")]
    assert [name for name, _ in net.named_parameters()] == names
    assert list(net.named_state()) == names


@pytest.mark.parametrize(("name", "shape", "std", "bias"), PUBLISHED)
def test_initial_weights(
    net: AlexNet, name: str, shape: tuple[int, ...], std: float, bias: float
) -> None:
    state = net.named_state()
    weight, offset = state[f"{name}.weight"].storage.array, state[f"{name}.bias"].storage.array
    assert weight.shape == shape
    assert weight.dtype == offset.dtype == np.float32
    # enough of the largest ones, all of the others
    flat = weight.reshape(-1)[:1_000_000].astype(float)
    assert flat.std() == pytest.approx(std, rel=5 / np.sqrt(2 * flat.size))
    assert abs(flat.mean()) < 5 * std / np.sqrt(flat.size)
    assert np.abs(flat).max() > 3.5 * std  # not cut off, as a truncated normal would be
    assert (offset == np.float32(bias)).all()
    outputs = shape[0] if len(shape) == 4 else shape[1]
    assert offset.shape == (outputs,)


def test_shapes_of_every_layer_with_a_symbolic_batch(net: AlexNet) -> None:
    images, _ = inputs(alexnet.SIDE)
    batch = images.shape[0]
    sizes = []
    value = images
    for layer in (*net.features.layers, *net.classifier.layers):
        value = layer(value, train=True)
        if isinstance(layer, Conv2d | MaxPool2d | Dense):
            sizes.append(tuple(value.shape))
    conv = [(96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13), (384, 13, 13)]
    conv += [(384, 13, 13), (256, 13, 13), (256, 6, 6)]
    assert sizes == [(batch, *size) for size in (*conv, (4096,), (4096,), (1000,))]


def test_constants_of_the_layers(net: AlexNet) -> None:
    layers = net.features.layers
    convs = [layer for layer in layers if isinstance(layer, Conv2d)]
    assert [conv.groups for conv in convs] == [1, 2, 1, 2, 2]
    assert [conv.stride for conv in convs] == [4, 1, 1, 1, 1]
    assert [conv.padding for conv in convs] == [0, 2, 1, 1, 1]
    norms = [layer for layer in layers if isinstance(layer, LocalResponseNorm)]
    published = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "form": "pylearn2"}
    assert [norm.options for norm in norms] == [published] * 2
    pools = [layer for layer in layers if isinstance(layer, MaxPool2d)]
    assert [(pool.kernel, pool.stride) for pool in pools] == [(3, 2)] * 3
    order = [type(layer).__name__ for layer in layers[:8]]
    assert order == ["Conv2d", "Activation", "MaxPool2d", "LocalResponseNorm"] * 2
    drops = [layer for layer in net.classifier.layers if isinstance(layer, Dropout)]
    assert [(drop.rate, drop.inverted) for drop in drops] == [(0.5, False)] * 2


def test_dropout_is_not_inverted(net: AlexNet) -> None:
    """Training keeps survivors as they are; otherwise everything is halved."""
    hidden = sg.tensor("hidden", (sg.dim("B"), 4096))
    ones = np.ones((2, 4096), np.float32)
    drop = net.classifier[3]
    assert (drop(hidden).eval({hidden: ones}) == 0.5).all()
    assert set(np.unique(drop(hidden, train=True).eval({hidden: ones}))) == {0.0, 1.0}


def test_update_rule(net: AlexNet) -> None:
    optimizer = alexnet.optimizer(net, 0.01)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, False)
    weights, biases = optimizer.groups
    assert (weights.rate, weights.decay) == (1.0, 5e-4)
    assert (biases.rate, biases.decay) == (2.0, 0.0)
    assert [v.ndim > 1 for v in weights.parameters] == [True] * 8
    assert [v.ndim for v in biases.parameters] == [1] * 8
    state = optimizer.state(net.named_state())
    slots = {f"{name}.velocity" for name in net.named_state()}
    assert set(state) == slots | {"lr"}
    assert sum(v.storage.array.size for n, v in state.items() if n != "lr") == net.count()


def test_update_rule_in_numbers() -> None:
    """Two steps on a weight and a bias with given gradients, as the paper writes them."""
    small = sg.nn.Dense(1, 1, weight=sg.nn.init.constant(2.0), bias=sg.nn.init.constant(3.0))
    optimizer = alexnet.optimizer(small, 0.01)
    gradients = [sg.constant(np.full(s, 5, np.float32)) for s in ((1, 1), (1,))]
    step = sg.function([], None, updates=optimizer.updates(small.weight.sum(), gradients))
    w, b, v_w, v_b = 2.0, 3.0, 0.0, 0.0
    for _ in range(2):
        step()
        v_w = 0.9 * v_w - 0.01 * (5 + 5e-4 * w)
        v_b = 0.9 * v_b - 2 * 0.01 * 5
        w, b = w + v_w, b + v_b
        assert small.weight.value.item() == pytest.approx(w, rel=1e-6)
        assert small.bias is not None
        assert small.bias.value.item() == pytest.approx(b, rel=1e-6)


def test_schedule() -> None:
    schedule = alexnet.schedule(0.01)
    found = [schedule(epoch) for epoch in (0, 24, 25, 44, 45, 64)]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


@pytest.fixture(scope="module")
def train() -> sg.Function:
    """Return the compiled training step of a net with ten classes."""
    sg.seed(0)
    net = AlexNet(10)
    return train_step(net, alexnet.optimizer(net, 0.01), alexnet.SIDE)


def test_nothing_is_left_to_check_at_run_time(train: sg.Function) -> None:
    assert train.graph.guards() == ()
    assert train.built.guards() == ()


def test_what_a_step_updates(train: sg.Function) -> None:
    updated = [shared.label for shared in train.graph.updates]
    assert len(updated) == 16 * 2 + 1  # weights, velocities, random state
    assert updated.count("random_state") == 1
    assert sum("velocity" in str(label) for label in updated) == 16


def test_the_graph_can_be_shown(train: sg.Function) -> None:
    text = sg.show(train)
    assert text.splitlines()[0].startswith("train step(images: float32[B, 3, 227, 227], labels")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "conv2d" in text or "conv(" in text
    assert text.count("  update ") == 33
    assert "alexnet.py" in text
    assert "conv" in sg.debugprint(train)
    train.graph.verify()


def test_evaluation_uses_no_random_numbers(net: AlexNet) -> None:
    images, _ = inputs(alexnet.SIDE)
    graph = Graph([images], [net(images)], {})
    names = {type(node.op).__name__ for node in graph.values}
    assert not {name for name in names if name.startswith("Random")}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "models" / "alexnet.py"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_the_program_from_any_folder(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "Train AlexNet, as published for Theano in 2014", "--resume [PATH]", "(default: 4)",
        "python models/alexnet.py predict cat.jpg", "--batch 256 --epochs 65",
    ):  # fmt: skip
        assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    done = run("--gpus", "2", "--batch", "1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --batch 1 is less than one for each of 2 processes")
    done = run("--resume", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no folder runs/alexnet-*")
    assert not list(tmp_path.iterdir())


def test_help_of_the_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "predict"):
        with pytest.raises(SystemExit, match="0"):
            alexnet.main([command, "--help"])
        assert "--checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--gpus two", 2, "--gpus: must be a whole number of at least 1, not 'two'"),
        ("--epoch 2", 2, "unrecognized arguments: --epoch"),
        ("--batch 0", 2, "--batch: must be a whole number of at least 1, not '0'"),
        ("--learning-rate nan", 2, "--learning-rate: must be a number above 0"),
        ("fly", 2, "invalid choice: 'fly'"),
        ("predict", 2, "required: IMAGE"),
        ("--data nowhere", 1, "nowhere"),
        ("--data nowhere --resume", 1, "no folder runs/alexnet-*"),
        ("evaluate", 1, "no folder runs/alexnet-*"),
        ("predict cat.jpg", 1, "no folder runs/alexnet-*"),
        ("--device cuda", 1, "--device cuda"),
    ],
)
def test_wrong_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: str, code: int, text: str,
) -> None:  # fmt: skip
    if arguments == "--device cuda" and importlib.util.find_spec("cupy"):
        pytest.skip("there may be a GPU")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        exit_with(lambda: alexnet.main(arguments.split()))
    assert stopped.value.code == code
    told = capsys.readouterr()
    assert text in told.err
    assert told.out == ""
    assert not list(tmp_path.iterdir())
    if code == 2:
        assert len(told.err.splitlines()) == 1


@pytest.mark.full
def test_train_stop_resume_evaluate_predict(tmp_path: Path) -> None:
    """The headline command in earnest: two steps, Ctrl-C, resume, evaluate, predict."""
    image = pytest.importorskip("PIL.Image")
    program = [sys.executable, str(ROOT / "models" / "alexnet.py")]
    process = subprocess.Popen(
        [*program, "--batch", "4", "--out", "run", "--max-steps", "4"], cwd=tmp_path
    )
    lines = tmp_path / "run" / "metrics.jsonl"
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(200) == 130
    done = run("--resume", "run", "--max-steps", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines.read_bytes().count(b'"train"') == 3
    done = run("evaluate", "--checkpoint", "run", "--batch", "32", cwd=tmp_path)
    assert done.stdout.startswith("validation accuracy"), done.stderr
    image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "black.png")
    done = run("predict", "black.png", "--checkpoint", "run", "--top", "3", cwd=tmp_path)
    assert done.stdout.startswith("black.png: "), done.stderr
    assert done.stdout.count("%") == 3
