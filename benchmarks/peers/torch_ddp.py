"""PyTorch's data parallelism in a worker: DistributedDataParallel over gloo on the loopback device.

All settings have the fused SGD; they differ in how gradients are bundled and laid out. The
exchange alone is an all-reduce of a flat tensor, at once or in several that are under way together.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from groups import Work
from ours import Problem

from peers import load
from peers.torch_nets import Net, usual_step
from peers.torch_nets import Setting as NetSetting
from symgraph.parallel import Team

torch = load("torch")
nn, distributed = torch.nn, load("torch.distributed")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Setting:
    """How gradients travel: in buckets of so many MB, which `view` has them computed into."""

    name: str
    bucket: int = 25  # PyTorch's default
    view: bool = False
    static: bool = False
    channels_last: bool = False


SETTINGS = (
    Setting("DDP"),
    Setting("DDP views static", view=True, static=True),
    Setting("DDP views static channels_last", view=True, static=True, channels_last=True),
    Setting("DDP views static channels_last, a bucket of 300 MB", 300, True, True, True),
)
NAMED = {setting.name: setting for setting in SETTINGS}
#         numbers in a piece: all, DDP's default bucket, and what is about a quarter of AlexNet
FORMS = {"whole": 0, "pieces of 25 MB": 25 << 18, "pieces of 64 MB": 64 << 18}


def connect(team: Team) -> None:
    """Make the process group of a team, once."""
    torch.set_num_threads(1)
    if distributed.is_initialized():
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    folder = tempfile.mkdtemp() if team.rank == 0 else ""
    folder = team.gather(folder.encode())[0].decode()
    place = Path(folder) / "rendezvous"
    distributed.init_process_group(
        "gloo", init_method=place.as_uri(), rank=team.rank, world_size=team.size
    )
    distributed.barrier()
    if team.rank == 0:
        place.unlink(missing_ok=True)
        os.rmdir(folder)


def training(team: Team, problem: Problem, setting: Setting, steps: int) -> Work:
    """Make the step; what is checked is what parallel_worker's own step writes."""
    connect(team)
    net = Net(problem, NetSetting(setting.name, setting.channels_last), "fp32", "train")
    first = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    plain = net.module
    net.module = nn.parallel.DistributedDataParallel(
        plain, bucket_cap_mb=setting.bucket, gradient_as_bucket_view=setting.view,
        static_graph=setting.static,
    )  # fmt: skip
    one = usual_step(net)

    def check(file: str) -> dict[str, Any]:
        layers = [module for module in plain.modules() if isinstance(module, nn.Dropout)]
        rates = [layer.p for layer in layers]
        for layer in layers:
            layer.p = 0.0
        for _ in range(steps):
            loss = float(one.run())
        losses = [float(text) for text in team.gather(repr(loss).encode())]
        found: dict[str, Any] = {"loss": np.asarray(sum(losses) / team.size)}
        for name, velocity in one.velocities().items():
            array = velocity.numpy()
            found[name] = array.T if net.names[name][1] else array
        if team.rank == 0:
            np.savez(file, **found)
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
        plain.load_state_dict(first)
        one.reset()
        return {}

    return Work(one.run, check)


def all_reduce(team: Team, most: int) -> tuple[Array, Callable[[str, int], Any]]:
    """Give a flat array, and what sums so many of its first numbers over all workers in place."""
    connect(team)
    numbers = torch.zeros(most)

    def run(form: str, count: int) -> None:
        pieces = numbers[:count].split(FORMS[form] or max(count, 1))
        under_way = [distributed.all_reduce(piece, async_op=True) for piece in pieces]
        for one in under_way:
            one.wait()

    return numbers.numpy(), run
