"""What passes of a batch through a network take in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Footprint:
    """Bytes for each example of a batch.

    Attributes:
        element: of one number of the model's type.
        inputs: what the network is given.
        saved: what autograd keeps of a forward pass for the backward pass, without parameters.
        received: what the watched layers received.
        sent: what they sent on, and so the gradients by it.
        largest: the largest of these.
        patches: what a convolution meets, cut out, at most.
        rows: the rows of one parameter, at most, as they come from its layer, with what they are made of; without
            products, which are written out a few at a time.
        single: the gradients of all parameters that are differentiated example by example, with what that keeps.
    """

    element: int
    inputs: int = 0
    saved: int = 0
    received: int = 0
    sent: int = 0
    largest: int = 0
    patches: int = 0
    rows: int = 0
    single: int = 0

    @property
    def _forward(self) -> int:
        # The batch, and the copy of it that the network may change.
        return 2 * self.inputs + self.saved + 2 * self.largest

    @property
    def held(self) -> int:
        """At the worst moment of a pass that makes rows."""
        worked = self.received + self.sent + max(self.rows, 2 * self.largest)
        return max(1, self._forward, 2 * self.inputs + worked, 2 * self.inputs + self.single)

    @property
    def touched(self) -> int:
        """All that a pass allocates and frees one after the other, where nothing freed is used again."""
        return max(self.held, self._forward + self.sent + self.rows + self.single)

    def plain(self, element: int) -> int:
        """At the worst moment of a forward and a backward pass in a type of so many bytes a number."""
        # Convolutions in float64 have no kernels on CPUs but products with patches.
        numbers = 2 * self.inputs + self.saved + 2 * self.largest + (self.patches if element == 8 else 0)
        return numbers * element // self.element
