"""A trained network with its likelihood: the point θ̂ at which every method of this library works.

Conventions, here and in all families: θ is the flat vector (d,) of the network's trainable parameters in
the order of `network.parameters()`; gradients are of the log-likelihood log p(y | x, θ), summed over
examples unless the text says mean; the network runs in eval mode, so statistics of normalisation layers
are constants and no example influences another. Networks in which one does are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call, jvp

from modelrepair.errors import RepairError
from modelrepair.models.differentiable import ExactDerivatives, backward_passes, differentiable
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Likelihood
from modelrepair.models.passes import PerExample, fitting, summed
from modelrepair.models.probe import PROBE_EXAMPLES, treats_examples_alone
from modelrepair.settings import listed

Measure = Callable[[Tensor, Tensor], Tensor]
"""(b,) a number for each example of a batch, from its outputs and targets."""


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """(d,) the tensors' entries one after the other, whatever their layout in memory."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def expect_outputs(model: TrainedModel, examples: Examples, classes: Sequence[str]) -> None:
    """Nothing if a model's network makes of each example one number for each class or attribute.

    A few examples are run, which also shows whether the network treats them one by one and always the same.

    Args:
        model: of the network.
        examples: that it is to run.
        classes: names of the classes or attributes.

    Raises:
        RepairError: if not.
    """
    few = examples.subset(np.arange(min(PROBE_EXAMPLES, len(examples))))
    shape = tuple(model.outputs(few).shape)
    if shape != (len(few), len(classes)):
        raise RepairError(
            f"the network's outputs for {len(few)} examples are of shape {shape}, and the data have {len(classes)} "
            f"classes ({listed(classes[:12])}{', …' if len(classes) > 12 else ''}): give a network with one output for "
            "each, or data with its classes"
        )


class TrainedModel:
    """A network at θ̂, its likelihood, and how to run it.

    Args:
        network: any module that maps a batch of inputs to a batch of outputs; it is put into eval mode.
        likelihood: what the outputs mean.
        batch_size: examples in one pass; changes speed and memory, never a result beyond rounding. What measures
            examples makes it smaller where the device has no memory for so many.
        device: where to run; the GPU if there is one by default.

    Raises:
        RepairError: if batch_size is no number of examples or the parameters are not all of one type; later, from
            whatever runs the network, if its examples influence each other or it does not always say the same.
    """

    def __init__(
        self,
        network: nn.Module,
        likelihood: Likelihood,
        *,
        batch_size: int = 500,
        device: torch.device | str | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise RepairError(f"batch_size is {batch_size!r}: give a whole number of examples, 1 or more")
        types = {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
        if len(types) > 1:
            raise RepairError(
                f"the network's parameters are of types {', '.join(sorted(types))}: convert it to one of them"
            )
        self.device = torch.device(device) if device is not None else default_device()
        self.network = network.to(self.device).eval()
        self.likelihood = likelihood
        self.batch_size = batch_size
        self._probed = False

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return next(self.network.parameters()).dtype

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, each tied one once, in the order of the vector θ."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    @property
    def parameter_vector(self) -> Tensor:
        """(d,) a copy of θ."""
        return flatten(self.parameters.values()).detach().clone()

    def with_parameter_vector(self, vector: Tensor) -> TrainedModel:
        """The same model at another θ of shape (d,); this one is left as it is.

        Raises:
            RepairError: if the vector is of another length, or holds NaN or infinity, or what is infinite in this
                model's dtype.
        """
        values = vector.detach().to(self.device, self.dtype)
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise RepairError(
                f"{bad} of {len(vector)} parameters of the updated model are NaN or infinite: "
                "use a smaller step or a larger damping"
            )
        moved = self.copy()
        with torch.no_grad():
            for parameter, piece in zip(moved.parameters.values(), self.split(values).values(), strict=True):
                parameter.copy_(piece)
        return moved

    def copy(self) -> TrainedModel:
        """The same model with a network of its own."""
        other = TrainedModel(
            copy.deepcopy(self.network), self.likelihood, batch_size=self.batch_size, device=self.device
        )
        other._probed = self._probed
        return other

    def in_dtype(self, dtype: torch.dtype) -> TrainedModel:
        """A copy with the same parameters and buffers that computes in this floating-point type; itself if it does."""
        if dtype == self.dtype:
            return self
        other = self.copy()
        other.network.to(dtype)
        # What it computes in another type is still to be seen.
        other._probed = False
        return other

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Cut a vector (d,) into pieces of the parameters' names and shapes.

        Raises:
            RepairError: if the vector is of another length.
        """
        parameters = self.parameters
        sizes = [p.numel() for p in parameters.values()]
        if vector.shape != (sum(sizes),):
            raise RepairError(
                f"a vector of shape {tuple(vector.shape)} was given for the {sum(sizes)} trainable parameters of this "
                f"model: give one of shape ({sum(sizes)},)"
            )
        pieces = zip(parameters.items(), torch.split(vector, sizes), strict=True)
        return {name: piece.view_as(p) for (name, p), piece in pieces}

    def batches(self, examples: Examples, *, shared: bool = False) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(positions, inputs, targets) of the examples, in order, on this model's device and in its dtype.

        Args:
            examples: that are gone through.
            shared: among processes that work together, as in `Examples.batches`.

        Raises:
            RepairError: if the network does not treat every example alone and always the same; found out once, on the
                first few examples that this model or the one that it was copied from ever saw.
        """
        for positions, inputs, targets in examples.batches(
            self.batch_size, device=self.device, dtype=self.dtype, shared=shared
        ):
            if not self._probed:
                self._probed = treats_examples_alone(self.network, inputs)
            yield positions, inputs, targets

    def run(self, inputs: Tensor) -> Tensor:
        """(n, ...) raw network outputs that can be differentiated; the network may overwrite the inputs."""
        with ExactDerivatives():
            outputs: Tensor = self.network(inputs)
        return outputs

    def outputs_at(self, values: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """(n, ...) raw network outputs with these values by name in place of parameters; for `torch.func` too.

        `functional_call` alone leaves a network changed in which a module has two names.
        """
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        # Every place of every parameter, each module under its first name only.
        slots = {
            f"{path}.{slot}".lstrip("."): names[id(parameter)]
            for path, module in self.network.named_modules()
            for slot, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        }
        placed = {slot: values[name] for slot, name in slots.items() if name in values}
        with ExactDerivatives():
            # Whoever asks may run the same inputs again, which the network may change in place.
            outputs: Tensor = functional_call(self.network, placed, (inputs.clone(),), tie_weights=False)
        return outputs

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log p(yᵢ | xᵢ, θ) of outputs at any θ.

        Raises:
            RepairError: if the likelihood does not make one number an example of them.
        """
        return self._one_each(self.likelihood.log_likelihood(outputs, targets), outputs, targets)

    @fitting
    @torch.no_grad()
    def outputs(self, examples: Examples) -> Tensor:
        """(n, ...) raw network outputs.

        Raises:
            RepairError: for no examples, whose outputs have no shape.
        """
        if not len(examples):
            raise RepairError("outputs were asked for of no examples: give at least one")
        outputs = PerExample(len(examples))
        for positions, inputs, _ in self.batches(examples, shared=True):
            outputs.put(positions, self.network(inputs))
        return outputs.whole()

    def log_likelihoods(self, examples: Examples) -> Tensor:
        """(n,) log p(yᵢ | xᵢ, θ̂), in double precision: in single precision whatever is nearly sure would round to 0."""
        return self._measured((self._log_likelihood_of_outputs,), examples)[0]

    def mean_log_likelihood(self, examples: Examples) -> float:
        """(1/n) Σ log p(yᵢ | xᵢ, θ̂) in nats; NaN for no examples."""
        return float(self.log_likelihoods(examples).mean())

    def margins(self, examples: Examples) -> Tensor:
        """(n,) how far the given target's output leads all others; negative where it does not."""
        return self._measured((self.likelihood.margin,), examples)[0]

    def disbelief(self, examples: Examples) -> Tensor:
        """(n,) in nats, how far each log p(yᵢ | xᵢ, θ̂) is below even odds, in double precision.

        Positive where the given target is less likely than all that it could be instead.
        """

        def measure(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.likelihood.even_odds(outputs) - self._log_likelihood_of_outputs(outputs, targets)

        return self._measured((measure,), examples)[0]

    def believed(self, examples: Examples) -> float:
        """Share of the examples whose given target is at least as likely as all others together; NaN for none."""
        return float((self.disbelief(examples) <= 0).double().mean()) if len(examples) else float("nan")

    def correct(self, examples: Examples) -> Tensor:
        """(n,) in [0, 1]: how right the prediction for each example is."""
        return self._measured((self.likelihood.correct,), examples)[0]

    def accuracy(self, examples: Examples) -> float:
        """Mean of `correct`; NaN for no examples."""
        return float(self.correct(examples).double().mean()) if len(examples) else float("nan")

    def performance(self, examples: Examples) -> tuple[float, float]:
        """`mean_log_likelihood` and `accuracy`, in one pass."""
        measures = self._log_likelihood_of_outputs, self.likelihood.correct
        mean, correct = (float(values.double().mean()) for values in self._measured(measures, examples))
        return mean, correct

    @fitting
    def weighted_gradient(self, examples: Examples, weights: ArrayLike | Tensor | None = None) -> Tensor:
        """(d,) Σᵢ wᵢ ∇ log p(yᵢ | xᵢ, θ̂); all weights are 1 by default. With G the (n, d) gradients, Gᵀw.

        One weighted backward pass a batch; no single example's gradient is ever stored.

        Raises:
            RepairError: if there is not one finite weight for each example.
        """
        parameters = list(self.parameters.values())
        total = torch.zeros(sum(p.numel() for p in parameters), device=self.device, dtype=self.dtype)
        if weights is not None:
            weights = torch.as_tensor(np.asarray(weights) if not torch.is_tensor(weights) else weights)
            weights = weights.to(self.device, self.dtype)
            if weights.shape != (len(examples),) or not bool(torch.isfinite(weights).all()):
                raise RepairError(
                    f"weights of shape {tuple(weights.shape)}, {int((~torch.isfinite(weights)).sum())} of them NaN or "
                    f"infinite, were given for {len(examples)} examples: give one finite number for each"
                )
        for positions, x, y in self.batches(examples, shared=True):
            with backward_passes():
                log_likelihood = self.log_likelihood(self.run(x), y)
                weighted = log_likelihood if weights is None else weights[positions] * log_likelihood
                gradients = torch.autograd.grad(weighted.sum(), parameters, materialize_grads=True)
            total += flatten(gradients)
        summed(total)
        return total

    @fitting
    def directional_derivatives(self, examples: Examples, direction: Tensor) -> Tensor:
        """(n,) ⟨∇ log p(yᵢ | xᵢ, θ̂), v⟩ for a direction v of shape (d,). With G the (n, d) gradients, Gv.

        One forward-mode pass; costs about two forward passes and no (n, d) memory.

        Raises:
            RepairError: if the direction is of another length, or a layer cannot be differentiated in forward mode.
        """
        parameters = {name: p.detach() for name, p in self.parameters.items()}
        tangents = {name: t.contiguous() for name, t in self.split(direction.to(self.dtype)).items()}
        derivatives = PerExample(len(examples), self._none)
        for positions, x, y in self.batches(examples, shared=True):

            def log_likelihood(values: dict[str, Tensor], x: Tensor = x, y: Tensor = y) -> Tensor:
                return self.log_likelihood(self.outputs_at(values, x), y)

            with differentiable(
                self.network,
                "directional derivatives",
                "use what is made of gradients, kept in memory or in a scratch folder",
            ):
                slopes = jvp(log_likelihood, (parameters,), (tangents,))[1].detach()
            derivatives.put(positions, slopes)
        return derivatives.whole()

    @property
    def _none(self) -> Tensor:
        """(0,) what there is to say of no examples."""
        return torch.empty(0, device=self.device, dtype=self.dtype)

    def _log_likelihood_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.double() if targets.is_floating_point() else targets
        return self.likelihood.log_likelihood(outputs.double(), targets)

    @fitting
    @torch.no_grad()
    def _measured(self, measures: Sequence[Measure], examples: Examples) -> list[Tensor]:
        """(n,) of every measure of outputs and targets."""
        found = [PerExample(len(examples), self._none) for _ in measures]
        for positions, x, y in self.batches(examples, shared=True):
            outputs = self.network(x)
            for values, measure in zip(found, measures, strict=True):
                values.put(positions, self._one_each(measure(outputs, y), outputs, y))
        return [values.whole() for values in found]

    def _one_each(self, values: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values as given, one for each target.

        Raises:
            RepairError: if they are others.
        """
        if values.shape != targets.shape[:1]:
            raise RepairError(
                f"of outputs of shape {tuple(outputs.shape)} for {len(targets)} examples the likelihood "
                f"{self.likelihood.name} makes numbers of shape {tuple(values.shape)}: give a network and a likelihood "
                "that make one number for each example"
            )
        return values
