"""ResNet-18 for small images (He et al. 2016, table 1, with the stem that papers on CIFAR-10 give it)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.errors import RepairError


class ResNet18(nn.Module):
    """Four stages of two residual blocks, 64, 128, 256 and 512 channels wide; 11,173,962 parameters for CIFAR-10.

    The stem is one 3×3 convolution and nothing is pooled before the first stage, so that images of 32×32 pixels reach
    the last one as 4×4. Where a stage halves the image its shortcut is a 1×1 convolution (option B).

    Args:
        input_shape: (channels, height, width).
        outputs: number of classes.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise RepairError(
                "resnet18 takes images of shape (channels, height, width) of at least 8×8 pixels, "
                f"not inputs of shape {tuple(input_shape)}: choose another model"
            )
        self.conv = nn.Conv2d(input_shape[0], 64, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.stage1 = nn.Sequential(_Block(64, 64), _Block(64, 64))
        self.stage2 = nn.Sequential(_Block(64, 128), _Block(128, 128))
        self.stage3 = nn.Sequential(_Block(128, 256), _Block(256, 256))
        self.stage4 = nn.Sequential(_Block(256, 512), _Block(512, 512))
        self.fc = nn.Linear(512, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, outputs) of images (n, channels, height, width)."""
        hidden: Tensor = self.norm(self.conv(images)).relu()
        hidden = self.stage4(self.stage3(self.stage2(self.stage1(hidden))))
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions beside a shortcut; the first halves the image where the number of channels grows."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if channels == outputs else 2
        self.conv1 = nn.Conv2d(channels, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(channels, outputs, kernel_size=1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(images)))))
        total: Tensor = hidden + self.shortcut(images)
        return total.relu()


Network = ResNet18
