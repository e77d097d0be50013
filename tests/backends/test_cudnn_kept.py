"""Plans of cuDNN as bytes, for an H200 that is not there: what reads back, and what does not."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from symgraph.backends.arrays import Array
from symgraph.backends.cuda.cudnn.library import Cudnn, described
from symgraph.backends.cuda.cudnn.operations import Convolution, Convolutions
from symgraph.config import config
from symgraph.errors import BackendError
from symgraph.graph.registry import OPS
from symgraph.runtime import tuning
from tests.backends import test_cudnn
from tests.backends.no_driver import is_there
from tests.backends.test_cudnn import DESCRIPTION, MODULE, PROBLEM, convolutions, last
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(MODULE is None, reason=f"cuDNN cannot plan: {PROBLEM}")
driver = test_cudnn.driver
COMPILES = is_there() or COMPILER is not None  # cuDNN, while it runs
CODE = 20_000  # bytes: plans with code of kernels are larger, others have 3 kB

AGAIN = """
import sys
from pathlib import Path
from tests.backends.test_cudnn import with_driver
from tests.backends.test_cudnn_kept import convolution
file, dtype, name = Path(sys.argv[1]), *sys.argv[2:]
with_driver(file.parent)
made = convolution(dtype)
assert made.restore(name, file.read_bytes())
print(made.implementation, made.workspace)
"""


def convolution(
    dtype: str = "bfloat16", own: Convolutions | None = None, groups: int = 1
) -> Convolution:
    """The gradient by the input of 3 x 3 filters: of halves, one engine of it is compiled."""
    image, filters = (64, 256, 14, 14), (256, 256 // groups, 3, 3)
    y, w, x = (Array(dims, dtype, last(*dims)) for dims in (image, filters, image))
    op = OPS["conv_input"](
        stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=groups, sizes=(14, 14)
    )
    return (own or convolutions()).prepare(op, (y, w), x, 64, False)


def elsewhere(**changes: Any) -> Convolutions:
    """Convolutions on a device that is another in some ways."""
    text = json.dumps(json.loads(DESCRIPTION.read_text()) | changes)
    return Convolutions(described(MODULE, text, capability=90, processors=132))


@pytest.mark.parametrize(("dtype", "groups"), [("bfloat16", 1), ("float32", 1), ("float16", 2)])
def test_every_way_is_read_back_without_planning(dtype: str, groups: int) -> None:
    made, sizes = convolution(dtype, groups=groups), []
    ways = made.alternatives()
    assert len(ways) > 1
    for name in ways:
        assert made.choose(name)
        saved = made.saved()
        engine = re.search(r"eng(\d+)", name)
        assert engine is not None
        assert f'"engineId":{engine[1]},'.encode() in saved
        again = convolution(dtype, groups=groups)
        assert again.restore(name, saved)
        assert again.implementation == name
        assert again.workspace == made.workspace
        assert again.saved() == saved
        assert not again._graphs, "nothing is planned"
        sizes.append(len(saved))
    if COMPILES and dtype == "bfloat16":
        assert max(sizes) > CODE, "one of them has the code of a kernel"
    assert max(sizes) < 100_000


def test_a_plan_that_was_read_back_can_be_left() -> None:
    made = convolution("float32")
    first, other, *_ = made.alternatives()
    saved = made.saved()
    again = convolution("float32")
    assert again.restore(first, saved)
    assert again.choose(other)
    assert again.implementation == other
    assert again.saved() != saved
    assert again.alternatives() == made.alternatives()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_process_reads_it_back(dtype: str, tmp_path: Path) -> None:
    """The largest of them: of halves, that with the code of a kernel."""
    made, file, found = convolution(dtype), tmp_path / "plan", dict[str, bytes]()
    for name in made.alternatives():
        made.choose(name)
        found[name] = made.saved()
    name = max(found, key=lambda one: len(found[one]))
    assert (len(found[name]) > CODE) == (COMPILES and dtype == "bfloat16")
    made.choose(name)
    file.write_bytes(found[name])
    command = [sys.executable, "-c", AGAIN, str(file), dtype, name]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{name} {made.workspace}"


def refused(made: Convolution, name: str, saved: bytes, caplog: pytest.LogCaptureFixture) -> str:
    """What is logged of a plan that is not read back; it is built instead."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "symgraph"):
        assert not made.restore(name, saved)
    assert made.choose(name)
    assert made.implementation == name
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG}
    return caplog.text


@pytest.mark.parametrize(
    "changes",
    [{"multiProcessorCount": 114}, {"deviceVer": 1000}, {"maxSharedMemoryPerBlockOptin": 101376}],
    ids=lambda one: next(iter(one)),
)
def test_another_device_refuses_it(changes: Any, caplog: pytest.LogCaptureFixture) -> None:
    made, other = convolution("float32"), convolution("float32", elsewhere(**changes))
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "symgraph"):
        assert not other.restore(made.implementation, made.saved())
    assert "ARCH_MISMATCH" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (rb"frontend [^\n]*", b"frontend 1.27.0", "another version of the frontend"),
        (rb'"cudnnVersion":\d+', b'"cudnnVersion":91100', "VERSION_MISMATCH"),
        (rb'"schemaVersion":\d', b'"schemaVersion":1', "VERSION_MISMATCH"),
        (rb'"engineId":\d\d', b'"engineId":98', "NOT_SUPPORTED"),
    ],
    ids=["frontend", "cuDNN", "schema", "engine"],
)
def test_what_another_version_wrote_is_refused(
    old: bytes, new: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = convolution("float32")
    saved = made.saved()
    changed, count = re.subn(old, new, saved)
    assert count == 1
    assert len(changed) == len(saved)
    assert why in refused(made, made.implementation, changed, caplog)


@pytest.mark.parametrize("length", [0, 5, 16, 17, 400, -1])
def test_what_is_cut_short_is_refused(length: int, caplog: pytest.LogCaptureFixture) -> None:
    made = convolution("float32")
    assert refused(made, made.implementation, made.saved()[:length], caplog)


def test_what_was_chosen_is_read_back_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a device only its kind is asked."""
    device: Any = SimpleNamespace(kind="an H200")
    with config(cache=str(tmp_path / "cache")):
        made = convolution("float16")
        *_, name = made.alternatives()
        assert made.choose(name)
        monkeypatch.setattr(tuning, "_known", {})
        tuning._keep(tuning._key(device, made), made)
        for _ in range(2):
            monkeypatch.setattr(tuning, "_known", {})
            again = convolution("float16")
            assert tuning.recalled(device, again)
            assert again.implementation == name
            assert not again._graphs, "nothing is planned"
        device.kind = "another"
        assert not tuning.recalled(device, convolution("float16"))


def test_one_group_is_no_way_where_there_are_none() -> None:
    saved = convolution("float32").saved()
    assert not convolution("float32").restore("cuDNN eng0, group by group", saved)


def test_without_properties_of_a_device_nothing_is_saved(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read back in this process need not be tried in every later one."""
    own = elsewhere()
    made = convolution("float32", own)
    assert made.alternatives()
    own.library = Cudnn(MODULE, {"handle": None}, number=99)
    made._asked = own.library, *made._asked[1:]
    with caplog.at_level(logging.DEBUG, "symgraph"):
        assert made.saved() == b""
    assert "cannot be read back" in caplog.text
    assert not made.restore(made.implementation, convolution("float32").saved())


def unreachable() -> Convolutions:
    """Convolutions whose plans are given to cuDNN to run, which finds that it has no device."""
    made = described(MODULE, DESCRIPTION.read_text(), capability=90, processors=132)
    made.target["handle"] = None
    return Convolutions(made)


def test_a_plan_that_does_not_run_is_built(caplog: pytest.LogCaptureFixture) -> None:
    """It is given to cuDNN with each operand under its number; the built one fails as well here."""
    made, again = convolution("float32"), convolution("float32", unreachable())
    assert again.restore(made.implementation, made.saved())
    with (
        caplog.at_level(logging.WARNING, "symgraph"),
        pytest.raises(BackendError, match="cuDNN could not run eng") as caught,
    ):
        again.run([256, 512, 1024], 2048)
    assert "handle is NULL" in str(caught.value)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "which was read back" in said
    assert "handle is NULL" in said
    assert said.endswith("It is built anew.")
    assert again._kept is None
    assert again.implementation == made.implementation


def test_it_is_not_built_where_it_would_need_more_memory() -> None:
    made, again = convolution("float32"), convolution("float32", unreachable())
    assert again.restore(made.implementation, made.saved())
    assert again._kept is not None
    again._kept.workspace -= 1
    for _ in range(2):
        with pytest.raises(BackendError, match="which was read back"):
            again.run([256, 512, 1024], 2048)
