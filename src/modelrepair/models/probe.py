"""Whether a network is a function of single examples, which everything here takes it for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.models.precision import full_precision
from modelrepair.settings import listed

PROBE_EXAMPLES = 4


def refuse_batchwise_layers(network: nn.Module) -> None:
    """Nothing if no layer says of itself that it computes with the batch as a whole, or changes as it runs.

    Raises:
        RepairError: if one does; names it.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise influence(f"layer {path} normalises by the statistics of the batch")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            if module.scale_grad_by_freq:
                raise influence(f"layer {path} divides gradients by how often the batch holds a token")
            if module.max_norm is not None:
                raise _unsteady(f"layer {path} shortens its own weights (max_norm) as it runs")


def treats_examples_alone(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a network treats these examples one by one; False also if they are too few or too alike to tell.

    Runs a few of them together and apart, and looks at what the layers say of themselves.

    Raises:
        RepairError: if examples influence each other, or the network changes as it runs, draws random numbers, cannot
            run the examples, or gives no tensor with a row for each.
    """
    refuse_batchwise_layers(network)
    # Copies of them are run: a network may change its inputs in place.
    few = inputs[:PROBE_EXAMPLES]
    state = [t for t in (*network.parameters(), *network.buffers()) if not t.is_inference()]
    versions = [tensor._version for tensor in state]
    with full_precision(), torch.no_grad():
        try:
            together = network(few.clone())
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            kind = str(few.dtype).removeprefix("torch.")
            raise RepairError(
                f"the network cannot run inputs of shape {tuple(few.shape)} and type {kind} ({_words(error)}): give "
                "inputs of the shape and type that it takes"
            ) from error
        if not torch.is_tensor(together) or together.shape[:1] != few.shape[:1]:
            given = tuple(together.shape) if torch.is_tensor(together) else _contents(together)
            raise RepairError(
                f"the network's outputs for {len(few)} examples are {given}: wrap it in a module that gives a tensor "
                "with one row for each example"
            )
        if len(few) < 2:
            return False
        apart = torch.cat([network(few[:-1].flip(0)).flip(0), run_alone(network, few[-1:])])
        if versions != [tensor._version for tensor in state]:
            raise _unsteady("parameters or buffers of the network change as it runs")
        if bool(together.isnan().any()):
            # It has its own refusals, and cannot be compared.
            return False
        if not same_outputs(together, apart):
            if not same_outputs(together, network(few.clone())):
                raise _unsteady("the network says something else when it runs again")
            raise influence("the network's outputs for some examples differ when others run with them")
    return bool((together != together[:1]).any())


def run_alone(network: nn.Module, example: Tensor) -> Tensor:
    """(1, ...) the outputs for one example (1, ...), which the network may then not change.

    Raises:
        RepairError: if the network cannot run it alone.
    """
    try:
        outputs: Tensor = network(example.clone())
    except Exception as error:
        raise influence(
            f"the network cannot be run on one example alone ({type(error).__name__}: {_words(error)})"
        ) from error
    return outputs


def same_outputs(outputs: Tensor, others: Tensor) -> bool:
    """Whether outputs without NaN are equal up to the rounding of other kernels; what is infinite must be equal."""
    if outputs.shape != others.shape:
        return False
    scale = outputs.nan_to_num(posinf=0, neginf=0).abs().max()
    change = torch.where(outputs == others, 0, outputs - others).abs().max()
    return bool(change <= scale * torch.finfo(outputs.dtype).eps ** 0.5)


def influence(how: str) -> RepairError:
    """What to raise when examples influence each other; says how that was seen."""
    return RepairError(
        f"{how}, so examples influence each other: give a network that treats examples one by one in eval mode"
    )


def _unsteady(how: str) -> RepairError:
    return RepairError(
        f"{how}, so results would depend on when they are computed: give a network that is a fixed function in eval "
        "mode, with random layers such as dropout as modules, which eval mode turns off"
    )


def _contents(returned: object) -> str:
    """What a network returned in place of a tensor, with the names or the number of what is in it."""
    kind = type(returned).__name__
    if isinstance(returned, Mapping):
        return f"a {kind} with {listed(returned)}"
    return f"a {kind} of {len(returned)}" if isinstance(returned, tuple | list) else f"a {kind}"


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
