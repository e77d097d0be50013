"""ResNet as published (arXiv 1512.03385): sizes, strides, weights, update rule, statistics."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import resnet
from models.common.classifier import inputs, measurement, open_data, train_step
from models.common.commandline import exit_with
from models.resnet import STAGES, Residual, ResNet, classifier
from symgraph.errors import ArgumentError, CheckpointError, SymgraphError
from symgraph.io import list_checkpoints, load_checkpoint
from symgraph.nn import BatchNorm, Conv2d, Dense, MaxPool2d

ROOT = Path(__file__).parent.parent.parent
DEPTHS = (18, 34, 50)


@cache
def made(depth: int, stem: str = "imagenet") -> ResNet:
    """Make a net for 1,000 classes once; no test changes it."""
    sg.seed(0)
    return ResNet(depth, stem=stem)


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "count", "variables"),
    [(18, 11_689_512, 62), (34, 21_797_672, 110), (50, 25_557_032, 161)],
)
def test_number_of_parameters(depth: int, count: int, variables: int) -> None:
    """As torchvision counts its resnet18, resnet34 and resnet50."""
    net = made(depth)
    assert net.count() == count
    assert len(net.named_parameters()) == variables
    norms = [module for _, module in net.named_modules() if isinstance(module, BatchNorm)]
    assert len(net.named_state()) == variables + 2 * len(norms)


@pytest.mark.parametrize("depth", DEPTHS)
def test_layers_with_weights(depth: int) -> None:
    """The depth counts convolutions and the dense layer, but not those of shortcuts."""
    modules = dict(made(depth).named_modules())
    layers = [name for name, module in modules.items() if isinstance(module, Conv2d | Dense)]
    assert len([name for name in layers if "shortcut" not in name]) == depth
    shortcuts = [name for name in modules if name.endswith("shortcut")]
    first = [] if depth < 50 else ["stages.0.0.shortcut"]
    assert shortcuts == [*first, *(f"stages.{stage}.0.shortcut" for stage in (1, 2, 3))]


def sizes(net: ResNet, side: int) -> list[tuple[int, ...]]:
    """Give the sizes after the stem and each stage, for a symbolic batch."""
    images, _ = inputs(side)
    value = net.stem(images, train=True)
    found = [value]
    for stage in net.stages:
        found.append(stage(found[-1], train=True))
    assert net.head(found[-1]).shape == (images.shape[0], 1000)
    assert all(each.shape[0] is images.shape[0] for each in found)
    return [tuple(map(int, each.shape[1:])) for each in found]


@pytest.mark.parametrize("depth", DEPTHS)
def test_sizes_of_the_stages(depth: int) -> None:
    """Table 1 of the paper."""
    wide = 4 if depth == 50 else 1
    stages = [(64 * wide, 56), (128 * wide, 28), (256 * wide, 14), (512 * wide, 7)]
    assert sizes(made(depth), 224) == [(c, side, side) for c, side in [(64, 56), *stages]]


def test_sizes_with_the_small_stem() -> None:
    expected = [(64, 28), (64, 28), (128, 14), (256, 7), (512, 4)]
    assert sizes(made(18, "small"), 28) == [(c, side, side) for c, side in expected]


def test_stems() -> None:
    conv, _, _, pool = made(18).stem.layers
    assert isinstance(conv, Conv2d)
    assert (conv.weight.shape, conv.stride, conv.padding) == ((64, 3, 7, 7), 2, 3)
    assert isinstance(pool, MaxPool2d)
    assert (pool.kernel, pool.stride, pool.padding) == (3, 2, 1)
    conv, _, _ = made(18, "small").stem.layers
    assert isinstance(conv, Conv2d)
    assert (conv.weight.shape, conv.stride, conv.padding) == ((64, 3, 3, 3), 1, 1)
    assert made(18, "small").filters is conv.weight


@pytest.mark.parametrize(
    ("depth", "kernels", "strides"),
    [(18, [3, 3], [2, 1]), (34, [3, 3], [2, 1]), (50, [1, 3, 1], [1, 2, 1])],
)
def test_where_the_strides_are(depth: int, kernels: list[int], strides: list[int]) -> None:
    """In a bottleneck the 3 x 3 halves the image: version 1.5."""
    net = made(depth)
    for number, stage in enumerate(net.stages):
        assert len(stage) == STAGES[depth][0][number]
        for place, block in enumerate(stage.layers):
            assert isinstance(block, Residual)
            convs = [layer for layer in block.branch.layers if isinstance(layer, Conv2d)]
            assert [conv.weight.shape[-1] for conv in convs] == kernels
            halves = number > 0 and place == 0
            assert [conv.stride for conv in convs] == (strides if halves else [1] * len(convs))
            if block.shortcut is not None:
                short = block.shortcut[0]
                assert isinstance(short, Conv2d)
                assert (short.stride, short.padding) == (2 if halves else 1, 0)


@pytest.mark.parametrize(("depth", "billions"), [(18, 1.81), (34, 3.66), (50, 4.09)])
def test_multiplications(depth: int, billions: float) -> None:
    """As torchvision's table of models says ("GFLOPS"); with the strides of v1 it would be 3.86."""
    B = sg.dim("B")
    found = sg.cost(made(depth)(sg.tensor("x", (B, 3, 224, 224))))
    products = [row.flops for row in found.nodes if row.node.op.name in ("conv", "matmul")]
    assert sum(products) // (2 * B) == pytest.approx(billions * 1e9, abs=0.005e9)


def test_initial_weights() -> None:
    state = {name: v.storage.array for name, v in made(50).named_state().items()}
    assert {array.dtype for array in state.values()} == {np.dtype("float32")}
    for name, array in state.items():
        kind = name.rsplit(".", 1)[1]
        if array.ndim == 4:  # He et al.: the variance of a layer's input stays
            std = np.sqrt(2 / np.prod(array.shape[1:]))
            assert array.std() == pytest.approx(std, rel=5 / np.sqrt(2 * array.size)), name
            assert abs(array.mean()) < 5 * std / np.sqrt(array.size)
        elif array.ndim == 1:
            assert (array == {"scale": 1, "var": 1, "shift": 0, "mean": 0, "bias": 0}[kind]).all()
    convs = [module for _, module in made(50).named_modules() if isinstance(module, Conv2d)]
    assert not any(conv.bias for conv in convs if conv.bias is not None)


def test_width_scales_every_stage() -> None:
    net = ResNet(50, 7, stem="small", width=6)
    assert net.filters.shape == (6, 3, 3, 3)
    assert net.head[1].weight.shape == (4 * 8 * 6, 7)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"depth": 20}, "ResNet: depth must be one of 18, 34, 50, got 20"),
        ({"stem": "tiny"}, "ResNet: stem must be one of imagenet, small, got 'tiny'"),
        ({"width": 0}, r"ResNet: width must lie in 1 \.\. 1024, got 0"),
        ({"width": 1 << 40}, r"ResNet: width must lie in 1 \.\. 1024"),
        ({"classes": 0}, "Dense: outputs must be >= 1, got 0"),
    ],
)
def test_wrong_networks(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        ResNet(**arguments)


def test_wrong_images() -> None:
    net = ResNet(18, 10, width=2)
    with pytest.raises(SymgraphError, match="1"):
        net(sg.tensor("grey", (sg.dim("B"), 1, 224, 224)))
    with pytest.raises(ArgumentError, match=r"ResNet: crop must lie in 1 \.\. 4096, got 0"):
        classifier(crop=0)


# -- training --------------------------------------------------------------------------------------


def test_update_rule() -> None:
    net = ResNet(18, 10, width=2)
    optimizer = resnet.optimizer(net, 0.1)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, False)
    (group,) = optimizer.groups
    assert (group.rate, group.decay, optimizer.weight_decay) == (1.0, None, 1e-4)
    assert list(group.parameters) == net.parameters()


def test_schedule() -> None:
    schedule = resnet.schedule(0.1)
    found = [schedule(epoch) for epoch in (0, 29, 30, 59, 60, 89)]
    assert found == pytest.approx([1e-1, 1e-1, 1e-2, 1e-2, 1e-3, 1e-3])


def narrow(depth: int = 18, crop: int = 12) -> tuple[ResNet, sg.Function]:
    """Make a narrow net and its training step."""
    sg.seed(3)
    net = ResNet(depth, 4, stem="small", width=4)
    return net, train_step(net, resnet.optimizer(net, 0.02), crop)


def some(rng: np.random.Generator, count: int = 8, crop: int = 12) -> tuple[np.ndarray, ...]:
    """Draw images and labels."""
    images = rng.normal(10, 60, (count, 3, crop, crop)).astype(np.float32)
    return images, rng.integers(0, 4, count).astype(np.int32)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_step_lowers_the_loss(depth: int, rng: np.random.Generator) -> None:
    _, train = narrow(depth)
    batch = some(rng)
    losses = [float(train(*batch)) for _ in range(15)]
    assert losses[1] < losses[0]
    assert losses[-1] < 0.5 * losses[0]


def test_what_a_step_updates() -> None:
    net, train = narrow()
    state = net.named_state()
    assert train.graph.guards() == train.built.guards() == ()
    updated = list(train.graph.updates)
    assert set(state.values()) < set(updated)  # running statistics too
    assert len(updated) == len(state) + len(net.parameters())  # and velocities
    train.graph.verify()


def test_the_graph_can_be_shown() -> None:
    function = resnet.MODEL.graph()
    text = sg.show(function)
    assert text.splitlines()[0].startswith("train step(images: float32[B, 3, 224, 224], labels")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("  update ") == 62 * 2 + 20 * 2
    assert "resnet.py" in text


def test_running_statistics_follow_the_batches(rng: np.random.Generator) -> None:
    net, train = narrow()
    conv, norm = net.stem[0], net.stem[1]
    assert isinstance(conv, Conv2d)
    assert isinstance(norm, BatchNorm)
    x = sg.tensor("x", (8, 3, 12, 12))
    mean, var = np.zeros(4), np.ones(4)
    for _ in range(3):
        images, labels = some(rng)
        seen = conv(x).eval({x: images}).astype(float).transpose(1, 0, 2, 3).reshape(4, -1)
        train(images, labels)
        mean = 0.9 * mean + 0.1 * seen.mean(axis=1)
        var = 0.9 * var + 0.1 * seen.var(axis=1, ddof=1)
        np.testing.assert_allclose(norm.mean.value, mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(norm.var.value, var, rtol=1e-5)


def test_evaluation_uses_running_statistics_and_leaves_them(rng: np.random.Generator) -> None:
    net, train = narrow()
    images, labels = some(rng)
    for _ in range(3):
        train(images, labels)
    before = {name: v.value.tobytes() for name, v in net.named_state().items()}
    x, _ = inputs(12)
    logits = sg.function([x], net(x))
    both = logits(images)
    # what else is in the batch does not matter, as it would with the batch's own statistics
    np.testing.assert_allclose(logits(images[:1]), both[:1], rtol=1e-4, atol=1e-5)
    measurement(net, 12)(images, labels)
    assert {name: v.value.tobytes() for name, v in net.named_state().items()} == before
    norm = net.stages[2][0].branch[1]  # type: ignore[union-attr, index]
    assert isinstance(norm, BatchNorm)
    norm.mean.value = norm.mean.value + 1
    assert np.abs(logits(images) - both).max() > 1e-3


# -- the program -----------------------------------------------------------------------------------

TINY = ("--depth", "18", "--stem", "small", "--width", "2", "--crop", "12", "--batch", "8")


def call(*arguments: Any) -> int:
    return resnet.main([str(one) for one in arguments])


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of six steps of ResNet-34."""
    folder = tmp_path_factory.mktemp("resnet")
    flags = ("--data", tiny_data, "--out", folder, "--quiet", *TINY, "--depth", 34)
    assert call(*flags, "--max-steps", 6) == 0
    return folder


@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_run_is_the_same_run(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    flags = ("--data", tiny_data, "--out", tmp_path, "--quiet", *TINY, "--depth", 34)
    assert call(*flags, "--max-steps", 3) == 0
    assert call("--resume", tmp_path, "--max-steps", 6, "--quiet") == 0  # and no other flag
    assert losses(tmp_path) == losses(trained)
    found, expected = load_checkpoint(tmp_path), load_checkpoint(trained)
    assert found.meta == expected.meta
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name


def test_what_a_checkpoint_holds(trained: Path) -> None:
    found = load_checkpoint(trained)
    wanted = {"depth": 34, "stem": "small", "width": 2, "crop": 12, "batch": 8}
    assert wanted.items() <= found.meta["settings"].items()
    assert found.tensors["model.stem.1.mean"].any()
    assert found.tensors["optimizer.stem.1.scale.velocity"].any()
    assert (trained / "curves.png").exists()
    assert (trained / "filters.png").exists()


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [("--depth", 18, 34), ("--stem", "imagenet", "small"), ("--width", 4, 2), ("--crop", 8, 12)],
)
def test_another_network_is_not_the_same_run(
    trained: Path, flag: str, value: Any, before: Any
) -> None:
    text = f"written with {flag} {before}, not {value}: it would not be the same run"
    with pytest.raises(CheckpointError, match=text) as caught:
        call("--resume", trained, flag, value)
    assert f"leave {flag} out" in str(caught.value.fix)


def test_evaluate_and_predict_need_the_file_only(
    trained: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    accuracy = json.loads(lines[-1])["accuracy"]
    capsys.readouterr()
    assert call("evaluate", "--checkpoint", trained, "--batch", 3) == 0
    assert f"validation accuracy {100 * accuracy:.1f} %" in capsys.readouterr().out
    picture = next((tiny_data.parent / "source").glob("*/0.png"))
    assert call("predict", picture, "--checkpoint", trained, "--top", 3) == 0
    assert capsys.readouterr().out.count("%") == 3


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("depth", 17, "depth must be one of 18, 34, 50"),
        ("depth", "18", "no usable setting `depth`"),
        ("width", 10**9, "width must lie in"),
        ("crop", -3, "crop must lie in"),
        ("stem", None, "no usable setting `stem`"),
    ],
)
def test_hostile_settings_are_refused(
    trained: Path, tmp_path: Path, name: str, value: Any, text: str
) -> None:
    found = load_checkpoint(trained)
    meta = {**found.meta, "settings": {**found.meta["settings"], name: value}}
    path = sg.io.save_checkpoint(tmp_path, found.tensors, meta)
    for words in (("--resume", path), ("evaluate", "--checkpoint", path)):
        with pytest.raises(SymgraphError, match=text):
            call(*words)
    assert list_checkpoints(tmp_path) == [path]


@pytest.mark.parametrize(
    ("flags", "stem", "crop"),
    [
        ("", "small", 28),
        ("--stem imagenet", "imagenet", 224),
        ("--data flowers", "imagenet", 224),
        ("--data flowers --stem small", "small", 28),
        ("--data flowers --crop 128", "imagenet", 128),
        ("--crop 14", "small", 14),
    ],
)
def test_the_stem_suits_the_images(flags: str, stem: str, crop: int) -> None:
    chosen = resnet.make_parser().parse_args(flags.split())
    resnet.settle(chosen)
    assert (chosen.stem, chosen.crop) == (stem, crop)
    model = resnet.MODEL.with_settings(vars(chosen))
    assert model.crop == crop
    wanted = {"depth": 18, "stem": stem, "width": 64, "crop": crop}
    assert wanted.items() <= model.settings.items()


@pytest.mark.parametrize(("crop", "size"), [(224, 256), (28, 32), (14, 16), (15, 18), (1, 2)])
def test_the_digits_have_a_margin_to_crop(crop: int, size: int) -> None:
    pytest.importorskip("sklearn")
    model = classifier(crop=crop)
    assert open_data("digits", model.size).train.image_size == size


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "models" / "resnet.py"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_the_program_from_any_folder(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "Train ResNet-18, -34 or -50, as published in 2015", "--depth {18,34,50}",
        "--stem {imagenet,small}", "--resume [PATH]", "python models/resnet.py predict cat.jpg",
        "--depth 50 --batch 256 --epochs 90 --learning-rate 0.1",
    ):  # fmt: skip
        assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--depth 20", 2, "--depth: invalid choice: 20 (choose from 18, 34, 50)"),
        ("--depth deep", 2, "--depth: invalid int value: 'deep'"),
        ("--stem large", 2, "--stem: invalid choice: 'large'"),
        ("--width 0", 2, "--width: must be a whole number of at least 1, not '0'"),
        ("--width 4096", 1, "ResNet: width must lie in 1 .. 1024, got 4096"),
        ("--crop 5000", 1, "ResNet: crop must lie in 1 .. 4096, got 5000"),
        ("--crop 1000", 1, "size must be at most 1024"),
        ("--device-map x", 2, "--device-map: must be numbers of GPUs such as 0,1, not 'x'"),
        ("evaluate --depth 50", 2, "unrecognized arguments: --depth 50"),
        ("predict", 2, "required: IMAGE"),
        ("--data nowhere", 1, "nowhere"),
        ("--resume", 1, "no folder runs/resnet-*"),
        ("evaluate", 1, "no folder runs/resnet-*"),
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
        exit_with(lambda: resnet.main(arguments.split()))
    assert stopped.value.code == code
    told = capsys.readouterr()
    assert text in told.err
    assert told.out == ""
    assert not list(tmp_path.iterdir())


def test_images_smaller_than_the_crop(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="crop must") as caught:
        call("--data", tiny_data, "--stem", "small", "--width", 2)
    assert "16" in str(caught.value)
    assert not list(tmp_path.iterdir())


# -- in earnest ------------------------------------------------------------------------------------


@pytest.mark.full
def test_train_stop_resume_evaluate_predict(tmp_path: Path) -> None:
    """The headline command: two steps, Ctrl-C, resume, evaluate, predict."""
    image = pytest.importorskip("PIL.Image")
    program = [sys.executable, str(ROOT / "models" / "resnet.py")]
    process = subprocess.Popen(
        [*program, "--batch", "8", "--out", "run", "--max-steps", "40"], cwd=tmp_path
    )
    lines = tmp_path / "run" / "metrics.jsonl"
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(200) == 130
    steps = lines.read_bytes().count(b'"train"')
    done = run("--resume", "run", "--max-steps", str(steps + 1), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines.read_bytes().count(b'"train"') == steps + 1
    done = run("evaluate", "--checkpoint", "run", "--batch", "32", cwd=tmp_path)
    assert done.stdout.startswith("validation accuracy"), done.stderr
    image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "black.png")
    done = run("predict", "black.png", "--checkpoint", "run", "--top", "3", cwd=tmp_path)
    assert done.stdout.startswith("black.png: "), done.stderr
    assert done.stdout.count("%") == 3


@pytest.mark.full
def test_it_learns_the_digits(tmp_path: Path) -> None:
    """A quarter of the published width, for the time it takes."""
    flags = ("--width", "16", "--epochs", "6", "--out", "run", "--quiet")
    done = run(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("accuracy", 0) for line in lines) >= 0.97
