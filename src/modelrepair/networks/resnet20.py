"""ResNet-20 for small images (He et al. 2016, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.errors import RepairError


class ResNet20(nn.Module):
    """Three stages of three residual blocks, 16, 32 and 64 channels wide; 269,722 parameters for CIFAR-10.

    Shortcuts have no parameters: where a stage halves the image and doubles the channels, they take every other
    pixel and fill up with zeros (option A).

    Args:
        input_shape: (channels, height, width).
        outputs: number of classes.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 4:
            raise RepairError(
                "resnet20 takes images of shape (channels, height, width) of at least 4×4 pixels, "
                f"not inputs of shape {tuple(input_shape)}: choose another model"
            )
        self.conv = nn.Conv2d(input_shape[0], 16, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.stage1 = nn.Sequential(*(_Block(16, 16) for _ in range(3)))
        self.stage2 = nn.Sequential(_Block(16, 32), *(_Block(32, 32) for _ in range(2)))
        self.stage3 = nn.Sequential(_Block(32, 64), *(_Block(64, 64) for _ in range(2)))
        self.fc = nn.Linear(64, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, outputs) of images (n, channels, height, width)."""
        hidden: Tensor = self.norm(self.conv(images)).relu()
        hidden = self.stage3(self.stage2(self.stage1(hidden)))
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions beside a shortcut; the first halves the image where the number of channels grows."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if channels == outputs else 2
        self.added = outputs - channels
        self.conv1 = nn.Conv2d(channels, outputs, kernel_size=3, stride=self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm2(self.conv2(self.norm1(self.conv1(images)).relu()))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        padded = F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        total: Tensor = hidden + padded
        return total.relu()


Network = ResNet20
