"""PyTorch's networks, made from symgraph's modules with the same weights, and how they are run.

Training is the fused SGD on mean cross-entropy, in bf16 by autocast with weights in fp32;
`settings` lists what is tried. Of networks of vectors, where calls count, also a whole step as one
compiled function, gradient and update included. On a GPU the batch lies there, convolutions are
those that cuDNN measured to be the fastest, and a step may be recorded as one CUDA graph. A run
gives the device its work and does not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import Contestant
from ours import Problem

from peers import load
from peers.torch_twins import Book, twin
from symgraph.nn import LocalResponseNorm

torch = load("torch")
nn, F = torch.nn, torch.nn.functional

# every setting, layout and batch is compiled for itself; more than eight would silently be eager
torch._dynamo.config.recompile_limit = 256


@dataclass(frozen=True)
class Setting:
    """One way to run PyTorch; `options` are Inductor's.

    `cast` keeps the weights in bf16 too; `whole` compiles gradient and update with the rest;
    `recorded` runs a step on a GPU once and from then on replays what it started.
    """

    name: str
    channels_last: bool = False
    compiled: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    cast: bool = False
    threads: int | None = None
    whole: bool = False
    recorded: bool = False


EAGER = Setting("eager")
LAST = Setting("eager channels_last", channels_last=True)
COMPILED = Setting("compile", compiled=True)
COMPILED_LAST = Setting("compile channels_last", channels_last=True, compiled=True)
FROZEN = Setting("compile frozen", channels_last=True, compiled=True, options=(("freezing", True),))
ALONE = Setting("eager 1 thread", threads=1)
COMPILED_ALONE = Setting("compile 1 thread", False, True, (("cpp.threads", 1),), threads=1)
WHOLE = Setting("compile whole step", compiled=True, whole=True)
WHOLE_CPP = Setting(
    "compile whole step cpp_wrapper", False, True, (("cpp_wrapper", True),), whole=True
)
CAST = Setting("eager channels_last bf16 weights", channels_last=True, cast=True)
GRAPHS = (("triton.cudagraphs", True),)  # mode="reduce-overhead"
TUNED = (("max_autotune", True), ("coordinate_descent_tuning", True))
REDUCED = Setting("compile reduce-overhead", compiled=True, options=GRAPHS)
REDUCED_LAST = Setting("compile reduce-overhead channels_last", True, True, GRAPHS)
TUNED_LAST = Setting("compile max-autotune channels_last", True, True, TUNED)
RECORDED = Setting("eager, CUDA graph", recorded=True)
WHOLE_RECORDED = Setting("compile whole step, CUDA graph", compiled=True, whole=True, recorded=True)

OF_IMAGES = {
    "train": (EAGER, LAST, COMPILED, COMPILED_LAST),
    "infer": (EAGER, LAST, COMPILED, COMPILED_LAST, FROZEN),
}
OF_VECTORS = {
    "train": (EAGER, ALONE, COMPILED, COMPILED_ALONE, WHOLE, WHOLE_CPP),
    "infer": (EAGER, ALONE, COMPILED, COMPILED_ALONE, FROZEN),
}


# a setting that compiles takes half a minute there, and is paid for by the minute
ON_GPU = {
    ("images", "train"): (EAGER, LAST, COMPILED_LAST, COMPILED),
    ("images", "infer"): (EAGER, LAST, FROZEN),
    ("vectors", "train"): (EAGER, REDUCED, RECORDED, WHOLE, WHOLE_RECORDED),
    ("vectors", "infer"): (EAGER, REDUCED, FROZEN),
}
MORE_ON_GPU = (REDUCED_LAST, TUNED_LAST)
NAMED = {one.name: one for many in ON_GPU.values() for one in (*many, *MORE_ON_GPU)}


def settings(problem: Problem, mode: str, precision: str) -> tuple[Setting, ...]:
    """Give the settings worth trying for "train" or "infer"."""
    if problem.device != "cpu":
        return ON_GPU["images" if problem.images.ndim == 4 else "vectors", mode]
    if problem.images.ndim != 4:
        return OF_VECTORS[mode]
    layers = [module for _, module in problem.net.named_modules()]
    # PyTorch normalises across channels in no bf16 but autocast's
    norm = any(isinstance(layer, LocalResponseNorm) for layer in layers)
    cast = precision == "bf16" and mode == "infer" and not norm
    return (*OF_IMAGES[mode], CAST) if cast else OF_IMAGES[mode]


class Net:
    """A network in PyTorch on the problem's batch, in one setting and precision."""

    def __init__(self, problem: Problem, setting: Setting, precision: str, mode: str) -> None:
        self.problem, self.setting, self.precision = problem, setting, precision
        problem.reset()
        self.book = Book()
        self.module = twin(problem.net, self.book)
        self.names = {name: self.book.entries[v] for name, v in problem.net.named_parameters()}
        kind = torch.float64 if precision == "fp64" else torch.float32
        self.on_gpu = problem.device != "cpu"
        if self.on_gpu:
            set_precision(precision)
        self.module.to(problem.device, torch.bfloat16 if setting.cast else kind)
        layout = torch.contiguous_format
        if setting.channels_last and problem.images.ndim == 4:
            layout = torch.channels_last
            self.module.to(memory_format=layout)
        self.images = torch.tensor(problem.images).to(
            problem.device, torch.bfloat16 if setting.cast else kind, memory_format=layout
        )
        self.labels = torch.tensor(problem.labels.astype(np.int64), device=problem.device)
        self.module.train(mode == "train")
        self.threads = setting.threads or torch.get_num_threads()

    def fast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a function of tensors, where the setting says so."""
        if not self.setting.compiled:
            return function
        made: Callable[..., Any] = torch.compile(
            function, dynamic=False, options=dict(self.setting.options) or None
        )
        return made

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in bf16 what may be, if that is the precision."""
        if self.precision != "bf16" or self.setting.cast:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(
            self.problem.device, dtype=torch.bfloat16
        )
        return context

    def logits(self, images: Any) -> Any:
        """Run the network."""
        with self.autocast():
            return self.module(images)

    def loss(self, images: Any, labels: Any) -> Any:
        """Give the mean cross-entropy."""
        logits = self.logits(images)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if wide.ndim > 2 and self.problem.axis == -1:
            wide = wide.movedim(-1, 1)
        return F.cross_entropy(wide, labels)

    def take_turn(self) -> None:
        """Set the number of threads, where a contestant before had another."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)


@dataclass
class Step:
    """A training step: runs, gives the velocities by name, and goes back to the start."""

    run: Callable[[], Any]
    velocities: Callable[[], dict[str, Any]]
    reset: Callable[[], None]


def usual_step(net: Net) -> Step:
    """Make a step from loss.backward() and the optimizer, as usual."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, rate in net.problem.rates.items():
        groups.setdefault(rate, []).append(net.names[name][0])
    optimizer = torch.optim.SGD(
        [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()],
        momentum=net.problem.optimizer.momentum,
        fused=True,
    )
    loss_of = net.fast(net.loss)

    def run() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(net.images, net.labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def velocities() -> dict[str, Any]:
        return {
            name: optimizer.state[tensor]["momentum_buffer"]
            for name, (tensor, _) in net.names.items()
        }

    def reset() -> None:
        for state in optimizer.state.values():  # in place: a CUDA graph knows them by address
            state["momentum_buffer"].zero_()

    return Step(run, velocities, reset)


def _whole_step(net: Net) -> Step:
    """Make a step that is one function of tensors, so that it compiles as a whole."""
    rates, momentum = net.problem.rates, net.problem.optimizer.momentum
    paths = {id(tensor): path for path, tensor in net.module.named_parameters()}
    weights = {paths[id(tensor)]: tensor.detach() for tensor, _ in net.names.values()}
    moving = {path: torch.zeros_like(weight) for path, weight in weights.items()}
    by_path = {paths[id(net.names[name][0])]: rate for name, rate in rates.items()}

    def loss_of(parameters: dict[str, Any], images: Any, labels: Any) -> Any:
        with net.autocast():
            logits = torch.func.functional_call(net.module, parameters, (images,))
        return F.cross_entropy(logits.float(), labels)

    def step(images: Any, labels: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(loss_of)(weights, images, labels)
        for path, (lr, decay) in by_path.items():
            # not add(..., alpha=decay): Inductor of 2.14 loses alpha where it fuses a product
            direction = gradients[path] + decay * weights[path] if decay else gradients[path]
            moving[path].mul_(momentum).add_(direction)
            weights[path].sub_(moving[path], alpha=lr)
        return loss

    fast = net.fast(step)

    def run() -> Any:
        with torch.no_grad():
            return fast(net.images, net.labels)

    def velocities() -> dict[str, Any]:
        return {name: moving[paths[id(tensor)]] for name, (tensor, _) in net.names.items()}

    def reset() -> None:
        for velocity in moving.values():
            velocity.zero_()

    return Step(run, velocities, reset)


def set_precision(precision: str) -> None:
    """Have GPUs multiply float32 as it is, or rounded, and look for the fastest convolutions."""
    narrow = precision not in ("fp32", "fp64")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = narrow
    torch.backends.cudnn.benchmark = precision != "fp64"  # that one runs once


def recorded(run: Callable[[], Any]) -> Callable[[], Any]:
    """Make a CUDA graph of what a step starts; its tensors stay where they are."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, measures, and makes what is kept between steps
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = run()

    def replay() -> Any:
        graph.replay()
        return loss

    return replay


def waiting(problem: Problem) -> Callable[[], Any]:
    """Give what waits for everything that was given to the device."""
    wait: Callable[[], Any] = (lambda: None) if problem.device == "cpu" else torch.cuda.synchronize
    return wait


def training(problem: Problem, setting: Setting, precision: str) -> Contestant:
    """Make the contestant that trains; for what is checked see `ours.training`."""
    net = Net(problem, setting, precision, "train")
    step = (_whole_step if setting.whole else usual_step)(net)
    first = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    if setting.recorded:
        step.run = recorded(step.run)
        net.module.load_state_dict(first)
        step.reset()

    def run() -> Any:
        net.take_turn()
        return step.run()

    def check() -> dict[str, Any]:
        layers = [module for module in net.module.modules() if isinstance(module, nn.Dropout)]
        rates = [layer.p for layer in layers]
        for layer in layers:
            layer.p = 0.0
        found: dict[str, Any] = {"loss": np.asarray(float(run()))}
        for name, velocity in step.velocities().items():
            buffer = velocity.double().cpu().numpy()
            found[name] = np.array(buffer.T if net.names[name][1] else buffer)
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
        net.module.load_state_dict(first)
        step.reset()
        return found

    return Contestant(f"torch {setting.name}", run, check=check, wait=waiting(problem))


def inference(problem: Problem, setting: Setting, precision: str) -> Contestant:
    """Make the contestant that computes logits."""
    net = Net(problem, setting, precision, "infer")
    logits = net.fast(net.logits)

    def run() -> Any:
        net.take_turn()
        with torch.no_grad():
            return logits(net.images)

    def check() -> Any:
        return run().double().cpu().numpy()

    return Contestant(f"torch {setting.name}", run, check=check, wait=waiting(problem))


def exact(problem: Problem, mode: str, precision: str = "fp64") -> Any:
    """Compute in float64 what contestants are checked by: the reference of their errors."""
    make = training if mode == "train" else inference
    return make(problem, EAGER, precision).result()


def forget() -> None:
    """Drop what torch.compile and the allocator hold, before the next row."""
    torch._dynamo.reset()
    torch.cuda.empty_cache()  # nothing where there is no GPU
