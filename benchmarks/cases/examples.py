"""Documents to training examples beside tokenising and decoding alone, and examples to batches beside copying alone."""

import importlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases.pages import WORDS
from flamingo_blocks.data import (
    Dropped,
    FlamingoBatch,
    FlamingoExample,
    ImageSegment,
    InterleavedDocument,
    SpecialTokens,
    collate,
)
from flamingo_blocks.data.examples import InterleavedExamples
from flamingo_blocks.vision import ImagePreprocess

PACKAGES = ("PIL", "transformers", "tokenizers")
SIZE = 320  # pixels of an image's longer side, as a cache holds it and as the paper's encoder takes it
CHARACTERS, IMAGES = 4400, 4  # of a page of M3W, on average
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Windows of 256 tokens with images cached at 320 pixels; and sixteen rows of five images."""
    if device != "cpu" or dtype != "float32" or any(importlib.util.find_spec(name) is None for name in PACKAGES):
        return []
    pages, rows, side = (2, 2, 8) if tiny else (32, 16, SIZE)
    return [
        Case(
            suite="examples", name="examples/windows", sizes={"documents": pages, "text": 256}, device=device,
            dtype=dtype, prepare=lambda: _makers(pages), check=_check_examples,
            bar=(Bar("at least 80 % of the rate of tokenising and decoding alone", "parts", 1.25, "at_most"),),
        ),
        Case(
            suite="examples", name=f"examples/collate/{rows}x5", sizes={"batch": rows, "media": 5, "text": 256},
            device=device, dtype=dtype, prepare=lambda: _collators(rows, side), check=_check_batches,
            bar=(Bar("at most 1.5x copying the pixels alone", "copy", 1.5, "at_most"),),
        ),
    ]  # fmt: skip


@dataclass
class _Pages:
    """Pages that are written anew before every call, and what a window of each will need."""

    number: int
    make: InterleavedExamples
    files: list[bytes]
    documents: list[InterleavedDocument] = field(default_factory=list)
    needed: list[tuple[list[str], list[bytes]]] = field(default_factory=list)

    def fresh(self, seed: int) -> None:
        self.documents = [self._page(Random(seed * self.number + k)) for k in range(self.number)]  # noqa: S311
        self.needed = []
        for key, document in enumerate(self.documents):
            seen: list[bytes] = []
            look = InterleavedExamples(
                tokenizer=self.make.tokenizer, special=self.make.special, preprocess=_remember(seen)
            )
            look(document, key=key)
            self.needed.append((document.text.splitlines(keepends=True), seen))

    def _page(self, draw: Random) -> InterleavedDocument:
        parts: list[Any] = []
        for _ in range(IMAGES):
            text = " ".join(draw.choices(WORDS, k=CHARACTERS // IMAGES // 6))
            parts += [ImageSegment(data=draw.choice(self.files)), f"{text}\n"]
        return InterleavedDocument.from_parts(parts)


def _remember(seen: list[bytes]) -> Callable[[bytes], Tensor]:
    """A `preprocess` that keeps the files it was asked for."""

    def preprocess(file: bytes) -> Tensor:
        seen.append(file)
        return torch.zeros(3, 1, 1)

    return preprocess


def _makers(number: int) -> list[Contender]:
    tokenizer, files = _tokenizer(), [_photograph(seed) for seed in range(8)]
    preprocess = ImagePreprocess((SIZE, SIZE), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    end = len(tokenizer)
    make = InterleavedExamples(
        tokenizer=tokenizer,
        special=SpecialTokens(media=end + 1, end_of_chunk=end, bos=end + 2, eos=end + 3),
        preprocess=preprocess,
    )
    pages = _Pages(number, make, files)
    pillow = importlib.import_module("PIL.Image")

    def parts(decode: Callable[[bytes], Any]) -> Callable[[], Any]:
        def run() -> list[Any]:
            return [
                ([tokenizer.encode(text, add_special_tokens=False) for text in texts], [decode(file) for file in seen])
                for texts, seen in pages.needed
            ]

        return run

    return [
        Contender(OURS, lambda: [make(page, key=key) for key, page in enumerate(pages.documents)], pages.fresh),
        Contender("parts", parts(preprocess), pages.fresh),
        Contender(
            "pillow", parts(lambda file: pillow.open(io.BytesIO(file)).convert("RGB")), pages.fresh, same_work=False
        ),
    ]


def _tokenizer() -> Any:
    """A byte-level tokenizer of pairs, trained on a few thousand words here: nothing is downloaded."""
    parts = importlib.import_module("tokenizers")
    backend = parts.Tokenizer(parts.models.BPE())
    backend.pre_tokenizer = parts.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = parts.trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=parts.pre_tokenizers.ByteLevel.alphabet()
    )
    draw = Random(0)  # noqa: S311 - no secret
    backend.train_from_iterator([" ".join(draw.choices(WORDS, k=2000))], trainer)
    fast = importlib.import_module("transformers").PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, model_max_length=10**6)


def _photograph(seed: int) -> bytes:
    """A smooth image as a JPEG of 320 x 240 pixels."""
    colours = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(colours, (SIZE * 3 // 4, SIZE), mode="bicubic").clamp(0, 1)[0]
    pixels = (smooth * 255).byte().permute(1, 2, 0).contiguous()
    file = io.BytesIO()
    image = importlib.import_module("PIL.Image")
    image.frombytes("RGB", (SIZE, SIZE * 3 // 4), pixels.numpy().tobytes()).save(file, "JPEG", quality=90)
    return file.getvalue()


def _check_examples(contenders: list[Contender]) -> None:
    """Every example has its tokens, and the pixels that its images have when they are decoded alone."""
    ours, parts = contenders[:2]
    ours.fresh(CHECK_SEED)
    for example, (_, decoded) in zip(ours.run(), parts.run(), strict=True):
        if isinstance(example, Dropped) or len(example.input_ids) != 256:
            raise AssertionError(f"wanted an example of 256 tokens, got {example}")
        if not all(torch.equal(item[0], alone) for item, alone in zip(example.pixels or (), decoded, strict=True)):
            raise AssertionError("an example has other pixels than its images")


def _collators(rows: int, side: int) -> list[Contender]:
    """Sixteen rows of five images each, as a batch of the ablations of the paper is made on one device."""
    examples: list[FlamingoExample] = []

    def fresh(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        examples[:] = []
        for row in range(rows):
            ids = torch.randint(100, (256,), generator=generator).tolist()
            pixels = [torch.rand(1, 3, side, side, generator=generator) for _ in range(5)]
            way: Any = "next" if row % 2 else "previous"
            examples.append(FlamingoExample(ids, range(0, 250, 50), pixels=pixels, labels=ids, direction=way))

    def copy() -> Tensor:
        return torch.stack([item for example in examples for item in example.pixels or ()])

    return [
        Contender(OURS, lambda: collate(examples, pad_id=0), fresh),
        Contender("copy", copy, fresh, same_work=False),
    ]


def _check_batches(contenders: list[Contender]) -> None:
    """The pool is that of the images in order, and the layout is prepared."""
    contenders[0].fresh(CHECK_SEED)
    batch, pool = (one.run() for one in contenders)
    if not isinstance(batch, FlamingoBatch) or batch.pixels is None or not torch.equal(batch.pixels, pool):
        raise AssertionError("the pool of the batch is not that of the images")
    if batch.layout.plan is None or batch.layout.direction != "mixed":
        raise AssertionError("the layout is not prepared, or its rows have lost their directions")
