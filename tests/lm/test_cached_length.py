"""Where the tokens of a call stand: caches that tell their length, caches that do not, and calls without one."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import MediaLayout, MediaState, attach
from flamingo_blocks.lm.cached_length import CountedCaches
from tests.flamingos import LATENTS, VISION_DIM, close, make_block, make_flamingo
from tests.language_models import DIM, make_language_model

LAYOUT = MediaLayout.from_tokens(torch.tensor([[False, True, False, False, True, False]]))


def tokens(number: int) -> Tensor:
    return torch.zeros(1, number, dtype=torch.long)


class Telling:
    """A cache that knows its length, as a tensor that grows while the layers run."""

    def __init__(self, length: int) -> None:
        self.length = torch.tensor(length)

    def get_seq_length(self) -> Tensor:
        return self.length


class Silent:
    """A cache of states, as transformers' own: asked for its length, it raises."""

    def get_seq_length(self) -> int:
        message = "only contains linear attention"
        raise ValueError(message)


@pytest.mark.parametrize("name", ["past_key_values", "cache_params", "other"])
def test_a_cache_that_tells_is_asked_at_every_call(name):
    """Whatever its name and wherever it stands; steps back are seen, so nothing is counted."""
    caches, cache = CountedCaches(), Telling(4)
    assert caches.past((tokens(1),), {name: cache}, layout=LAYOUT, whole=True) == 4
    cache.length -= 3
    assert caches.past((tokens(1), cache), {}, layout=LAYOUT, whole=True) == 1
    assert isinstance(caches.past((tokens(1), cache), {}, layout=LAYOUT), int)


@pytest.mark.parametrize("make", [Silent, object])
def test_a_silent_cache_is_counted_from_the_whole_text_on(make):
    """By what went into it; each cache by itself."""
    caches, one, other = CountedCaches(), make(), make()
    assert caches.past((tokens(6),), {"cache_params": one}, layout=LAYOUT) == 0
    assert caches.past((), {"input_ids": tokens(1), "cache_params": one}, layout=LAYOUT) == 6
    assert caches.past((tokens(7),), {"cache_params": other}, layout=LAYOUT) == 0
    assert caches.past((), {"inputs_embeds": torch.zeros(1, 2, 8), "cache_params": one}, layout=LAYOUT) == 7
    assert caches.past((tokens(1),), {"cache_params": one}, layout=LAYOUT) == 9


def test_a_silent_cache_that_was_filled_elsewhere_is_an_error():
    """Nobody knows what it holds; the error says how to tell."""
    with pytest.raises(RuntimeError, match=r"called with 2 of 6 tokens, and its Silent does not tell .*past=number"):
        CountedCaches().past((tokens(2),), {"past_key_values": Silent()}, layout=LAYOUT)


def test_without_a_cache_a_call_is_the_start_of_the_text_unless_it_must_be_whole():
    """A prefix of the text is fine; where each call should hold all of it, the cache must have hidden itself."""
    assert CountedCaches().past((tokens(2),), {"past_key_values": None}, layout=LAYOUT) == 0
    assert CountedCaches().past((tokens(8),), {}, layout=LAYOUT, whole=True) == 0
    with pytest.raises(RuntimeError, match="called with 2 of 6 tokens and no cache .* use_cache=False"):
        CountedCaches().past((tokens(2),), {"state": [torch.zeros(1)]}, layout=LAYOUT, whole=True)
    assert CountedCaches().past((tokens(2),), {"state": [torch.zeros(1)]}, layout=None, whole=True) == 0


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_state_space_model_that_is_called_by_hand_goes_on_behind_its_states(name):
    """The blocks use the columns behind those that its cache has seen, which it does not tell."""
    lm = make_language_model(name)
    attachment = attach(lm, {0: make_block(0)})
    noise = torch.Generator().manual_seed(0)
    state = MediaState(media=torch.randn(2, LATENTS, VISION_DIM, generator=noise), layout=LAYOUT)
    ids = torch.tensor([[3, 4, 5, 6, 7, 8]])
    with attachment.media(state), torch.no_grad():
        whole = lm(torch.cat([ids, ids[:, :2]], 1)).logits
        cache = empty_cache(lm, ids)
        for start, stop in ((0, 6), (6, 7), (7, 8)):
            more = {"cache_position": torch.tensor([start]) if start else torch.arange(lm.config.conv_kernel)}
            piece = torch.cat([ids, ids[:, :2]], 1)[:, start:stop]
            out = lm(piece, cache_params=cache, use_cache=True, **(more if takes_positions(lm) else {}))
            cache = out.cache_params
            torch.testing.assert_close(out.logits, whole[:, start:stop], atol=1e-4, rtol=1e-4)


def takes_positions(lm: nn.Module) -> bool:
    """Before transformers 5.5 a call behind states says where it stands."""
    import inspect

    return "cache_position" in inspect.signature(lm.forward).parameters


def empty_cache(lm: nn.Module, ids: Tensor):
    """A cache made before the first call, as `generate` does."""
    arguments = lm.prepare_inputs_for_generation(
        ids, use_cache=True, cache_position=torch.arange(ids.shape[1]), is_first_iteration=True
    )
    cache = arguments.get("cache_params")
    if cache is None:
        import transformers

        cache = transformers.DynamicCache(config=lm.config)
    return cache


class WithHiddenStates(nn.Module):
    """A decoder that keeps its past where nobody looks, and whose `generate` uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(52, DIM), nn.Linear(DIM, 52)
        self.layers = nn.ModuleList([nn.Linear(DIM, DIM)])

    def forward(self, input_ids: Tensor, state: object = None) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.layers[0](self.embedding(input_ids))))

    def generate(self, input_ids: Tensor, *, attention_mask: Tensor, use_cache: bool = True, **more: object) -> Tensor:
        for step in range(2):
            text = input_ids[:, -1:] if use_cache and step else input_ids
            token = self(text, state=[step]).logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, token], 1)
        return input_ids


def test_a_generate_with_states_of_its_own_is_refused_and_runs_without_them():
    """Its second token would see what the first token of the text sees; without the states it is right."""
    flamingo = make_flamingo("plain", lm=WithHiddenStates(), num_new_tokens=0)
    ids = torch.tensor([[3, 4, 50]])
    pixels = torch.zeros(1, 1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="called with 1 of 3 tokens and no cache"):
        flamingo.generate(ids, pixels=pixels)
    out = flamingo.generate(ids, pixels=pixels, use_cache=False)
    layout = flamingo.make_layout(ids).extend(2)
    logits = flamingo(out, pixels=pixels, layout=layout).logits
    assert torch.equal(logits[:, 2:4].argmax(-1), out[:, 3:])
    close(logits[:, :3], flamingo(ids, pixels=pixels).logits)
