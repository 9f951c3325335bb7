"""The loss change on average over the posterior, for updates that leave a distribution and not a mode alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import ExpectedLossChangeSettings
from modelrepair.uncertainty.mean_field import MeanField, expected_log_likelihood_change


class ExpectedLossChange(ExpectedLossChangeSettings, Influence):
    """E_p₀[log p(z | θ)] − E_q[log p(z | θ)] in nats (Tanno et al. 2022, Eq. 9), by Monte Carlo.

    p₀ is the posterior of the training data and q the one with the failures inserted; both expectations see the same
    noise. The mean standard error of the scores is printed: ranks of scores that differ by less are chance. As in
    `LossChange` each example carries its share α/2·‖θ‖² of a weight decay, whose expectation α/2·(‖μ‖² + Σσ²) is exact.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        if investigation.gaussians is None:
            raise RepairError(
                "the score expected-loss-change averages over a posterior, and the posterior update gave a mode alone: "
                "insert the failures with online-ewc or variational, or choose another score"
            )
        before, after = investigation.gaussians
        change, errors = expected_log_likelihood_change(
            before, after, investigation.examples, samples=self.samples, seed=investigation.seed
        )
        print(
            f"expected loss changes from {self.samples} pairs of draws: mean standard error {errors.mean():.2g} nats, "
            f"beside a standard deviation of {change.std():.2g} among the scores",
            flush=True,
        )
        return change + self.weight_decay / 2 * (_expected_square(after) - _expected_square(before))


def _expected_square(gaussian: MeanField) -> float:
    """E‖θ‖² = ‖μ‖² + Σⱼ σⱼ²."""
    mean = gaussian.model.parameter_vector.double()
    return float(mean.square().sum() + gaussian.precision.double().reciprocal().sum())
