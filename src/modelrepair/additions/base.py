"""What every addition is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modelrepair.additions.selector import Selector
from modelrepair.additions.sites import Site


class Addition(nn.Module, ABC):
    """A module that adds to what others of a network say, without being one of them.

    As it is made it adds nothing: the extended network says what the network itself does.

    Args:
        selector: says for which inputs it adds anything; None for all.
    """

    kind: ClassVar[str]

    def __init__(self, selector: Selector | None = None) -> None:
        super().__init__()
        self.selector = selector

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What it is made with, beside the network."""

    @property
    @abstractmethod
    def modules_beside(self) -> set[str]:
        """Paths of the network's modules that it reads or adds to."""

    @property
    def needs_inputs(self) -> bool:
        """Whether it looks at the inputs of the network, and not at what its modules are given alone."""
        return False

    @property
    def description(self) -> dict[str, Any]:
        """What `make_addition` makes its like of, but for the weights."""
        selector = None if self.selector is None else self.selector.options
        return {"kind": self.kind, **self.options, "selector": selector}

    @abstractmethod
    def attach(self, network: nn.Module, inputs: Tensor | None, on: Tensor | None) -> list[RemovableHandle]:
        """Have it add to what the modules of a network say, until the handles are removed.

        Args:
            network: that it was made for.
            inputs: (n, ...) that the network is about to be run on; None where it is run from a later point on.
            on: (n,) for which of them it adds; None for all.
        """


class SideNetworks(Addition):
    """An addition with one module at each of some sites.

    Args:
        sites: where they are.
        sides: for each, a module from (n, ..., what the site reads) to (n, ..., what it adds).
        selector: as of any addition.
    """

    def __init__(self, sites: list[Site], sides: list[nn.Module], selector: Selector | None) -> None:
        super().__init__(selector)
        self.sites = sites
        self.sides = nn.ModuleList(sides)

    @property
    def modules_beside(self) -> set[str]:
        return {path for site in self.sites for path in (site.reads, site.adds_to)}

    def attach(self, network: nn.Module, inputs: Tensor | None, on: Tensor | None) -> list[RemovableHandle]:
        handles = []
        for site, side in zip(self.sites, self.sides, strict=True):
            said: list[Tensor] = []

            def ask(
                module: nn.Module,
                given: tuple[Tensor, ...],
                side: nn.Module = side,
                said: list[Tensor] = said,
            ) -> None:
                said.append(side(given[0]))

            def add(
                module: nn.Module,
                given: tuple[Tensor, ...],
                output: Tensor,
                site: Site = site,
                said: list[Tensor] = said,
            ) -> Tensor:
                return added(output, said.pop(), on, site.outputs)

            handles += [
                network.get_submodule(site.reads).register_forward_pre_hook(ask),
                network.get_submodule(site.adds_to).register_forward_hook(add),
            ]
        return handles


def added(
    output: Tensor, addition: Tensor, on: Tensor | None, outputs: tuple[int, int] | None = None
) -> Tensor:
    """(n, ..., d) an output with an addition where it is on; elsewhere the same bits as before.

    Args:
        output: (n, ..., d).
        addition: (n, ..., stop − start).
        on: (n,) truth values; None for all true.
        outputs: (start, stop) of the d outputs to which it is added; all by default.
    """
    if outputs is not None:
        start, stop = outputs
        addition = F.pad(addition, (start, output.shape[-1] - stop))
    changed = output + addition
    if on is None:
        return changed
    return torch.where(on.view(-1, *[1] * (output.ndim - 1)), changed, output)
