"""Few-shot evaluation: many queries behind one prompt, its shots run once, beside whole texts."""

import importlib
import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases.contenders import Checked, Inputs, agree
from benchmarks.cases.peers import draw_weights
from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.models import every_layer
from flamingo_blocks.vision import CallableTower

CANDIDATES = [[3, 4], [5, 6]]
NEW_TOKENS = 4


@dataclass(frozen=True)
class Episode:
    """Queries of one image each, behind shots of one image each, as many tokens all.

    Encoding an image costs about as much as running its text, as it does with a ViT-L and a language model of 7B.
    """

    shots: int = 32
    queries: int = 32
    tokens: int = 12
    dim: int = 256
    depth: int = 2
    vocab: int = 512
    image_size: int = 32

    def words(self) -> dict[str, int]:
        """Axis words to sizes."""
        text = (self.shots + 1) * self.tokens
        return {"batch": self.queries, "text": text, "media": self.shots + 1, "dim": self.dim, "vocab": self.vocab}


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Scores of candidates and generated answers of 32-shot prompts. The language model is one of transformers'."""
    if importlib.util.find_spec("transformers") is None:
        return []
    episode = Episode(shots=2, queries=3, tokens=3, dim=16, depth=2, vocab=24, image_size=8) if tiny else Episode()
    bar = Bar(
        "32 shots, shared by the queries, at least 10x faster than whole texts", "without_sharing", 10, "faster_by"
    )
    return [
        Case(
            suite="evaluate",
            name=f"evaluate/{kind}/32-shots/32-queries",
            sizes=episode.words(),
            device=device,
            dtype=dtype,
            prepare=partial(_prepare, episode, kind, device, dtype),
            check=partial(agree, dtype=dtype, rename=dict),
            bar=(bar,),
        )
        for kind in ("score", "generate")
    ]


def tiny_llama(*, dim: int, depth: int, vocab: int) -> nn.Module:
    """A language model of transformers, with drawn weights."""
    transformers: Any = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        hidden_size=dim, intermediate_size=3 * dim, num_hidden_layers=depth, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=vocab, max_position_embeddings=4096, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return draw_weights(transformers.LlamaForCausalLM(config))


def model(episode: Episode, device: str, dtype: str) -> Flamingo:
    """A model that such episodes are asked of."""
    dim, vision_dim = episode.dim, episode.dim // 2
    lm = tiny_llama(dim=dim, depth=episode.depth, vocab=episode.vocab)
    make_block = partial(GatedCrossAttentionBlock, dim, vision_dim=vision_dim, num_heads=4)
    flamingo = Flamingo(
        vision=CallableTower(nn.Conv2d(3, vision_dim, kernel_size=4, stride=4), image_size=episode.image_size),
        resampler=PerceiverResampler(
            vision_dim=vision_dim, dim=vision_dim, num_latents=16, depth=4, num_heads=2, head_dim=vision_dim // 2
        ),
        lm=lm,
        blocks=every_layer(lm, make_block, every=2),
        media_token_id=episode.vocab - 1,
    )
    for part in (flamingo.blocks, flamingo.resampler):
        assert part is not None
        draw_weights(part)
    return flamingo.to(device, getattr(torch, dtype)).eval()


def _prepare(episode: Episode, kind: str, device: str, dtype: str) -> list[Contender]:
    flamingo = model(episode, device, dtype)
    side = (3, episode.image_size, episode.image_size)
    pixels = Inputs(device, dtype, way="forward", shots=(episode.shots, 1, *side), queries=(episode.queries, 1, *side))
    shots = torch.empty(1, episode.shots * episode.tokens, dtype=torch.long, device=device)
    queries = torch.empty(episode.queries, episode.tokens, dtype=torch.long, device=device)

    def fresh(seed: int) -> None:
        pixels.fresh(seed)
        noise = torch.Generator(device).manual_seed(seed)
        for ids in (shots, queries):
            ids.random_(11, episode.vocab - 1, generator=noise)
            ids[:, :: episode.tokens] = flamingo.media_token_id

    answer = partial(_score if kind == "score" else _generate, flamingo)

    def shared() -> dict[str, Tensor]:
        prompt = flamingo.prefill(shots, pixels=pixels["shots"])
        return answer(queries, pixels=pixels["queries"], prompt=prompt)

    def whole() -> dict[str, Tensor]:
        ids = torch.cat([shots.expand(len(queries), -1), queries], dim=1)
        of_shots = pixels["shots"].expand(len(queries), *pixels["shots"].shape)
        images = torch.cat([of_shots, pixels["queries"][:, None]], dim=1).flatten(0, 1)
        return answer(ids, pixels=images)

    made = partial(Checked, fresh=fresh, function=OURS, module=flamingo)
    return [made(name=OURS, run=shared), made(name="without_sharing", run=whole)]


def _score(flamingo: Flamingo, ids: Tensor, **media: Any) -> dict[str, Tensor]:
    return {"log_probs": flamingo.score(ids, CANDIDATES, **media).log_probs}


def _generate(flamingo: Flamingo, ids: Tensor, **media: Any) -> dict[str, Tensor]:
    """Greedy, and no stop, so that all answers are of one length."""
    out = flamingo.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0, **media)
    return {"ids": out[:, -NEW_TOKENS:]}
