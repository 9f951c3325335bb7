"""Settings of networks. Only choose-method reads them, so that a new one retrains nothing."""

from __future__ import annotations

from typing import ClassVar

from modelrepair.settings.base import Flag, Settings, choose
from modelrepair.settings.training import ModelSettings


class NetworkSettings(Settings):
    """A network without options.

    Attributes:
        batchwise: whether examples of a batch influence each other while it is trained.
    """

    batchwise: ClassVar[bool] = False


class NormalisedSettings(NetworkSettings):
    """A network with batch normalisation."""

    batchwise: ClassVar[bool] = True


class LinearSettings(NetworkSettings):
    """A linear model."""

    bias: Flag = False
    """Whether there is one."""


NETWORKS: dict[str, type[NetworkSettings]] = {
    "conv4": NetworkSettings,
    "lenet5": NetworkSettings,
    "linear": LinearSettings,
    "resnet20": NormalisedSettings,
}
"""The options of each network, which is the module of that name in `networks/`."""


def check_network(model: ModelSettings) -> None:
    """Nothing if there is such a network with such options.

    Raises:
        RepairError: if there is none, or the options are not its own.
    """
    choose("network", NETWORKS, model.network)(**model.options)
