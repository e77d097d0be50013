"""Steps of the job in PyTorch, run eagerly, with the elements dropped that symgraph drops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from oracle import Array, Job, State, Step

from peers import load
from peers.torch_twins import Book, twin
from symgraph.nn import Dropout

torch = load("torch")
nn: Any = torch.nn
F: Any = torch.nn.functional


class Masked(nn.Module):  # type: ignore[misc]
    """Dropout with its mask given; survivors stay as they are, as published for AlexNet."""

    def __init__(self) -> None:
        super().__init__()
        self.mask: Any = None

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return x * self.mask.to(x.dtype)


class TorchJob:
    """The job's network in PyTorch; with `bf16` under autocast, weights in float32."""

    def __init__(self, job: Job, precision: str = "fp32") -> None:
        self.job, self.precision = job, precision
        self.book = Book()
        dropouts = [one for _, one in job.net.named_modules() if isinstance(one, Dropout)]
        if any(one.inverted for one in dropouts):
            raise TypeError("the job's dropout leaves survivors as they are")
        for one in dropouts:
            one.inverted = True  # the only kind that has a twin; it is replaced below
        try:
            self.module = twin(job.net, self.book)
        finally:
            for one in dropouts:
                one.inverted = False
        self.masked = [Masked() for _ in dropouts]
        self._replace(iter(self.masked))
        self.seen: list[Array] = []
        for module in self.module.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(self._see)
        self.watch = False

    def _replace(self, masked: Any) -> None:
        for part in self.module.modules():
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Dropout):
                    setattr(part, name, next(masked))

    def _see(self, module: Any, given: Any, value: Any) -> None:
        if self.watch:
            self.seen.append(value.detach().float().numpy().copy())

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in bf16 what may be, if that is the precision."""
        if self.precision == "fp32":
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast("cpu", dtype=torch.bfloat16)
        return context

    def load(self, state: State) -> None:
        """Go to the weights of a state."""
        for name, variable in self.job.parameters.items():
            tensor, turned = self.book.entries[variable]
            value = state.weights[name]
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value.T if turned else value)))

    def loss(self, number: int, masks: Sequence[Array]) -> Any:
        """Give the loss on the batch of a step."""
        batch = self.job.batch_of(number)
        for masked, mask in zip(self.masked, masks, strict=True):
            masked.mask = torch.from_numpy(mask)
        with self.autocast():
            logits = self.module(torch.from_numpy(batch.images))
        return F.cross_entropy(logits.float(), torch.from_numpy(batch.labels.astype(np.int64)))

    def step(self, number: int, masks: Sequence[Array]) -> tuple[Step, list[Array]]:
        """Give the step of a number, and what its relus gave."""
        self.module.zero_grad(set_to_none=True)
        self.seen, self.watch = [], True
        loss = self.loss(number, masks)
        self.watch = False
        loss.backward()
        gradients = {}
        for name, variable in self.job.parameters.items():
            tensor, turned = self.book.entries[variable]
            found = tensor.grad.numpy()
            gradients[name] = found.T if turned else found
        return Step(float(loss.detach()), gradients), self.seen

    def run(self, state: State, masks: Sequence[Sequence[Array]]) -> list[float]:
        """Train freely from a state, a step for each set of masks; give the losses."""
        self.load(state)
        optimizer: Any = self.job.optimizer
        names = {variable: name for name, variable in self.job.parameters.items()}
        base = float(optimizer.lr.value)
        groups: list[dict[str, Any]] = []
        for group in optimizer.groups:
            decay = optimizer.weight_decay if group.decay is None else group.decay
            tensors = [self.book.entries[parameter][0] for parameter in group.parameters]
            groups.append({"params": tensors, "lr": base * group.rate, "weight_decay": decay})
        sgd = torch.optim.SGD(groups, momentum=optimizer.momentum)
        for group, made in zip(optimizer.groups, groups):
            for parameter in group.parameters:
                tensor, turned = self.book.entries[parameter]
                velocity = state.velocities[names[parameter]] / -made["lr"]  # PyTorch's unit
                velocity = np.array(velocity.T if turned else velocity, np.float32)
                sgd.state[tensor]["momentum_buffer"] = torch.from_numpy(velocity)
        losses = []
        for number, kept in enumerate(masks):
            sgd.zero_grad(set_to_none=True)
            loss = self.loss(state.step + number, kept)
            loss.backward()
            sgd.step()
            losses.append(float(loss.detach()))
        return losses
