"""Four convolutions, as the repair papers use them beside LeNet-5."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.errors import RepairError


class Conv4(nn.Module):
    """Two pairs of 3×3 convolutions, 32 and 64 channels wide, with max-pooling between them, the mean over the image,
    and a linear layer; 65,642 parameters for grey images of ten classes.

    Layers 1 to 5 of Huang et al. 2023 (A.2) are conv1 to conv4 and fc.

    Args:
        input_shape: (channels, height, width).
        outputs: number of classes.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 2:
            raise RepairError(
                "conv4 takes images of shape (channels, height, width) of at least 2×2 pixels, "
                f"not inputs of shape {tuple(input_shape)}: choose another model"
            )
        self.conv1 = nn.Conv2d(input_shape[0], 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.conv4 = nn.Conv2d(64, 64, kernel_size=3, padding=1)
        self.fc = nn.Linear(64, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, outputs) of images (n, channels, height, width)."""
        hidden = F.max_pool2d(self.conv2(self.conv1(images).relu()).relu(), 2)
        hidden = self.conv4(self.conv3(hidden).relu()).relu()
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


Network = Conv4
