"""A network's forward and backward passes in training, which a GPU repeats as one piece of work.

A GPU is told of every kernel by itself, and of a small network's kernels a CPU tells it more slowly than it works:
ResNet-20 with 128 images a step takes an H100 2 ms, and the telling of it 15. What it was told once it repeats at one
word, to the same numbers (CUDA graphs; https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.conditions import Conditions

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]
"""A batch of inputs to the network's outputs, in the numbers that the conditions say, to be differentiated."""

TOLD_FIRST = 20
"""Steps that are told kernel by kernel: recording takes as long as a few of them, and many descents have few."""
REPEATABLE = ("torch.nn.modules.", "modelrepair.networks.", "torchvision.models.")
"""Where classes of modules come from that do the same with every batch of a shape; of others nobody knows."""


def forward_of(model: TrainedModel, conditions: Conditions) -> Forward:
    """How a model's network is run in the steps of a training.

    Args:
        model: whose parameters stay where they are in memory, whatever values they take.
        conditions: under which it runs.
    """

    told = kernel_by_kernel(model, conditions)
    return Repeated(model, conditions, told) if model.device.type == "cuda" else told


def kernel_by_kernel(model: TrainedModel, conditions: Conditions, *, cached: bool = True) -> Forward:
    """The network as PyTorch runs it; `cached` as in `Conditions.numbers`."""

    def told(inputs: Tensor) -> Tensor:
        with conditions.numbers(model.device, cached=cached):
            return model.run(inputs)

    return told


class Repeated:
    """Passes that are recorded once the same kind of batch has come often enough, and repeated from then on.

    Batches of another shape, such as the last one of an epoch, passes without gradients, and networks that draw random
    numbers or whose code is not known to do the same each time are told kernel by kernel.

    Args:
        model: as in `forward_of`.
        conditions: as there.
        told: what is recorded.
    """

    def __init__(self, model: TrainedModel, conditions: Conditions, told: Forward) -> None:
        self._model = model
        self._conditions = conditions
        self._told = told
        self._parameters = list(model.network.parameters())
        self._seen = 0
        self._kind: object = None
        self._recorded: Forward | None = None
        self._repeatable = all(
            type(module).__module__.startswith(REPEATABLE) for module in model.network.modules()
        )

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self._repeatable or not torch.is_grad_enabled():
            return self._told(inputs)
        kind = self._kind_of(inputs)
        if kind == self._kind and self._recorded is not None:
            return self._recorded(inputs)
        if self._recorded is not None:
            return self._told(inputs)
        if kind != self._kind:
            self._kind, self._seen = kind, 0
        self._seen += 1
        if self._seen <= TOLD_FIRST:
            return self._told_and_watched(inputs)
        self._recorded = self._record(inputs)
        return self._told(inputs) if self._recorded is None else self._recorded(inputs)

    def _kind_of(self, inputs: Tensor) -> object:
        """What a recorded pass is of: batches of a shape, and these places in memory."""
        places = tuple((parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters)
        return inputs.shape, inputs.dtype, self._model.network.training, places

    def _told_and_watched(self, inputs: Tensor) -> Tensor:
        before = self._random_states()
        outputs = self._told(inputs)
        if any(not torch.equal(*states) for states in zip(before, self._random_states(), strict=True)):
            self._repeatable = False
        return outputs

    def _random_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), torch.cuda.get_rng_state(self._model.device)]

    def _record(self, inputs: Tensor) -> Forward | None:
        """The passes of this kind of batch; None, and no further try, where they cannot be recorded."""
        network = self._model.network
        # Which the passes of recording move, as those of a training do.
        statistics = [buffer.clone() for buffer in network.buffers()]
        try:
            passes = _Passes(self._model, self._conditions)
            torch.cuda.make_graphed_callables(passes, (inputs.clone(),), allow_unused_input=True)
        except RuntimeError as error:
            self._repeatable = False
            log.info("kernels are told one by one: %s", " ".join(str(error).split())[:200])
            return None
        finally:
            with torch.no_grad():
                for buffer, value in zip(network.buffers(), statistics, strict=True):
                    buffer.copy_(value)
        return passes


class _Passes(nn.Module):
    """The network under its conditions, as a module: it is recorded with its parameters."""

    def __init__(self, model: TrainedModel, conditions: Conditions) -> None:
        super().__init__()
        self.network = model.network
        # Without a cache of the weights' casts, which lives longer than a pass.
        self._told = kernel_by_kernel(model, conditions, cached=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._told(inputs)
