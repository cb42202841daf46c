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
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.shards import DocumentShards
from flamingo_blocks.demo.language_model import TinyDecoder, text_loss
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.evaluation import Questions, few_shot_accuracy
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
        asked = questions(processor, data, seed=seed)
        scores = FewShotScore(partial(score, asked=asked), model=model, every=score_every)
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


def questions(processor: FlamingoProcessor, data: Path, *, seed: int) -> dict[str, list[Questions]]:
    """What colour, and which digit: of pictures that were kept out of training, after none and after four examples."""
    examples, asked = pairs(data), pairs(data, "questions")
    answers = [caption.split() for _, caption in asked]
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(examples), (len(asked), 4), generator=draw).tolist()
    found = {}
    for shots in (0, 4):
        shown = [[part for number in numbers[:shots] for part in examples[number]] for numbers in chosen]
        for what, place in (("colour", 1), ("digit", 2)):
            prompts = [
                InterleavedDocument.from_parts([*before, image, " ".join(words[:place])])
                for before, (image, _), words in zip(shown, asked, answers, strict=True)
            ]
            right = [words[place] for words in answers]
            found[f"{what}, {shots} shots"] = [make_questions(processor, prompts, right)]
    return found


def make_questions(
    processor: FlamingoProcessor, prompts: Sequence[InterleavedDocument], answers: Iterable[str]
) -> Questions:
    """Prompts whose next word is one of the answers of all."""
    wanted = list(answers)
    words = sorted(set(wanted))
    ids = torch.tensor([processor.tokenizer.encode(word) for word in words])[:, 0]
    return Questions(
        batch=processor(prompts),
        candidates=ids.expand(len(wanted), -1),
        answer=torch.tensor([words.index(word) for word in wanted]),
    )


def score(model: nn.Module, *, asked: dict[str, list[Questions]]) -> dict[str, float]:
    """Share of right answers among those that are possible."""
    return {name: few_shot_accuracy(model, batches).closed for name, batches in asked.items()}
