"""What a stream draws from: documents, how one becomes a row, and how rows become a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.dropped import Dropped


@runtime_checkable
class Documents(Protocol):
    """Documents by number: a list, or `DocumentShards`. What reading raises as a `ValueError` is a broken record.

    Example:
        >>> isinstance(["A cat.", "A dog."], Documents), isinstance((text for text in "ab"), Documents)
        (True, False)
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class MakeExample(Protocol):
    """Makes a row of a document, the same one whenever it is called with the same key, or says why it cannot.

    What it draws at random, it draws from the key: the same row for the same key, in whichever worker.

    Example:
        >>> def every_byte(document: str, *, key: tuple[Any, ...]) -> FlamingoExample | Dropped:
        ...     return FlamingoExample(list(document.encode())) if document else Dropped("empty")
        >>> every_byte("cat", key=(0, 0, "pages/17")).input_ids
        [99, 97, 116]
    """

    def __call__(self, document: Any, /, *, key: tuple[Any, ...]) -> FlamingoExample | Dropped:
        """Make the row."""


Collate = Callable[[Sequence[FlamingoExample]], FlamingoBatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSource:
    """One data set of a training run, such as pages, or pairs, or clips.

    Args:
        name: Stands in states, errors and counts; also decides the order, together with the seed.
        documents: The documents by number. Where they have a `fingerprint`, states are held against it.
        make: Makes a row of a document. It gets a key of the seed, the epoch and the sample, `(seed, epoch, "m3w/17")`,
            and should draw everything random from it. To workers it travels by pickle.
        collate: Makes a batch of rows, such as `functools.partial(collate, pad_id=0)`.
        batch_size: Rows of a batch, over all ranks.
        weight: Factor on the loss, which is the trainer's affair; a mixture draws nothing from a source of weight 0.
        shuffle: False keeps the order of the documents, epoch after epoch.

    Raises:
        TypeError: If documents cannot be taken by number.
        ValueError: If there is no document, the batch size is below 1, or the weight is negative.

    Example:
        >>> from functools import partial
        >>> from flamingo_blocks.data import collate
        >>> source = DataSource(
        ...     name="numbers",
        ...     documents=[[1, 2], [3]],
        ...     make=lambda document, key: FlamingoExample(document),
        ...     collate=partial(collate, pad_id=0),
        ...     batch_size=2,
        ... )
        >>> source.size
        2

    Source:
        Flamingo (arXiv 2204.14198), appendix B.3.1: batches of 256 pages, 512 and 512 pairs and 64 clips a step.
    """

    name: str
    documents: Documents
    make: MakeExample
    collate: Collate
    batch_size: int
    weight: float = 1.0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.documents, str | bytes) or not isinstance(self.documents, Documents):
            raise TypeError(
                f"documents of source {self.name!r} is a {type(self.documents).__name__}, wanted documents by number: "
                "a list, or DocumentShards of a folder"
            )
        if len(self.documents) < 1:
            raise ValueError(f"documents of source {self.name!r} are none, wanted one at least")
        if self.batch_size < 1:
            raise ValueError(f"batch_size of source {self.name!r} is {self.batch_size}, wanted 1 or more")
        if not self.weight >= 0:
            raise ValueError(f"weight of source {self.name!r} is {self.weight}, wanted 0 or more")

    @property
    def size(self) -> int:
        """Number of documents."""
        return len(self.documents)
