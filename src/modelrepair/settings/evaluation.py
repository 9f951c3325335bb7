"""What evaluate is told of the run that it measures."""

from __future__ import annotations

from pydantic import Field

from modelrepair.settings import Flag, Seed, Settings, Text, Whole
from modelrepair.settings.failures import CkaSettings


class EvaluationSettings(Settings):
    """What is measured at a price."""

    relearning_steps: Whole = 0
    """At most so many steps on the causes are taken with the repaired model and the reference, to see how soon they
    know again what was deleted; 0: this is not measured."""
    single_edits: Whole = 0
    """So many failures are edited each by itself, from the model that fails, where the treatment is a knowledge editor
    or closed-form; 0: this is not measured."""
    edits_in_a_row: Whole = 0
    """So many failures are edited one after another by such a treatment, from the model that fails, and what is then
    answered is measured after 1, 10, 100 and so on, and after all; 0: this is not measured."""


class Description(Settings):
    """What is run, in names.

    Attributes:
        uses: what the method was given beside the training data and the model: "failures" (the query alone), "guard"
            (and accuracy on discovery, to judge points by), "reserved" (and a clean set to train on), "discovery" (and
            its examples to train on), "request" (no failures, the causes).
        known: the selection of the causes that were known beforehand; None where none were.
        scored: whether training examples were ranked.
        reference: what the reference is, in words; None where there is none.
        retrained: whether that is the model retrained without the causes, beside which an erasure is measured.
        parameters: what `-S` takes to run the same again, by name.
        seed: of what is random in the measurements.
        measured: what is measured at a price.
        cka: how facts are assessed; None where examples state none.
    """

    method: Text
    identification: Text
    treatment: Text
    selection: Text
    uses: Text
    known: Text | None = None
    scored: Flag
    reference: Text | None = None
    retrained: Flag = False
    parameters: dict[str, Text] = Field(default={})
    seed: Seed = 0
    measured: EvaluationSettings = EvaluationSettings()
    cka: CkaSettings | None = None
