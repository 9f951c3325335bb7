"""LeNet-5 (LeCun et al. 1998) as the repair papers use it."""

from __future__ import annotations

from torch import Tensor, nn

from modelrepair.errors import RepairError


class LeNet5(nn.Module):
    """Two convolutions with max-pooling and three linear layers; 61,706 parameters for 28×28 grey images.

    Layers 1 to 5 of Huang et al. 2023 (A.2) are conv1, conv2, fc1, fc2, fc3.

    Args:
        input_shape: (channels, height, width).
        outputs: number of classes.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 12:
            raise RepairError(
                f"lenet5 takes images of shape (channels, height, width) of at least 12×12 pixels, "
                f"not inputs of shape {tuple(input_shape)}: choose another model"
            )
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, outputs) of images (n, channels, height, width)."""
        hidden = self.pool(self.conv1(images).relu())
        hidden = self.pool(self.conv2(hidden).relu()).flatten(1)
        logits: Tensor = self.fc3(self.fc2(self.fc1(hidden).relu()).relu())
        return logits


Network = LeNet5
