"""The paper's system in small: a tower by captions, a language model by text, and a Flamingo by pages, pairs and clips.

    python examples/make_corpus.py corpus --pages 300 --questions 200
    flamingo-blocks data build corpus/pages corpus/documents
    flamingo-blocks train examples/recipes/corpus.py data=corpus

A vision tower is trained on the pairs by the contrastive loss, a language model on the text of the pages; both are
frozen, and resampler, blocks and new tokens are trained between them on pages, pairs and clips at once. Every hundred
steps the model is asked for digit and colour of pictures that it never saw, after none and after four examples.
"""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.data import ImageSegment
from flamingo_blocks.data.shards import DocumentShards
from flamingo_blocks.demo.language_model import TinyDecoder, text_loss
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.evaluation import EvalConfig, Prediction, Score, Task, TaskItem, evaluate
from flamingo_blocks.models import FlamingoProcessor, every_layer
from flamingo_blocks.training import (
    Feed,
    FewShotScore,
    Objective,
    RunConfig,
    TrainConfig,
    TrainingSet,
    TwoTowers,
    paper_feed,
    train,
    two_towers_loss,
    warmup_hold_decay,
)

_log = logging.getLogger(__name__)
WIDTH = 64  # of the tower
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")


def recipe(
    *,
    data: Path = Path("corpus"),
    folder: Path = Path("runs/corpus"),
    steps: int = 500,
    lr: float = 6e-3,
    tower_steps: int = 300,
    lm_steps: int = 300,
    score_every: int = 100,
    save_every: int = 50,
    seed: int = 0,
) -> RunConfig:
    """The paper's system in small, on the corpus of `examples/make_corpus.py`; under four minutes on one core."""
    sets = [
        TrainingSet(name="pages", folder=data / "documents" / "shards", kind="pages", rows=8, text=96, items=5),
        TrainingSet(name="pairs", folder=data / "pairs", kind="captions", rows=32, text=16, weight=0.2),
        TrainingSet(name="clips", folder=data / "clips", kind="captions", rows=2, text=16, weight=0.03, frames=4),
    ]

    def feed(model: Any) -> Feed:
        processor = make_processor(load_tokenizer(folder), model)
        asked = partial(score, processor=processor, asked=questions(data), seed=seed)
        scores = FewShotScore(asked, model=model, every=score_every)
        return paper_feed(
            sets, tokenizer=processor.tokenizer, special=processor.special, pad_id=processor.pad_token_id,
            preprocess=model.vision.preprocess, seed=seed, measures=[scores],
        )  # fmt: skip

    return RunConfig(
        prepare=lambda: prepare(data, folder, tower_steps=tower_steps, lm_steps=lm_steps, seed=seed),
        build=lambda: build(folder, seed=seed),
        outline=lambda: between(DigitTower(dim=WIDTH), make_lm(2000)),
        feed=feed,
        batches={each.name: each.shape for each in sets},
        steps=steps,
        lr=lr,
        folder=folder,
        options={
            "schedule": warmup_hold_decay(warmup=30, steps=steps, hold=0.6, floor=0.02),
            "weight_decay": 0.0,
            "gate_lr_factor": 10.0,
        },
        seed=seed,
        save_every=save_every,
        gates_every=score_every,
    )


def prepare(data: Path, folder: Path, **settings: int) -> None:
    """Train tower and language model, once: a run that goes on has them."""
    file, made = folder / "parts.pt", {"data": str(data), **settings}
    if file.exists():
        if (found := torch.load(file)["made"]) != made:
            raise ValueError(f"{file} was made with {found}, asked for is {made}; take another folder")
        return
    tokenizer = make_tokenizer(data)
    tokenizer.save_pretrained(folder / "tokenizer")
    _log.info("the vision tower, by captions: %d steps", settings["tower_steps"])
    tower = train_tower(tokenizer, data, steps=settings["tower_steps"], seed=settings["seed"])
    _log.info("the language model, by the text of the pages: %d steps", settings["lm_steps"])
    lm = train_lm(tokenizer, data, steps=settings["lm_steps"], seed=settings["seed"])
    whole = file.with_suffix(".tmp")
    torch.save({"tower": tower.state_dict(), "lm": lm.state_dict(), "made": made}, whole)
    whole.rename(file)


def build(folder: Path, *, seed: int) -> Flamingo:
    """These parts, and fresh blocks between them."""
    parts = torch.load(folder / "parts.pt")
    tower, lm = DigitTower(dim=WIDTH), make_lm(len(load_tokenizer(folder)))
    tower.load_state_dict(parts["tower"])
    lm.load_state_dict(parts["lm"])
    torch.manual_seed(seed)
    return between(tower.eval(), lm.eval())


def make_lm(words: int) -> TinyDecoder:
    """A language model of half a million parameters besides its words."""
    return TinyDecoder(vocab_size=words, dim=96, num_layers=3)


def between(tower: DigitTower, lm: TinyDecoder) -> Flamingo:
    """Resampler and blocks between the two."""
    words = lm.embedding.num_embeddings
    return Flamingo(
        vision=tower,
        resampler=PerceiverResampler(
            vision_dim=WIDTH, dim=WIDTH, num_latents=4, depth=1, num_heads=4, head_dim=16, ff_mult=2, final_norm=True
        ),
        lm=lm,
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(lm.dim, vision_dim=WIDTH, num_heads=4, ff_mult=2)),
        media_token_id=words,
        end_token_id=words + 1,
        num_new_tokens=2,
    )


def texts(data: Path) -> Iterator[str]:
    """Of all pages, without their pictures."""
    for document in DocumentShards(data / "documents" / "shards"):
        yield document.text


def pairs(data: Path, name: str = "pairs") -> list[tuple[Any, str]]:
    """Pictures of coloured digits and what they show: `a red seven`."""
    found = [(open_image(document.media[0].data), document.text) for document in DocumentShards(data / name)]
    return [(image, caption) for image, caption in found if re.fullmatch(r"a \w+ \w+", caption)]


def open_image(data: bytes) -> Image.Image:
    """A picture of the bytes of its file."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def make_tokenizer(data: Path) -> PreTrainedTokenizerFast:
    """The words of captions and the commonest of pages, each one token."""
    split = re.compile(r"\w+|[^\w\s]+")
    captions = sorted({word for _, caption in pairs(data) for word in split.findall(caption)})
    counts = Counter(word for text in texts(data) for word in split.findall(text))
    common = [word for word, _ in counts.most_common(2000)]
    words = dict.fromkeys([*SPECIAL, *captions, *common])
    pad, unknown, begin, end = SPECIAL
    table = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=unknown))
    table.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=table, pad_token=pad, unk_token=unknown, bos_token=begin, eos_token=end
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """That of a run."""
    return PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")


def make_processor(tokenizer: Any, model: Flamingo) -> FlamingoProcessor:
    """Reads rows for the model."""
    return FlamingoProcessor(
        tokenizer=tokenizer,
        preprocess=model.vision.preprocess,
        media_token_id=model.media_token_id,
        end_token_id=model.end_token_id,
    )


def train_tower(tokenizer: Any, data: Path, *, steps: int, seed: int) -> DigitTower:
    """A tower whose pictures find their captions among those of others, and these find them."""
    torch.manual_seed(seed)
    tower = DigitTower(dim=WIDTH)
    towers = TwoTowers(tower, nn.Embedding(len(tokenizer), WIDTH), text_dim=WIDTH, dim=WIDTH)
    shown = pairs(data)
    pixels = torch.stack([tower.preprocess(image) for image, _ in shown])
    captions = torch.tensor([tokenizer.encode(caption) for _, caption in shown])
    _, kinds = captions.unique(dim=0, return_inverse=True)

    def batches() -> Iterator[dict[str, Tensor]]:
        """One picture of each caption: two of one would be each other's negatives."""
        draw = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(shown), generator=draw)
            places = torch.full((int(kinds.max()) + 1,), -1).scatter(0, kinds[order], order)
            yield {"pixels": pixels[places], "input_ids": captions[places]}

    objective = Objective(name="pairs", batches=batches(), loss=partial(two_towers_loss, label_smoothing=0.1))
    schedule = warmup_hold_decay(warmup=20, steps=steps, hold=0.3, floor=0.0)
    train(TrainConfig(model=towers, objectives=[objective], steps=steps, lr=3e-3, schedule=schedule))
    tower.standardise(pixels)
    return tower


def train_lm(tokenizer: Any, data: Path, *, steps: int, seed: int) -> TinyDecoder:
    """A language model that has read the pages."""
    torch.manual_seed(seed)
    lm = make_lm(len(tokenizer))
    ids = [tokenizer.bos_token_id]
    for text in texts(data):
        ids += [*tokenizer.encode(text), tokenizer.eos_token_id, tokenizer.bos_token_id]
    stream = torch.tensor(ids)

    def batches() -> Iterator[Tensor]:
        while True:
            starts = torch.randint(len(stream) - 96, (16,))
            yield torch.stack([stream[start : start + 96] for start in starts.tolist()])

    objective = Objective(name="text", batches=batches(), loss=text_loss)
    schedule = warmup_hold_decay(warmup=30, steps=steps, hold=0.6, floor=0.02)
    train(TrainConfig(model=lm, objectives=[objective], steps=steps, lr=3e-3, schedule=schedule))
    return lm


@dataclass(frozen=True)
class WordIsRight:
    """Share of answers whose word at a place is the right one.

    Args:
        name: What the word says.
        place: Where it stands.
    """

    name: str
    place: int

    @property
    def variant(self) -> str:
        """The rule."""
        return f"accuracy({self.name})"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score one answer for each item."""
        words = [(item.answers[0].split(), one.answer.split()) for item, one in zip(items, predictions, strict=True)]
        right = [100.0 * (own[self.place : self.place + 1] == [wanted[self.place]]) for wanted, own in words]
        return Score(variant=self.variant, value=sum(right) / len(right), per_item=tuple(right))


def questions(data: Path) -> Task:
    """Which colour, and which digit: of pictures that were kept out of training, with pairs from training as shots."""

    def items(name: str) -> tuple[TaskItem, ...]:
        return tuple(
            TaskItem(
                id=f"{name}/{number}", media=(ImageSegment(url=f"{name}/{number}", data=image),),
                texts={"question": "a"}, answers=(caption.removeprefix("a "),),
            )
            for number, (image, caption) in enumerate(pairs(data, name))
        )  # fmt: skip

    return Task(
        name="pictures", kind="continue", answering="open", metrics=(WordIsRight("colour", 0), WordIsRight("digit", 1)),
        queries=items("questions"), support=items("pairs"), max_new_tokens=3,
    )  # fmt: skip


def score(model: Any, *, processor: FlamingoProcessor, asked: Task, seed: int) -> dict[str, float]:
    """Share of right words after none and after four examples."""
    config = EvalConfig(
        shots=(0, 4), seeds=(seed,), controls=(), text_shots=0, groups=None, num_beams=1, bootstrap=0, share=False
    )
    cells = evaluate(model, processor, [asked], config).cells
    names = {"accuracy(colour)": "colour", "accuracy(digit)": "digit"}
    return {
        f"{names[one.variant]}, {cell.shots} shots": (one.value or 0.0) / 100 for cell in cells for one in cell.scores
        if cell.control == "none"
    }  # fmt: skip
