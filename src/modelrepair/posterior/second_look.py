"""A second look: train on, on the failures and on what is still believed of the training data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.base import Edited, PosteriorUpdate, checked_weights
from modelrepair.settings.posterior import SecondLookSettings
from modelrepair.sound import Sound
from modelrepair.training.conditions import conditions_as
from modelrepair.training.descent import UNATTENDED, Oversight, descent_as, minimise
from modelrepair.training.epochs import epoch_steps, mean_loss
from modelrepair.training.repeated_passes import forward_of


class SecondLook(SecondLookSettings, PosteriorUpdate):
    """Maximise, over θ and over which training examples S are believed, r Σᵢ wᵢ log p(zᵢ | θ) + Σ_{z∈S} log p(z | θ).

    A model that fails because of wrong labels is not the best judge of them, one that has been repaired is a better
    one. So each look judges the training examples, believes those whose given target is at least as likely as all
    others together, and trains on for an epoch on these and on what is inserted (iterative trimmed loss minimisation,
    Shen & Sanghavi 2019, arXiv:1810.11874, with the share that is trimmed left to the judge). A judge that has learned
    little yet finds hardly any target that likely: of all training examples it believes the likeliest half at least, or
    another share, the setting `least`. Where it is known that it believes a share a of examples outside training, whose
    targets are right, one that believes more of the training examples than a has learned them by heart, the wrong ones
    with the right ones: it trains on the likeliest a alone, so that it forgets the others and can judge them. Where
    what was found to be wrong is no longer among the training examples, it may believe as many as it does, and one that
    doubts more than the others doubts too many: of the share w of wrong targets that follows (`Sound.share_right`) it
    believes the likeliest 1 − w, if these are more. The judge is the exponential mean over the looks of the parameters
    (as the teacher of Tarvainen & Valpola 2017, arXiv:1703.01780), which starts as θ̂ and is what comes out.

    Among thousands of training examples ten failures would not be heard, and it is they alone that tell what the model
    knows by heart from what is right. So in each look the m inserted ones are repeated until they are a `share` s of
    what it trains on, each as often as any other or once more, and R times at most, the setting `repeats`:
    r = max(1, min(R, s·|S| / ((1 − s)·m))). One that is learned no longer pulls, however often it comes; but ten that
    come twenty times each are learned by heart, and examples beside them forgotten.

    It needs the training data, as `kept`, and no curvature. What is deleted counts as not among `kept`, and is not
    looked at.
    """

    def edit(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature | None = None,
        count: int | None = None,
        kept: Examples | None = None,
        seed: int = 0,
        oversight: Oversight = UNATTENDED,
        sound: Examples | None = None,
        sifted: bool = False,
    ) -> Edited:
        """The judge after the last look or, where somebody watches, the best of those after each; see the base.

        `sound` are examples outside training whose targets are right, by which it is known how often the judge
        believes what is; `sifted` says whether what was found to be wrong is no longer among `kept`.
        """
        if kept is None:
            raise RepairError(
                "a second look trains on: give it the training examples that stay as `kept`, or choose another "
                "posterior update"
            )
        weights = checked_weights(evidence, weights)
        inserted = evidence.subset(weights > 0)
        edited, judge = model.copy(), model.copy()
        shares = torch.as_tensor(weights[weights > 0], device=model.device, dtype=model.dtype)
        believed, judged = np.empty(0, dtype=bool), 0
        # Of failures alone the model believes none: what it does of them says nothing of others.
        telling = sound if sound and (sifted or judge.believed(sound) > 0) else None
        conditions = conditions_as(self)

        def judge_training_examples() -> NDArray[np.bool_]:
            disbelief = judge.disbelief(kept)
            unknown = int(disbelief.isnan().sum())
            if unknown:
                raise RepairError(
                    f"the log-likelihoods of {unknown} of the {len(kept)} training examples are NaN: check their "
                    "inputs for NaN or infinity, or use a smaller learning rate"
                )
            return np.asarray((disbelief <= self._limit(disbelief, judge, telling, sifted)).cpu().numpy())

        forward = forward_of(edited, conditions)

        def losses(look: int) -> Iterator[Tensor]:
            nonlocal believed, judged
            # The first look may be gone through several times, and the judge moves only after it.
            if look != judged:
                believed, judged = judge_training_examples(), look
            repeated = self._repeated(len(inserted), int(believed.sum()), seed, look)
            pool = inserted.subset(repeated).followed_by(kept.subset(believed))
            if not len(pool):
                raise RepairError(
                    f"the model finds none of the {len(kept)} given targets of the training examples likely, and "
                    "nothing is inserted: there is nothing left to train on, unless at least some are believed"
                )
            each = torch.cat([shares[repeated], shares.new_ones(len(pool) - len(repeated))])
            for step in epoch_steps(
                len(pool),
                self.batch_size,
                seed=seed,
                purpose="second look",
                epoch=look,
                conditions=conditions,
            ):
                yield mean_loss(edited, pool, step, conditions, weights=each, forward=forward)

        def observe(point: TrainedModel) -> dict[str, float | Tensor]:
            further = oversight.observe(point) if oversight.observe else {}
            return {**further, "believed": float(believed.sum() / max(len(believed), 1))}

        most = len(kept) + self._wanted(len(inserted), len(kept))
        with conditions.laid_out(edited.network):
            course = minimise(
                edited,
                losses,
                dataclasses.replace(descent_as(self, self.looks), cautious=self.schedule == "constant"),
                oversight=dataclasses.replace(oversight, observe=observe),
                judge=judge,
                memory=self.memory,
                description="looking again",
                steps_a_round=math.ceil(most / self.batch_size),
            )
        return Edited(judge, course.trace, course.best_round)

    def _repeated(self, count: int, believed: int, seed: int, look: int) -> NDArray[np.int64]:
        """Positions of the inserted examples, of `count`, as a look trains on them beside so many that are believed."""
        if not count:
            return np.empty(0, dtype=np.int64)
        whole, once_more = divmod(self._wanted(count, believed), count)
        drawn = generator(seed, f"repeated in look {look}").permutation(count)[:once_more]
        return np.concatenate([np.tile(np.arange(count), whole), drawn])

    def _wanted(self, count: int, believed: int) -> int:
        """How many a look trains on for `count` inserted examples, beside so many that are believed."""
        wanted = round(self.share / (1 - self.share) * believed)
        return max(count, min(wanted, self.repeats * count))

    def _limit(self, disbelief: Tensor, judge: TrainedModel, sound: Examples | None, sifted: bool) -> float:
        """The highest disbelief, in nats below even odds, at which an example is believed."""
        if not len(disbelief):
            return 0.0
        least, most, believed = self.least, 1.0, float((disbelief <= 0).double().mean())
        if sound is not None and not sifted:
            most = max(least, judge.believed(sound))
        elif sound is not None and believed < least:
            least = max(least, Sound(judge.believed(sound), len(sound)).share_right(believed))
        # Rounded, so that a share of whole examples is not one more by the last digit.
        fewest, highest = (math.ceil(round(share * len(disbelief), 6)) for share in (least, most))
        if believed > most:
            return float(disbelief.kthvalue(highest).values) if highest else -math.inf
        return max(0.0, float(disbelief.kthvalue(fewest).values)) if fewest else 0.0
