"""Products of curvature matrices with vectors, without the matrices, several vectors in one pass.

| matrix | M |
|---|---|
| hessian | −(1/n) Σᵢ ∇² log p(yᵢ | xᵢ, θ̂) |
| ggn | (1/n) Σᵢ JᵢᵀHᵢJᵢ, with J the Jacobian of the outputs and H = −∇² log p by the outputs (Schraudolph 2002) |
| fisher | (1/n) Σᵢ gᵢgᵢᵀ, the empirical Fisher |
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from modelrepair.models.differentiable import differentiable
from modelrepair.models.examples import Examples
from modelrepair.models.passes import summed
from modelrepair.models.precision import full_precision
from modelrepair.models.trained_model import TrainedModel

Values = dict[str, Tensor]


def matrix_product(matrix: str, model: TrainedModel, examples: Examples, vectors: Tensor) -> Tensor:
    """(d, k) M times vectors (d, k), in the vectors' dtype; computed in the model's.

    Args:
        matrix: one of `MATRICES`.
        model: at θ̂.
        examples: n of them.
        vectors: k of them.

    Raises:
        RepairError: if a layer cannot be differentiated as the product needs it.
    """
    values = {name: parameter.detach() for name, parameter in model.parameters.items()}
    product = MATRICES[matrix]
    rows = vectors.to(model.dtype).mT
    total = torch.zeros_like(rows)
    needs = differentiable(
        model.network,
        f"products with the curvature matrix {matrix}",
        "use a curvature made of single gradients, such as gram or diagonal",
    )
    with full_precision(), needs:
        for _, inputs, targets in model.batches(examples, shared=True):

            def single(vector: Tensor, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                image = product(model, values, inputs, targets, model.split(vector))
                return torch.cat([image[name].flatten() for name in values])

            total += _mapped(single, rows).detach()
    summed(total)
    return total.div_(len(examples)).mT.to(vectors.dtype)


def _mapped(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """(k, d) a function of each row, of all at once if the network allows it."""
    if len(rows) > 1:
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mapped: Tensor = vmap(function)(rows)
            return mapped
    return torch.stack([function(row) for row in rows])


def _hessian(model: TrainedModel, values: Values, inputs: Tensor, targets: Tensor, vector: Values) -> Values:
    def loss(values: Values) -> Tensor:
        return -model.log_likelihood(model.outputs_at(values, inputs), targets).sum()

    image: Values = jvp(grad(loss), (values,), (vector,))[1]
    return image


def _ggn(model: TrainedModel, values: Values, inputs: Tensor, targets: Tensor, vector: Values) -> Values:
    def run(values: Values) -> Tensor:
        return model.outputs_at(values, inputs)

    def loss(outputs: Tensor) -> Tensor:
        return -model.log_likelihood(outputs, targets).sum()

    outputs, change = jvp(run, (values,), (vector,))[:2]
    curved = jvp(grad(loss), (outputs,), (change,))[1]
    image: Values = vjp(run, values)[1](curved)[0]
    return image


def _fisher(model: TrainedModel, values: Values, inputs: Tensor, targets: Tensor, vector: Values) -> Values:
    def log_likelihood(values: Values) -> Tensor:
        return model.log_likelihood(model.outputs_at(values, inputs), targets)

    slopes = jvp(log_likelihood, (values,), (vector,))[1]
    image: Values = vjp(log_likelihood, values)[1](slopes)[0]
    return image


Product = Callable[[TrainedModel, Values, Tensor, Tensor, Values], Values]
MATRICES: dict[str, Product] = {"fisher": _fisher, "ggn": _ggn, "hessian": _hessian}
