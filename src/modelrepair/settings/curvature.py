"""Settings of curvatures: which there are, and the options of their fits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelrepair.settings import Bytes, Count, Positive, Settings, Text, Whole, expect

CurvatureName = Literal[
    "block",
    "cg",
    "diagonal",
    "ekfac",
    "gram",
    "hessian",
    "identity",
    "kfac",
    "lissa",
    "synaptic-intelligence",
]
OptionalCount = Annotated[Count | None, expect("a whole number of 1 or more, or null")]


class CurvatureSettings(Settings):
    """A curvature without options."""

    forgets: ClassVar[bool] = False
    """Whether examples can be left out after the fit (`without`)."""


class FisherSettings(CurvatureSettings):
    """A Fisher made of the gradients of examples."""

    minibatch: Count = 1
    """Examples whose summed gradient makes one row."""
    memory: Bytes = 2**30
    """Bytes that gradients may take; what does not fit is computed again in each pass."""
    scratch: Text | None = None
    """A folder on disk for what does not fit; by default nothing is written."""


class GramSettings(FisherSettings):
    """The exact full matrix, through inner products of gradients."""

    forgets: ClassVar[bool] = True


class BlockSettings(FisherSettings):
    """Blocks of the diagonal."""

    block_size: OptionalCount = None
    """Parameters in a block; null for a block a layer."""


class HessianSettings(CurvatureSettings):
    """The Hessian of the mean loss, for models of a few thousand parameters."""

    forgets: ClassVar[bool] = True

    block_size: OptionalCount = None
    """Parameters in a block; null for the whole matrix."""
    memory: Bytes = 2**30
    """Bytes that the matrix may take."""


class IdentitySettings(CurvatureSettings):
    """M = 0: only the damping is stiff."""

    forgets: ClassVar[bool] = True


class ConjugateGradientSettings(CurvatureSettings):
    """Conjugate gradients on products with the matrix."""

    matrix: Literal["fisher", "ggn", "hessian"] = "fisher"
    """What M is."""
    tolerance: Positive = 1e-4
    """Residual ‖F̂x − v‖/‖v‖ at which to stop."""
    iterations: Count = 1000
    """At most this many products."""


class LissaSettings(ConjugateGradientSettings):
    """LiSSA, a series of products with the matrix (Agarwal et al. 2017)."""

    scale: Annotated[Positive | None, expect("a number above 0, or null to have it measured")] = None
    """σ; by default 1.1 times the largest eigenvalue of F̂."""
    sample: OptionalCount = None
    """Examples drawn for each product; null for all of them."""
    repeats: Count = 1
    """Runs to average, where examples are drawn."""
    seed: Whole = 0
    """Of the drawing."""


class SynapticIntelligenceSettings(CurvatureSettings):
    """What each parameter did for the loss of the base training, over how far it went (Zenke et al. 2017)."""

    xi: Positive = 0.1
    """ξ, in squares of parameters: keeps those that hardly moved from being infinitely stiff."""


class FisherTable(Settings):
    """Options of each curvature's fit, at the base model on the training data."""

    block: BlockSettings = BlockSettings()
    cg: ConjugateGradientSettings = ConjugateGradientSettings()
    diagonal: CurvatureSettings = CurvatureSettings()
    ekfac: CurvatureSettings = CurvatureSettings()
    gram: GramSettings = GramSettings()
    hessian: HessianSettings = HessianSettings()
    identity: IdentitySettings = IdentitySettings()
    kfac: CurvatureSettings = CurvatureSettings()
    lissa: LissaSettings = LissaSettings()
    synaptic_intelligence: SynapticIntelligenceSettings = Field(
        default=SynapticIntelligenceSettings(), alias="synaptic-intelligence"
    )

    def of(self, name: CurvatureName) -> CurvatureSettings:
        """The options of one curvature."""
        options: CurvatureSettings = getattr(self, name.replace("-", "_"))
        return options


class FitFisher(Settings):
    """What the stage fit-fisher is given: the curvatures that the method asks for, with their options."""

    curvatures: dict[CurvatureName, dict[str, Any]]
