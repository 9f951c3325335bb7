"""Settings of networks. Only choose-method reads them, so that a new one retrains nothing."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from modelrepair.errors import RepairError
from modelrepair.settings import Count, Flag, Settings, Text, Whole, choose, expect, shown
from modelrepair.settings.training import ModelSettings

PUBLISHED = "published"
"""What `model.pretrained` calls the weights that lie in the folder of a language model."""
CODE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


class NetworkSettings(Settings):
    """A network without options."""

    in_words: ClassVar[bool | None] = False
    """Whether inputs are numbers of words; None where only the network itself knows."""

    @property
    def batchwise(self) -> bool:
        """Whether examples of a batch influence each other while it is trained."""
        return False

    @property
    def room(self) -> dict[str, int] | None:
        """In how many layers there is room for additions, by the sites' names; None where only the network knows."""
        return {}


class FactLmSettings(NetworkSettings):
    """An encoder of sentences."""

    in_words: ClassVar[bool | None] = True
    width: Count = 128
    """d, the numbers of a position; a multiple of `heads`."""
    layers: Count = 4
    heads: Count = 4
    hidden: Count = 512
    """Of the two-layer network of each layer."""

    @property
    def room(self) -> dict[str, int] | None:
        inner = ("states", "feed-forward", "feed-forward-in", "feed-forward-out", "query", "value")
        return {**dict.fromkeys(inner, self.layers), "answer": 1}

    @model_validator(mode="after")
    def _divides(self) -> FactLmSettings:
        if self.width % self.heads:
            raise ValueError(
                f"width is {self.width} and heads is {self.heads}, each of which has as many numbers of a position: "
                "make width a multiple of heads"
            )
        return self


class NormalisedSettings(NetworkSettings):
    """A network with batch normalisation."""

    @property
    def batchwise(self) -> bool:
        return True


class LinearSettings(NetworkSettings):
    """A linear model."""

    bias: Flag = False
    """Whether there is one."""


class TorchvisionSettings(NetworkSettings):
    """A classifier of torchvision."""

    classifier: Text
    """Its name there, such as resnet50."""
    size: Annotated[Count | None, expect("a number of pixels of 1 or more, or null")] = None
    """Height and width that images are brought to on the device, such as 224; null leaves them as they are."""
    standardised: Flag = False
    """Whether images lose ImageNet's mean and are divided by its deviation, as torchvision's weights expect."""

    @model_validator(mode="after")
    def _is_there(self) -> TorchvisionSettings:
        choose("classifier of torchvision", CLASSIFIERS, self.classifier)
        return self

    @property
    def batchwise(self) -> bool:
        return CLASSIFIERS[self.classifier]


class TransformersSettings(NetworkSettings):
    """A language model of transformers, which lies in a folder."""

    in_words: ClassVar[bool | None] = True
    folder: Text
    """In the folder `weights`: what `save_pretrained` of the model and of its tokeniser wrote, or a GGUF file."""

    @property
    def room(self) -> dict[str, int] | None:
        return None


class OwnSettings(NetworkSettings):
    """A class of the user's own."""

    in_words: ClassVar[bool | None] = None
    code: Annotated[Text, Field(pattern=CODE), expect("package.module:Class, such as digits:Net")]
    """`package.module:Class`, a torch.nn.Module in the folder `networks`."""
    arguments: Annotated[dict[str, Any], expect("names with values, {} for none")] = Field(default={})
    """What the class is called with."""
    output: Annotated[Text | Whole | None, expect("the name or the number of an output, or null")] = None
    """Of a network that returns a dict, an object or a tuple, which of it are the outputs; null: it returns them."""
    normalises: Flag = False
    """Whether it normalises by batches while it is trained, which `sgd-influence` cannot go through again."""

    @property
    def batchwise(self) -> bool:
        return self.normalises

    @property
    def room(self) -> dict[str, int] | None:
        return None


CLASSIFIERS = {
    **dict.fromkeys(
        (
            *("alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"),
            *(
                "squeezenet1_0",
                "squeezenet1_1",
                "swin_b",
                "swin_s",
                "swin_t",
                "swin_v2_b",
                "swin_v2_s",
                "swin_v2_t",
            ),
            *("vgg11", "vgg13", "vgg16", "vgg19", "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32"),
        ),
        False,
    ),
    **dict.fromkeys(
        (
            *("densenet121", "densenet161", "densenet169", "densenet201"),
            *(f"efficientnet_b{size}" for size in range(8)),
            *(
                "efficientnet_v2_l",
                "efficientnet_v2_m",
                "efficientnet_v2_s",
                "googlenet",
                "inception_v3",
                "maxvit_t",
            ),
            *("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
            *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
            *(
                f"regnet_{kind}_{size}"
                for kind in "xy"
                for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf")
            ),
            *("regnet_x_32gf", "regnet_y_32gf", "regnet_y_128gf"),
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
            *("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
            *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "wide_resnet50_2", "wide_resnet101_2"),
        ),
        True,
    ),
}
"""torchvision's classifiers, and whether they have batch normalisation."""


NETWORKS: dict[str, type[NetworkSettings]] = {
    "conv4": NetworkSettings,
    "factlm": FactLmSettings,
    "lenet5": NetworkSettings,
    "linear": LinearSettings,
    "own": OwnSettings,
    "resnet18": NormalisedSettings,
    "resnet20": NormalisedSettings,
    "torchvision": TorchvisionSettings,
    "transformers": TransformersSettings,
}
"""The options of each network, which is the module of that name in `networks/`."""


def check_network(model: ModelSettings) -> NetworkSettings:
    """The options of the network, which there is.

    Raises:
        RepairError: if there is none, the options are not its own, or its weights cannot be had.
    """
    kind = choose("network", NETWORKS, model.network)
    try:
        chosen = kind(**model.options)
    except RepairError as error:
        raise RepairError(f"model.options of the network {model.network}: {error}") from None
    pretrained = model.pretrained
    if isinstance(chosen, TransformersSettings):
        if pretrained not in (None, PUBLISHED) and not model.from_file:
            raise RepairError(
                f"model.pretrained is {shown(pretrained)}, and the network transformers has the weights that lie in "
                f"its folder: set it to {PUBLISHED}, or to null for random ones"
            )
    elif pretrained is not None and not model.from_file and not isinstance(chosen, TorchvisionSettings):
        raise RepairError(
            f"model.pretrained is {shown(pretrained)}, and {model.network} has no published weights: give a file in "
            "the folder weights, whose name ends in .safetensors"
        )
    return chosen
