"""Names and shapes of checkpoints whose packages or files cannot be had here.

GOLDEN, NOT RUN: Otter and flamingo-mini are on no package index, and no released file of open_flamingo is at hand. The
lists below were written down from the sources of those implementations, and stand here name by name; that a model with
these names also computes the same is seen for open_flamingo and flamingo-pytorch from their packages, and follows for
the other two from their code being the same blocks.
"""

import pytest
import torch
from torch import nn

from flamingo_blocks.interop import export_foreign, load_foreign
from tests.interop.foreign_models import InnerDecoder
from tests.language_models import draw_weights, make_language_model

# Sizes: D 16 (media), d 32 (text), I 64 (one head of 64), R 3 latents, F 2 frames, m 4, vocabulary 50 + 2 rows.
OTTER = """
perceiver.latents 3 16
perceiver.frame_embs 2 16
perceiver.layers.0.norm_media.weight 16
perceiver.layers.0.norm_media.bias 16
perceiver.layers.0.norm_latents.weight 16
perceiver.layers.0.norm_latents.bias 16
perceiver.layers.0.to_q.weight 64 16
perceiver.layers.0.to_kv.weight 128 16
perceiver.layers.0.to_out.weight 16 64
perceiver.layers.0.feed_forward.0.weight 16
perceiver.layers.0.feed_forward.0.bias 16
perceiver.layers.0.feed_forward.1.weight 64 16
perceiver.layers.0.feed_forward.3.weight 16 64
perceiver.norm.weight 16
perceiver.norm.bias 16
lang_encoder.model.layers.1.gated_cross_attn_layer.attn_gate 1
lang_encoder.model.layers.1.gated_cross_attn_layer.ff_gate 1
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.norm.weight 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.norm.bias 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_q.weight 64 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_kv.weight 128 16
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_out.weight 32 64
lang_encoder.model.layers.1.gated_cross_attn_layer.feed_forward.0.weight 32
lang_encoder.model.layers.1.gated_cross_attn_layer.feed_forward.0.bias 32
lang_encoder.model.layers.1.gated_cross_attn_layer.feed_forward.1.weight 128 32
lang_encoder.model.layers.1.gated_cross_attn_layer.feed_forward.3.weight 32 128
lang_encoder.model.embed_tokens.weight 52 32
lang_encoder.lm_head.weight 52 32
"""
OPEN_FLAMINGO_V2 = """
perceiver.latents 3 16
perceiver.layers.0.0.norm_media.weight 16
perceiver.layers.0.0.norm_media.bias 16
perceiver.layers.0.0.norm_latents.weight 16
perceiver.layers.0.0.norm_latents.bias 16
perceiver.layers.0.0.to_q.weight 64 16
perceiver.layers.0.0.to_kv.weight 128 16
perceiver.layers.0.0.to_out.weight 16 64
perceiver.layers.0.1.0.weight 16
perceiver.layers.0.1.0.bias 16
perceiver.layers.0.1.1.weight 64 16
perceiver.layers.0.1.3.weight 16 64
perceiver.norm.weight 16
perceiver.norm.bias 16
lang_encoder.model.layers.1.gated_cross_attn_layer.attn_gate 1
lang_encoder.model.layers.1.gated_cross_attn_layer.ff_gate 1
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.norm.weight 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.norm.bias 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_q.weight 64 32
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_kv.weight 128 16
lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_out.weight 32 64
lang_encoder.model.layers.1.gated_cross_attn_layer.ff.0.weight 32
lang_encoder.model.layers.1.gated_cross_attn_layer.ff.0.bias 32
lang_encoder.model.layers.1.gated_cross_attn_layer.ff.1.weight 128 32
lang_encoder.model.layers.1.gated_cross_attn_layer.ff.3.weight 32 128
lang_encoder.model.embed_tokens.weight 52 32
"""
# Version 1: the blocks a second time, and the frequencies that Llama saved in those days.
OPEN_FLAMINGO_V1 = (
    OPEN_FLAMINGO_V2
    + "\n".join(
        line.replace("model.layers.1.gated_cross_attn_layer.", "gated_cross_attn_layers.1.")
        for line in OPEN_FLAMINGO_V2.splitlines()
        if "gated" in line
    )
    + """
lang_encoder.model.layers.0.decoder_layer.self_attn.rotary_emb.inv_freq 4
lang_encoder.model.layers.1.decoder_layer.self_attn.rotary_emb.inv_freq 4
"""
)
FLAMINGO_MINI = """
flamingo.resampler.latents 3 16
flamingo.resampler.time_pos_emb 2 1 16
flamingo.resampler.layers.0.0.norm_media.weight 16
flamingo.resampler.layers.0.0.norm_media.bias 16
flamingo.resampler.layers.0.0.norm_latents.weight 16
flamingo.resampler.layers.0.0.norm_latents.bias 16
flamingo.resampler.layers.0.0.to_q.weight 64 16
flamingo.resampler.layers.0.0.to_k.weight 64 16
flamingo.resampler.layers.0.0.to_v.weight 64 16
flamingo.resampler.layers.0.0.to_out.weight 16 64
flamingo.resampler.layers.0.1.0.weight 16
flamingo.resampler.layers.0.1.0.bias 16
flamingo.resampler.layers.0.1.1.weight 64 16
flamingo.resampler.layers.0.1.3.weight 16 64
flamingo.resampler.norm.weight 16
flamingo.resampler.norm.bias 16
flamingo.lm.h.0.xattn_block.alpha_attn 1
flamingo.lm.h.0.xattn_block.alpha_ffw 1
flamingo.lm.h.0.xattn_block.attn.norm.weight 32
flamingo.lm.h.0.xattn_block.attn.norm.bias 32
flamingo.lm.h.0.xattn_block.attn.to_q.weight 64 32
flamingo.lm.h.0.xattn_block.attn.to_kv.weight 128 16
flamingo.lm.h.0.xattn_block.attn.to_out.weight 32 64
flamingo.lm.h.0.xattn_block.ffw.0.weight 32
flamingo.lm.h.0.xattn_block.ffw.0.bias 32
flamingo.lm.h.0.xattn_block.ffw.1.weight 128 32
flamingo.lm.h.0.xattn_block.ffw.3.weight 32 128
flamingo.lm.h.0.lm_block.fn.weight 32 32
flamingo.lm.h.0.lm_block.fn.bias 32
flamingo.lm.h.1.fn.weight 32 32
flamingo.lm.h.1.fn.bias 32
flamingo.lm.wte.weight 52 32
flamingo.lm_head.weight 52 32
"""
# Around OPT and GPT-2, the two it knows: of its own are the names `flamingo.lm.{h|decoder.layers}.{N}.xattn_block`, and
# `lm_block` where a layer is wrapped; the rest are those of transformers, whose GPT-2 saved causal masks in 2023.
_OF_MINI = "\n".join(line for line in FLAMINGO_MINI.splitlines() if ".resampler." in line or ".xattn_block." in line)
_OPT_LAYER = """
self_attn.k_proj.weight 32 32
self_attn.k_proj.bias 32
self_attn.v_proj.weight 32 32
self_attn.v_proj.bias 32
self_attn.q_proj.weight 32 32
self_attn.q_proj.bias 32
self_attn.out_proj.weight 32 32
self_attn.out_proj.bias 32
self_attn_layer_norm.weight 32
self_attn_layer_norm.bias 32
fc1.weight 48 32
fc1.bias 48
fc2.weight 32 48
fc2.bias 32
final_layer_norm.weight 32
final_layer_norm.bias 32
"""
_GPT2_LAYER = """
ln_1.weight 32
ln_1.bias 32
attn.bias 1 1 64 64
attn.masked_bias
attn.c_attn.weight 32 96
attn.c_attn.bias 96
attn.c_proj.weight 32 32
attn.c_proj.bias 32
ln_2.weight 32
ln_2.bias 32
mlp.c_fc.weight 32 128
mlp.c_fc.bias 128
mlp.c_proj.weight 128 32
mlp.c_proj.bias 32
"""


def around(layers: str, num_layers: int, layer: str, rest: str) -> str:
    """The list of a flamingo-mini of so many layers, the first of which is wrapped."""
    inside = f"flamingo.lm.{layers}."
    places = [f"{inside}0.lm_block.", *(f"{inside}{number}." for number in range(1, num_layers))]
    lines = [place + line for place in places for line in layer.split("\n") if line]
    return "\n".join([_OF_MINI.replace("flamingo.lm.h.", f"flamingo.lm.{layers}."), *lines, rest])


FLAMINGO_MINI_OPT = around(
    "decoder.layers",
    2,
    _OPT_LAYER,
    """
flamingo.lm.decoder.embed_tokens.weight 52 32
flamingo.lm.decoder.embed_positions.weight 66 32
flamingo.lm.decoder.final_layer_norm.weight 32
flamingo.lm.decoder.final_layer_norm.bias 32
flamingo.lm_head.weight 52 32
""",
)
FLAMINGO_MINI_GPT2 = around(
    "h",
    3,
    _GPT2_LAYER,
    """
flamingo.lm.wte.weight 52 32
flamingo.lm.wpe.weight 64 32
flamingo.lm.ln_f.weight 32
flamingo.lm.ln_f.bias 32
flamingo.lm_head.weight 52 32
""",
)
GOLDEN = {
    "otter": ("otter", OTTER, "llama"),
    "open_flamingo, version 2": ("open_flamingo", OPEN_FLAMINGO_V2, "llama"),
    "open_flamingo, version 1": ("open_flamingo", OPEN_FLAMINGO_V1, "llama"),
    "flamingo_mini": ("flamingo_mini", FLAMINGO_MINI, "inner"),
    "flamingo_mini around OPT": ("flamingo_mini", FLAMINGO_MINI_OPT, "opt"),
    "flamingo_mini around GPT-2": ("flamingo_mini", FLAMINGO_MINI_GPT2, "gpt2"),
}
TABLES = (
    "flamingo.lm.wte.weight", "flamingo.lm.decoder.embed_tokens.weight", "lang_encoder.model.embed_tokens.weight",
)  # fmt: skip


def tensors(listing: str) -> dict[str, torch.Tensor]:
    """Drawn tensors of the names and shapes listed; names of one tensor hold one."""
    noise = torch.Generator().manual_seed(0)
    drawn = {}
    for line in listing.split("\n"):
        if line:
            name, *shape = line.split()
            twin = name.replace("gated_cross_attn_layers.1.", "model.layers.1.gated_cross_attn_layer.")
            if name == "flamingo.lm_head.weight":  # tied
                twin = next(table for table in TABLES if table in drawn)
            shape = tuple(map(int, shape))
            drawn[name] = drawn[twin] if twin in drawn else torch.randn(shape, generator=noise)
    return drawn


def language_model(kind: str) -> nn.Module:
    return draw_weights(InnerDecoder(2)) if kind == "inner" else make_language_model(kind)


@pytest.mark.parametrize("name", GOLDEN)
def test_listed_names_load_and_come_back(name):
    """Every listed name finds its place, is found without being told the family, and comes back the same."""
    family, listing, kind = GOLDEN[name]
    checkpoint = tensors(listing)
    flamingo = load_foreign(checkpoint, lm=language_model(kind))
    back = export_foreign(flamingo, family=family, like=checkpoint)
    assert list(back) == list(checkpoint)
    assert all(torch.equal(back[key], tensor) for key, tensor in checkpoint.items())
    block = flamingo.blocks["0" if family == "flamingo_mini" else "1"]
    fused = next(tensor for key, tensor in checkpoint.items() if key.endswith("attn.to_kv.weight"))
    assert torch.equal(block.attention.k_proj.weight, fused[:64])
    assert torch.equal(block.attention.v_proj.weight, fused[64:])
    rows = next(table for table in TABLES if table in checkpoint)
    assert torch.equal(flamingo.token_rows.input, checkpoint[rows][50:])


def test_what_is_exported_has_exactly_the_listed_names():
    """Without a checkpoint to be like, the names and shapes are those of the lists."""
    for name in ("open_flamingo, version 2", "flamingo_mini", "flamingo_mini around OPT", "flamingo_mini around GPT-2"):
        family, listing, kind = GOLDEN[name]
        masks = (".attn.bias", ".attn.masked_bias")
        checkpoint = {key: tensor for key, tensor in tensors(listing).items() if not key.endswith(masks)}
        back = export_foreign(load_foreign(checkpoint, lm=language_model(kind)), family=family)
        assert {name: back[name].shape for name in back} == {name: checkpoint[name].shape for name in checkpoint}


@pytest.mark.parametrize("activation", ["gelu", "relu", "squared_relu"])
def test_the_activation_of_flamingo_mini_is_told(activation):
    """Its config, and no tensor, says which activation it was trained with."""
    flamingo = load_foreign(tensors(FLAMINGO_MINI), lm=language_model("inner"), activation=activation)
    assert flamingo.blocks["0"].config["activation"] == flamingo.resampler.config["activation"] == activation
    assert len(export_foreign(flamingo, family="flamingo_mini", activation=activation)) == len(tensors(FLAMINGO_MINI))


def test_a_tower_of_2023_is_known_under_its_outer_name():
    """Names of a tower that was wrapped once more, and its position numbers, find their places and come back."""
    from flamingo_blocks.vision import CallableTower

    tower = CallableTower(nn.Sequential(nn.Conv2d(3, 16, 4, 4)), image_size=8)
    checkpoint = tensors(OTTER) | {
        "vision_encoder.vision_model.0.weight": torch.randn(16, 3, 4, 4),
        "vision_encoder.vision_model.0.bias": torch.randn(16),
        "vision_encoder.vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    flamingo = load_foreign(checkpoint, lm=language_model("llama"), vision=tower)
    assert torch.equal(tower.encoder[0].weight, checkpoint["vision_encoder.vision_model.0.weight"])
    back = export_foreign(flamingo, family="otter", like=checkpoint)
    assert all(torch.equal(back[key], tensor) for key, tensor in checkpoint.items())


def test_otter_holds_its_blocks_once():
    """Otter's live model has no lists beside the language model, so none are exported."""
    flamingo = load_foreign(tensors(OTTER), lm=language_model("llama"))
    names = export_foreign(flamingo, family="otter", layout="live")
    assert set(tensors(OTTER)) <= set(names)
    assert not any("gated_cross_attn_layers." in name or "old_decoder_blocks." in name for name in names)
