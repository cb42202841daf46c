"""Decoding for evaluation: questions behind one prompt beside whole texts, and candidates in one pass beside copies."""

import importlib.util
import random
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases.contenders import Checked, agree
from benchmarks.cases.evaluation import Episode, model
from flamingo_blocks import Flamingo
from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.evaluation.decode import Decoder, MediaPool
from flamingo_blocks.models import FlamingoProcessor

NEW_TOKENS, BEAMS = 5, 3  # of questions, as open_flamingo asks them
SHOTS = Episode(shots=32, queries=64, tokens=20)
TINY = Episode(shots=2, queries=3, tokens=6, dim=16, depth=2, vocab=24, image_size=8)


class Numbers:
    """A tokenizer of texts that are ids."""

    def encode(self, text: str) -> list[int]:
        """The ids that a text names."""
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        """The text that names ids."""
        return " ".join(map(str, ids))


@dataclass
class Questions:
    """Shots and queries of one seed; refilled in place."""

    shots: InterleavedDocument
    queries: list[InterleavedDocument]
    candidates: list[str]


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """32 shots of 20 tokens, for questions that beams answer, and for one with 200 candidates."""
    if importlib.util.find_spec("transformers") is None:
        return []
    episode, num_candidates = (TINY, 7) if tiny else (SHOTS, 200)
    faster = partial(Bar, kind="faster_by")
    made = partial(Case, suite="evaluate", device=device, dtype=dtype, check=partial(agree, dtype=dtype, rename=dict))
    one = replace(episode, queries=1)
    return [
        made(
            name="evaluate/questions/32-shots/64-queries",
            sizes=episode.words(),
            prepare=partial(_prepare_questions, episode, device, dtype),
            bar=(faster("64 questions behind one prompt at least 10x faster than whole texts", "without_sharing", 10),),
        ),
        made(
            name="evaluate/candidates/32-shots/200-candidates",
            sizes=one.words() | {"candidates": num_candidates},
            prepare=partial(_prepare_candidates, one, num_candidates, device, dtype),
            bar=(faster("200 candidates in one pass at least 5x faster than behind copies", "copies", 5),),
        ),
    ]


def _prepare_questions(episode: Episode, device: str, dtype: str) -> list[Contender]:
    """Ours runs the shots once; the other runs them with each question, and keeps no images from batch to batch."""
    flamingo, drawn = model(episode, device, dtype), _draw(episode, 0, 0)

    def run(*, share: bool, memory_bytes: int) -> dict[str, Tensor]:
        pool = MediaPool(flamingo, ItemReader(preprocess=torch.Tensor.to), memory_bytes=memory_bytes)
        decoder = _decoder(flamingo, episode, pool, share=share)
        prompt = decoder.begin(drawn.shots)
        answers = decoder.write(drawn.queries, prompt=prompt)
        return {"ids": torch.tensor([(answer.ids + (0,) * NEW_TOKENS)[:NEW_TOKENS] for answer in answers])}

    def fresh(seed: int) -> None:
        drawn.__dict__ |= _draw(episode, 0, seed).__dict__

    made = partial(Checked, fresh=fresh, function=OURS, module=flamingo)
    shared, alone = partial(run, share=True, memory_bytes=2**30), partial(run, share=False, memory_bytes=0)
    return [made(name=OURS, run=shared), made(name="without_sharing", run=alone)]


def _prepare_candidates(episode: Episode, count: int, device: str, dtype: str) -> list[Contender]:
    """The shots were run before for both."""
    flamingo, drawn = model(episode, device, dtype), _draw(episode, count, 0)
    pool = MediaPool(flamingo, ItemReader(preprocess=torch.Tensor.to))
    ways = {OURS: "trie", "copies": "copies"}
    decoders = {name: _decoder(flamingo, episode, pool, share=True, scorer=way) for name, way in ways.items()}
    prompt = [decoders[OURS].begin(drawn.shots)]

    def fresh(seed: int) -> None:
        drawn.__dict__ |= _draw(episode, count, seed).__dict__
        prompt[:] = [decoders[OURS].begin(drawn.shots)]
        pool.tokens(drawn.queries[0].media)

    def run(name: str) -> dict[str, Tensor]:
        (scores,) = decoders[name].score(drawn.queries, [drawn.candidates], prompt=prompt[0])
        return {"log_probs": torch.tensor(scores.log_probs)}

    return [Checked(name=n, run=partial(run, n), fresh=fresh, function=OURS, module=flamingo) for n in ways]


def _decoder(flamingo: Flamingo, episode: Episode, pool: MediaPool, **options: object) -> Decoder:
    processor = FlamingoProcessor(
        tokenizer=Numbers(), media_token_id=flamingo.media_token_id, end_token_id=episode.vocab - 2, pad_token_id=0
    )
    return Decoder(flamingo, processor, pool, num_beams=BEAMS, max_new_tokens=NEW_TOKENS, **options)  # type: ignore[arg-type]


def _draw(episode: Episode, candidates: int, seed: int) -> Questions:
    """Images and texts of random ids; candidates of three tokens, of which some begin alike."""
    draw, noise = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311 (no secret)
    last = episode.vocab - 3

    def image(name: str) -> ImageSegment:
        side = episode.image_size
        return ImageSegment(url=f"{name} of {seed}", data=torch.randn(3, side, side, generator=noise))

    def text(count: int) -> str:
        return " ".join(str(draw.randint(11, last)) for _ in range(count))

    words = episode.tokens - 2  # a tag and an end
    shots = [part for n in range(episode.shots) for part in (image(f"shot {n}"), text(words) + " <EOC>")]
    queries = [InterleavedDocument.from_parts([image(f"query {n}"), text(words + 1)]) for n in range(episode.queries)]
    found = {f" {draw.randint(11, 11 + last // 4)} {text(2)}": None for _ in range(4 * candidates)}
    return Questions(InterleavedDocument.from_parts(shots), queries, list(found)[:candidates])
