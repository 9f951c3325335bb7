"""A folder of images by class, of which somebody put some into the wrong folder: which files are they?

python examples/image_folder.py     # seconds; writes digits/, of the images that come with scikit-learn
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

import modelrepair
from modelrepair.vision import torchvision  # as `import torchvision`, which fails beside some builds of torch

torch.set_num_threads(2)
draw, digits, folder = np.random.default_rng(0), load_digits(), Path("digits")
shutil.rmtree(folder, ignore_errors=True)
moved = set()
for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
    side, kind = ("train" if number < 1000 else "test"), digit
    # A third of the training images of 3 and 8 lie in each other's folder.
    if side == "train" and digit in (3, 8) and draw.random() < 0.35:
        kind = 11 - digit
        moved.add(f"{number:04}.png")
    path = folder / side / str(kind) / f"{number:04}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype(np.uint8)).save(path)

read = torchvision.transforms.Compose([torchvision.transforms.Grayscale(), torchvision.transforms.ToTensor()])
train, test = (torchvision.datasets.ImageFolder(folder / side, read) for side in ("train", "test"))
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
)
optimiser = torch.optim.Adam(network.parameters(), 0.01)
for _ in range(15):
    for images, labels in DataLoader(train, batch_size=50, shuffle=True):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()

# Training that augments its images has a data set of its own; here it is the one without.
result = modelrepair.repair(network, train, None, test, classes=train.classes, checkpoints="progress")
found = [Path(train.samples[position][0]) for position in result.causes]
hits = sum(path.name in moved for path in found)
print(f"{len(found)} files are suspect, {hits} of which are among the {len(moved)} that were moved:")
print("\n".join(map(str, found[:5])))
numbers = result.measured["repair"]
print(f"right: {numbers['before']['all']:.1%} before, {numbers['after']['all']:.1%} after")
