"""The paper's data sets in folders of shards: sizes and weights, and the mixture of them that a model trains on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from flamingo_blocks.data import FlamingoBatch, SpecialTokens, collate
from flamingo_blocks.data.examples import AugmentImages, AugmentText, CaptionExamples, InterleavedExamples
from flamingo_blocks.data.loading import DataSource, Mixture, data_parallel_rank
from flamingo_blocks.data.shards import DocumentShards
from flamingo_blocks.data.video import clip_images
from flamingo_blocks.training.losses import flamingo_loss
from flamingo_blocks.training.objective import BatchParts, Objective
from flamingo_blocks.training.planning import BatchShape
from flamingo_blocks.training.runs.run_config import Feed
from flamingo_blocks.training.watching.measures import Measure


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """A folder of shards, and how it is trained on.

    Args:
        name: Stands in reports and checkpoints.
        folder: Of `.tar` shards: `documents/shards` of `flamingo-blocks data build`, or those of img2dataset or WebVid.
        kind: `"pages"`: random windows of interleaved text; `"captions"`: an image or clip and its text.
        rows: Rows of a step's batch, all ranks together.
        text: Most tokens of a row.
        weight: Factor on the loss.
        items: Most images of a window of pages; captions have one.
        frames: Frames taken of a clip, at one frame a second.
        mask_outside_chunks: As in `InterleavedExamples`, for pages.

    Example:
        >>> TrainingSet(name="pairs", folder=Path("pairs"), kind="captions", rows=512, text=64).shape.tokens
        32768
    """

    name: str
    folder: Path
    kind: Literal["pages", "captions"]
    rows: int
    text: int
    weight: float = 1.0
    items: int = 1
    frames: int = 1
    mask_outside_chunks: bool = False

    @property
    def shape(self) -> BatchShape:
        """For a plan of batches that come whole."""
        return self.shape_in(1)

    def shape_in(self, parts: int) -> BatchShape:
        """For a plan of batches that come in so many parts."""
        return BatchShape(
            rows=self.rows, text=self.text, items=self.items, frames=self.frames, weight=self.weight, parts=parts
        )


def paper_sets(data: Path, *, names: Sequence[str] = ("pages", "pairs", "clips"), divide: int = 1) -> list[TrainingSet]:
    """The data sets of the paper, with its weights, lengths and batch sizes.

    Args:
        data: Folder with `documents/shards`, `pairs`, `long_pairs`, `clips`, of which those that are named are read.
        names: Which: `"pages"` (its M3W), `"pairs"` (ALIGN), `"long_pairs"` (LTIP), `"clips"` (VTP).
        divide: Makes batches so many times smaller, for fewer processors.

    Returns:
        The sets, in this order.

    Raises:
        ValueError: If a name is unknown, or `divide` is no divisor of 64.

    Example:
        >>> [(each.name, each.rows, each.weight) for each in paper_sets(Path("data"), divide=64)]
        [('pages', 4, 1.0), ('pairs', 8, 0.2), ('clips', 1, 0.03)]

    Source:
        Flamingo (arXiv 2204.14198): weights of section 2.4; batches of appendix B.3.1, which are those of its
        ablations, for the final ones are not printed; 256 tokens and 5 images of a page, 8 frames of a clip.
    """
    known = {
        "pages": TrainingSet(
            name="pages", folder=data / "documents" / "shards", kind="pages", rows=256, text=256, items=5
        ),
        "pairs": TrainingSet(name="pairs", folder=data / "pairs", kind="captions", rows=512, text=64, weight=0.2),
        "long_pairs": TrainingSet(
            name="long_pairs", folder=data / "long_pairs", kind="captions", rows=512, text=64, weight=0.2
        ),
        "clips": TrainingSet(
            name="clips", folder=data / "clips", kind="captions", rows=64, text=32, weight=0.03, frames=8
        ),
    }
    if unknown := set(names) - set(known):
        raise ValueError(f"names has {sorted(unknown)}, wanted some of {', '.join(known)}")
    if divide < 1 or 64 % divide:
        raise ValueError(f"divide is {divide}, wanted a divisor of 64, so that the batches keep their proportions")
    chosen = [known[name] for name in names]
    return [TrainingSet(**{**vars(each), "rows": each.rows // divide}) for each in chosen]


def paper_feed(
    sets: Sequence[TrainingSet],
    *,
    tokenizer: Any,
    special: SpecialTokens,
    pad_id: int,
    preprocess: Callable[..., Any],
    seed: int = 0,
    parts: int = 1,
    num_workers: int = 0,
    p_next: float = 0.5,
    augment_text: AugmentText | None = None,
    augment_images: AugmentImages | None = None,
    loss: Callable[[Any, FlamingoBatch], Tensor] = flamingo_loss,
    measures: Sequence[Measure] = (),
) -> Feed:
    """The mixture of some training sets, each rank's share of it.

    Args:
        sets: What to train on.
        tokenizer: As in `InterleavedExamples`.
        special: Ids of the tags; `processor.special` of a `FlamingoProcessor`.
        pad_id: Fills up rows.
        preprocess: Turns one image into pixels: `tower.preprocess`.
        seed: Decides orders and draws.
        parts: Each batch comes in so many parts, one after the other, where it does not fit into memory at once.
        num_workers: Processes that make batches ahead.
        p_next: As in `InterleavedExamples`.
        augment_text: As there, for all sets.
        augment_images: As there, for all sets.
        loss: Of a batch of any of them.
        measures: Go into the feed.

    Returns:
        Objectives, their position, and the measures.

    Raises:
        ValueError: If a folder has no shards, or `parts` does not divide a batch.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> sets = [TrainingSet(name="pairs", folder=Path("pairs"), kind="captions", rows=3, text=8)]
        >>> model, special = build_tiny_flamingo(), SpecialTokens(media=32, end_of_chunk=33)
        >>> reads = {"tokenizer": None, "special": special, "pad_id": 0, "preprocess": model.vision.preprocess}
        >>> paper_feed(sets, **reads, parts=2)
        Traceback (most recent call last):
        ValueError: parts is 2, wanted a divisor of the 3 rows of 'pairs'
    """
    for each in sets:
        if parts < 1 or each.rows % parts:
            raise ValueError(f"parts is {parts}, wanted a divisor of the {each.rows} rows of {each.name!r}")
    shared = {
        "tokenizer": tokenizer, "special": special, "preprocess": preprocess, "augment_text": augment_text,
        "augment_images": augment_images,
    }  # fmt: skip
    sources = [_source(each, each.rows // parts, pad_id=pad_id, shared=shared, p_next=p_next) for each in sets]
    rank, world_size = data_parallel_rank()
    mixture = Mixture(sources, seed=seed, rank=rank, world_size=world_size, num_workers=num_workers)
    objectives = [
        Objective(
            name=each.name,
            batches=mixture.batches(each.name) if parts == 1 else _InParts(mixture.batches(each.name), parts),
            loss=loss,
            weight=each.weight,
        )
        for each in sets
    ]
    return Feed(objectives=objectives, data=mixture, measures=measures)


def _source(each: TrainingSet, rows: int, *, pad_id: int, shared: Mapping[str, Any], p_next: float) -> DataSource:
    if not each.folder.is_dir():
        raise ValueError(
            f"folder of {each.name!r} is {each.folder}, and there is none; wanted one with .tar shards, such as "
            "`flamingo-blocks data build` or img2dataset make"
        )
    make: Any
    if each.kind == "pages":
        make = InterleavedExamples(
            **shared,
            length=each.text,
            max_media=each.items,
            p_next=p_next,
            needs_media=True,
            mask_outside_chunks=each.mask_outside_chunks,
            source=each.name,
        )
    else:
        clips = partial(clip_images, fps=1.0, count=each.frames)
        make = CaptionExamples(**shared, length=each.text, clip_images=clips, source=each.name)
    return DataSource(
        name=each.name, documents=DocumentShards(each.folder), make=make, collate=partial(collate, pad_id=pad_id),
        batch_size=rows, weight=each.weight,
    )  # fmt: skip


class _InParts(Iterator[BatchParts]):
    """Several batches at a time, as the parts of one."""

    def __init__(self, batches: Iterator[FlamingoBatch], parts: int) -> None:
        self._batches, self._parts = batches, parts

    def __next__(self) -> BatchParts:
        return BatchParts([next(self._batches) for _ in range(self._parts)])
