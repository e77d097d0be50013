"""Low-rank training of the classifiers: five strategies, what a run keeps, wrong ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models import resnet, vit
from models.common import lowrank, saved
from models.common.commandline import exit_with
from models.common.lowrank import STRATEGIES, with_strategy
from symgraph.compression import Work, rank_search
from symgraph.errors import ArgumentError, CheckpointError
from symgraph.io import load_checkpoint, save_checkpoint
from symgraph.nn import Dense, LowRankConv2d, LowRankDense

ROOT = Path(__file__).parent.parent.parent


def in_blocks(works: Sequence[Work]) -> list[tuple[float, float]]:
    """A device that computes four ranks in the time of one, and dense layers slowly."""
    seconds = [float(sum(-(-rank // 4) for rank in work.ranks)) or 99.0 for work in works]
    return list(zip(seconds, seconds))


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what was searched for, by a device whose times are made up."""
    found: list[Any] = []

    def search(net: sg.nn.Module, shape: Any, **options: Any) -> Any:
        found.append((shape, options["ratio"]))
        return rank_search(net, shape, **{**options, "timer": in_blocks, "step": 1})

    monkeypatch.setattr(lowrank, "rank_search", search)
    return found


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nets of one block."""
    monkeypatch.setitem(resnet.STAGES, 18, ((1,), False))
    monkeypatch.setattr(vit, "SIZES", {"Ti": (16, 1, 2), "S": (16, 1, 2), "B": (16, 1, 2)})


def call(module: Any, *arguments: Any) -> int:
    return int(module.main([str(one) for one in arguments]))


RESNET = ("--stem", "small", "--width", 16, "--crop", 12, "--batch", 8, "--quiet", "--epochs", 2)
VIT = ("--crop", 12, "--patch", 6, "--batch", 8, "--quiet", "--epochs", 2, "--warmup", 1)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def factors(folder: Path, name: str) -> Any:
    return load_checkpoint(folder).tensors[f"model.{name}.weight"]


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pictures", "_narrow")
@pytest.mark.parametrize("strategy", [
    "combined", *(pytest.param(name, marks=pytest.mark.full) for name in STRATEGIES
                  if name != "combined"),
])  # fmt: skip
def test_resnet_trains_and_goes_on(
    strategy: str, tiny_data: Path, tmp_path: Path, searched: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Over a swap of what is frozen, after a stop in the first epoch; evaluate finds the ranks."""
    flags = ("--data", tiny_data, *RESNET, "--strategy", strategy, "--compression", 3)
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert call(resnet, *flags, "--out", whole) == 0
    assert call(resnet, *flags, "--out", part, "--max-steps", 2) == 0
    assert call(resnet, "--resume", part, "--quiet") == 0
    assert losses(part) == losses(whole)
    found, expected = load_checkpoint(part), load_checkpoint(whole)
    assert found.meta == expected.meta
    for name, array in expected.tensors.items():
        assert array.tobytes() == found.tensors[name].tobytes(), name
    assert bool(searched) == STRATEGIES[strategy].search
    assert all(one == ((8, 3, 12, 12), 3.0) for one in searched)
    low = [name for name in found.tensors if name.endswith(".core.weight")]
    assert bool(low) == STRATEGIES[strategy].low
    capsys.readouterr()
    assert call(resnet, "evaluate", "--checkpoint", part) == 0
    assert "validation accuracy" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures", "_narrow")
def test_what_is_frozen_in_an_epoch_stays(tiny_data: Path, tmp_path: Path) -> None:
    flags = ("--data", tiny_data, *VIT, "--strategy", "freezing")
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(vit, *flags, "--out", first, "--max-steps", 1) == 0
    assert call(vit, *flags, "--out", second, "--max-steps", 3) == 0  # a whole epoch is four
    name = "blocks.0.mlp.0"
    np.testing.assert_array_equal(factors(first, f"{name}.first"), factors(second, f"{name}.first"))
    assert (factors(first, f"{name}.last") != factors(second, f"{name}.last")).any()
    third = tmp_path / "third"
    assert call(vit, *flags, "--out", third) == 0
    assert (factors(third, f"{name}.first") != factors(first, f"{name}.first")).any()


@pytest.mark.usefixtures("no_pictures", "_narrow")
def test_a_run_begins_with_the_weights_of_a_dense_one(tiny_data: Path, tmp_path: Path) -> None:
    flags = ("--data", tiny_data, *VIT)
    dense, low = tmp_path / "dense", tmp_path / "low"
    assert call(vit, *flags, "--out", dense, "--max-steps", 4) == 0
    more = ("--strategy", "low-rank", "--compression", 1, "--learning-rate", 1e-12)
    assert call(vit, *flags, *more, "--out", low, "--max-steps", 1, "--start-from", dense) == 0
    name = "blocks.0.mlp.0"
    product = factors(low, f"{name}.first") @ factors(low, f"{name}.last")
    weight = factors(dense, name)
    rank = factors(low, f"{name}.first").shape[1]
    lost = np.sqrt((np.linalg.svd(weight, compute_uv=False)[rank:] ** 2).sum())
    np.testing.assert_allclose(np.linalg.norm(product - weight), lost, rtol=1e-3, atol=1e-5)
    with pytest.raises(CheckpointError, match="model"):
        call(vit, *flags, "--out", tmp_path / "no", "--start-from", low)


# As a program of its own: it starts itself in every worker.
NARROW = """
import sys
sys.path.insert(0, {root!r})
from models import vit
from models.common.commandline import exit_with
vit.SIZES["Ti"] = (16, 1, 2)
exit_with(vit.main)
"""


@pytest.mark.full
def test_two_workers_train_as_one(tmp_path: Path) -> None:
    """On the digits, over a swap of what is frozen."""
    pytest.importorskip("sklearn")
    program = tmp_path / "narrow.py"
    program.write_text(NARROW.format(root=str(ROOT)))
    flags = [
        "--patch",
        "14",
        "--epochs",
        "2",
        "--batch",
        "400",
        "--quiet",
        "--strategy",
        "freezing",
    ]
    found = []
    for count in ("1", "2"):
        where = ["--workers", count, "--out", str(tmp_path / count)]
        subprocess.run([sys.executable, str(program), *flags, *where], check=True, timeout=200)
        found.append(losses(tmp_path / count))
    assert len(found[0]) > 4
    np.testing.assert_allclose(found[1], found[0], rtol=2e-3)


# -- the classifier --------------------------------------------------------------------------------


@pytest.mark.usefixtures("_narrow")
def test_settings_and_variants() -> None:
    model = resnet.MODEL.with_settings({
        "depth": 18, "stem": "small", "width": 16, "crop": 28,
        "strategy": "freezing", "compression": 4.0, "ranks": "",
    })  # fmt: skip
    assert model.policy == "sequential"
    assert model.crop == 28
    net = model.make(10)
    kinds = [type(one) for _, one in net.named_modules()]
    assert LowRankConv2d in kinds
    assert model.with_settings({**model.settings, "strategy": "original"}).policy == "none"
    dense = resnet.classifier(18, "small", 16, 28).build(10)
    assert net.count() < dense.count() / 2.5


@pytest.mark.usefixtures("_narrow")
def test_ranks_say_which_layers_are_factors() -> None:
    model = vit.MODEL.with_settings({
        "model": "Ti", "crop": 28, "patch": 14, "epochs": 1, "warmup": 1, "strategy": "combined",
        "compression": 2.0, "ranks": json.dumps({"head": [4], "blocks.0.mlp.0": []}),
    })  # fmt: skip
    modules = dict(model.make(10).named_modules())
    assert [name for name, one in modules.items() if isinstance(one, LowRankDense)] == ["head"]
    assert isinstance(modules["blocks.0.mlp.0"], Dense)
    assert modules["head"].first.weight.value.any()  # type: ignore[attr-defined]


# -- wrong calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "fast"}, "resnet: strategy must be one of original, low-rank"),
        ({"compression": 0.5}, "resnet: compression must be >= 1, got 0.5"),
        ({"ranks": "["}, "ranks must be JSON"),
        ({"ranks": '{"a": 3}'}, "ranks must be JSON"),
        ({"ranks": '{"a": [true]}'}, "ranks must be JSON"),
        ({"ranks": " " * (1 << 21)}, "ranks must be JSON"),
    ],
)
def test_wrong_settings(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        with_strategy(resnet.classifier(), **options)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--strategy", "best"), "--strategy: invalid choice: 'best'"),
        (("--compression", "0"), "must be a number above 0"),
        (("--strategy", "combined", "--engine", "mpi"), "every process would search for ranks"),
        (("--strategy", "low-rank", "--ranks", '{"nine": [2]}'), "no layer to decompose is called"),
        (("--strategy", "freezing", "--ranks", '{"head": []}'), "has no layer of low rank"),
        (("--strategy", "low-rank", "--ranks", '{"head": [99]}'), "a rank must lie in 1 .. 3"),
    ],
)
def test_wrong_flags(
    flags: tuple[str, ...], text: str, tiny_data: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [*map(str, VIT), "--data", str(tiny_data), "--out", str(tmp_path / "run"), *flags]
    with pytest.raises(SystemExit) as ended:
        exit_with(lambda: vit.main(words))
    assert ended.value.code in (1, 2)
    assert text in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures", "_narrow")
def test_a_checkpoint_with_other_ranks_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = (
        "--data",
        tiny_data,
        *VIT,
        "--strategy",
        "low-rank",
        "--ranks",
        '{"blocks.0.mlp.0": [4]}',
    )
    assert call(vit, *flags, "--out", out, "--max-steps", 1) == 0
    found = load_checkpoint(out)
    for ranks, text in (('{"blocks.0.mlp.0": [5]}', "shape"), ('{"blocks.0.mlp.0": [-1]}', "rank"),
                        ("[]", "JSON")):  # fmt: skip
        settings = {**found.meta["settings"], "ranks": ranks}
        path = save_checkpoint(tmp_path / text, found.tensors, {**found.meta, "settings": settings})
        with pytest.raises((ArgumentError, CheckpointError), match=text):
            call(vit, "evaluate", "--checkpoint", path)
    with pytest.raises(CheckpointError, match="written with --strategy low-rank, not original"):
        call(vit, "--resume", out, "--strategy", "original")


@pytest.mark.usefixtures("no_pictures", "_narrow")
def test_a_checkpoint_of_a_time_without_strategies_goes_on(tiny_data: Path, tmp_path: Path) -> None:
    assert call(vit, "--data", tiny_data, *VIT, "--out", tmp_path / "a", "--max-steps", 1) == 0
    found = load_checkpoint(tmp_path / "a")
    kept = {name: one for name, one in found.meta["settings"].items() if name not in saved.BEFORE}
    (tmp_path / "b").mkdir()
    path = save_checkpoint(tmp_path / "b", found.tensors, {**found.meta, "settings": kept})
    assert call(vit, "evaluate", "--checkpoint", path) == 0
    assert call(vit, "--resume", path, "--max-steps", 2, "--quiet") == 0
    with pytest.raises(CheckpointError, match="written with --strategy original, not freezing"):
        call(vit, "--resume", path, "--strategy", "freezing")
