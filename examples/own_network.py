"""A network of one's own, trained on digits of which some are labelled wrongly, and thirty that it gets wrong.

python examples/own_network.py      # seconds; 8×8 digits that come with scikit-learn
"""

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import modelrepair

torch.manual_seed(0)
torch.set_num_threads(1)
draw = np.random.default_rng(0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.hidden, self.last = nn.Linear(256, 64), nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = torch.max_pool2d(self.convolution(images).relu(), 2).flatten(1)
        return self.last(self.hidden(pooled).relu())


# What somebody has: digits of which two in five 3 are called 8 and 8 are called 3, which nobody knows; and a model.
digits = load_digits()
images = torch.from_numpy(digits.images[:, None] / 16).float()
order = draw.permutation(len(images))
train, test = order[:900], order[900:]
given = digits.target[train].copy()
swapped = np.isin(given, [3, 8]) & (draw.random(900) < 0.4)
given[swapped] = 11 - given[swapped]
loader = DataLoader(TensorDataset(images[train], torch.from_numpy(given)), batch_size=32, shuffle=True)
model = Net()
optimiser = torch.optim.Adam(model.parameters(), 1e-3)
for _ in range(40):
    for inputs, labels in loader:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()

# What they know: thirty images that it gets wrong, and more to see that nothing else breaks.
right = digits.target[test]
wrong = np.flatnonzero(model(images[test]).argmax(1).numpy() != right)[:30]
failures = images[test][wrong], right[wrong]
result = modelrepair.repair(model, loader, failures, (images[test], right), method="mend")

before, after = (result.measured["repair"][when] for when in ("before", "after"))
print(f"{len(result.causes)} examples taken as causes, {swapped[result.causes].mean():.0%} of them wrong")
print(f"accuracy on digits that no step has seen: {before['all']:.1%} before, {after['all']:.1%} after")
print(f"of failures that no step has seen {after['holdout']:.0%} are fixed")
save_file(result.model.state_dict(), "repaired.safetensors")
