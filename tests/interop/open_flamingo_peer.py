"""open_flamingo's own model on tiny random language models, and what its training code would save of it.

Its package wants a vision library that the model itself does not need, so its files are loaded by their path. A batch
without pads needs an explicit attention mask: transformers 5 no longer hands an all-ones mask to `forward`.
"""

import copy
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks.vision import CallableTower
from tests.language_models import DIM, VOCAB, draw_weights, make_language_model

END, TAG = VOCAB, VOCAB + 1  # in the order in which its factory adds them
VISION_DIM, SIDE = 16, 8
DECODER_LAYERS = {
    "opt": "model.decoder.layers",
    "llama": "model.layers",
    "gpt_neox": "gpt_neox.layers",
    "mpt": "transformer.blocks",
}
_PACKAGE = "peer_open_flamingo_src"


def load_source(file: str) -> ModuleType:
    """One file of open_flamingo's `src` folder; the test is skipped where it is not installed."""
    pytest.importorskip("einops_exts", reason="peers are installed by `nox -s tests`")
    found = importlib.util.find_spec("open_flamingo")
    if found is None or found.origin is None:
        pytest.skip("open_flamingo is not installed; `nox -s tests` installs it")
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(Path(found.origin).parent / "src")]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{file}")


def plain_language_model(name: str, *, depth: int = 2) -> nn.Module:
    """A tiny language model without anything of Flamingo, weights drawn."""
    if name in ("opt", "llama") and depth == 2:
        return make_language_model(name)
    import transformers

    common = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    sizes = {"hidden_size": DIM, "num_hidden_layers": depth, "num_attention_heads": 4, "max_position_embeddings": 64}
    configs: dict[str, tuple[str, dict[str, Any]]] = {
        "opt": ("OPT", {**sizes, "word_embed_proj_dim": DIM, "ffn_dim": 48}),
        "llama": ("Llama", {**sizes, "intermediate_size": 48, "tie_word_embeddings": False}),
        "gpt_neox": ("GPTNeoX", {**sizes, "intermediate_size": 48}),
        "mpt": ("Mpt", {"d_model": DIM, "n_layers": depth, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 64}),
    }
    prefix, options = configs[name]
    config = getattr(transformers, f"{prefix}Config")(**common, **options)
    with torch.random.fork_rng(devices=[]):
        lm = getattr(transformers, f"{prefix}ForCausalLM")(config)
    return draw_weights(lm).eval()


class Visual(nn.Module):
    """What open_flamingo wants of an open_clip tower: a pair of the pooled and the patch features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, VISION_DIM, kernel_size=4, stride=4, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.conv1(pixels).flatten(2).transpose(1, 2)
        return tokens.mean(1), tokens


def build_peer(name: str, *, every: int = 1, depth: int = 2) -> nn.Module:
    """open_flamingo's model as its factory builds it, all weights drawn, gates open."""
    lm = copy.deepcopy(plain_language_model(name, depth=depth))
    load_source("utils").extend_instance(lm, load_source("flamingo_lm").FlamingoLMMixin)
    lm.set_decoder_layers_attr_name(DECODER_LAYERS[name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm.resize_token_embeddings(VOCAB + 2, mean_resizing=False)
        model = load_source("flamingo").Flamingo(
            SimpleNamespace(visual=draw_weights(Visual(), 4)), lm, END, TAG, vis_dim=VISION_DIM,
            cross_attn_every_n_layers=every,
        )  # fmt: skip
    draw_weights(model.perceiver, 1)
    draw_weights(lm.gated_cross_attn_layers, 2)
    with torch.no_grad():
        for weight in {lm.get_input_embeddings().weight, lm.get_output_embeddings().weight}:
            weight[VOCAB:] = torch.randn(2, DIM, generator=torch.Generator().manual_seed(5))
        for layer, block in enumerate(lm.gated_cross_attn_layers):
            if block is not None:
                block.attn_gate.fill_(0.7 - layer / 10)
                block.ff_gate.fill_(-0.4)
    model.requires_grad_(False)
    model.perceiver.requires_grad_(True)
    lm.gated_cross_attn_layers.requires_grad_(True)
    lm.get_input_embeddings().requires_grad_(True)
    return model.eval()


def saved_by_peer(model: nn.Module, layout: str = "v2") -> dict[str, Tensor]:
    """The tensors its training code saves: the filter of 2.0.x, what the one before left, or the live state dict."""
    state = dict(model.state_dict())
    if layout == "live":
        return state
    for name, weight in model.named_parameters():
        if "embed" not in name and not weight.requires_grad:
            del state[name]
    dropped = ["lang_encoder.old_decoder_blocks", "vision_encoder"]
    if layout == "v2":
        dropped.append("lang_encoder.gated_cross_attn_layers")
    return {name: tensor for name, tensor in state.items() if not any(part in name for part in dropped)}


def our_tower() -> CallableTower:
    """The same tower for us."""
    return CallableTower(draw_weights(Visual(), 4), image_size=SIDE, output=1)


def their_pixels(pixels: Tensor, tags: Tensor) -> Tensor:
    """The pool as open_flamingo takes it: rows padded with black images, one at least."""
    counts = tags.sum(1).tolist()
    padded = pixels.new_zeros(len(counts), max([1, *counts]), *pixels.shape[1:])
    start = 0
    for row, count in enumerate(counts):
        padded[row, :count] = pixels[start : start + count]
        start += count
    return padded
