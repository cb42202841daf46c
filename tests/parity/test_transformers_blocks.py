"""With the presets our blocks compute what those of IDEFICS and Mllama in transformers do, with the same weights."""

import re

import pytest
import torch
from torch import Tensor, nn
from transformers import IdeficsConfig
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler
from transformers.models.mllama.configuration_mllama import MllamaTextConfig
from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer, _prepare_cross_attention_mask

from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler, block_preset, resampler_preset
from flamingo_blocks.ops import MediaLayout

DIM, VISION_DIM, LATENTS, HIDDEN = 16, 12, 3, 40
TAGS = torch.tensor([[False, True, False, True, True], [False, False, False, False, False]])
RENAMED = (
    (r"^(alpha_cross_attn|cross_attn_attn_gate)$", "attention_gate.gate"),
    (r"^(alpha_dense|cross_attn_mlp_gate)$", "feed_forward_gate.gate"),
    (r"^cross_attn\.([qk])_layer_norm\.", r"attention.\1_norm."),
    (r"^cross_attn\.", "attention."),
    (r"^input_layernorm\.", "attention.norm."),
    (r"^post_attention_layernorm\.", "feed_forward.norm."),
    (r"^mlp\.", "feed_forward."),
    (r"^blocks\.(\d+)\.0\.", r"layers.\1."),
    (r"^blocks\.(\d+)\.1\.", r"layers.\1.feed_forward."),
    (r"\.context_layer_norm\.", ".features_norm."),
    (r"\.latents_layer_norm\.", ".latents_norm."),
    (r"\.([qk])_layer_norm\.", r".\1_norm."),
    (r"\.output_proj\.", ".o_proj."),
    (r"\.ln\.", ".norm."),
    (r"\.fc\.", ".up_proj."),
    (r"\.c_proj\.", ".down_proj."),
    (r"^layer_norm\.", "final_norm."),
)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def randomised(module: nn.Module) -> nn.Module:
    """Norms and gates are drawn too, so that a missing or misplaced one shows."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 or "alpha" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return module.eval().requires_grad_(requires_grad=False)


def take_weights(ours: nn.Module, peer: nn.Module) -> None:
    state = {}
    for name, value in peer.state_dict().items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901 -- one rename after the other
        state[name] = value.flatten() if name.endswith("gate.gate") else value
    ours.load_state_dict(state, strict=True)


def additive(mask: Tensor) -> Tensor:
    """A mask by slot as IDEFICS' block wants it: by media token, 0 or the smallest number."""
    by_token = mask.repeat_interleave(LATENTS, -1)[:, None]
    return torch.zeros(by_token.shape).masked_fill(~by_token, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("gate", ["float", "vector"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_block_of_idefics(gate, qk_norm):
    """Gates of one value or one a channel, with and without norms over the heads, text without media included."""
    config = IdeficsConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_attention_heads=4, alpha_type=gate, qk_layer_norms=qk_norm,
        vision_config={"embed_dim": VISION_DIM}, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    config._attn_implementation = "eager"
    peer = randomised(IdeficsGatedCrossAttentionLayer(config, layer_idx=0))
    preset = block_preset(
        "idefics", num_heads=4, hidden_dim=HIDDEN, gate="channel" if gate == "vector" else "scalar",
        qk_norm="rms_norm" if qk_norm else None,
    )  # fmt: skip
    ours = GatedCrossAttentionBlock(DIM, vision_dim=VISION_DIM, **preset)
    take_weights(ours, peer)
    layout = MediaLayout.from_grid(TAGS, num_media=3)
    text, media = 0.01 * torch.randn(2, 5, DIM), torch.randn(2, 3, LATENTS, VISION_DIM)
    expected = peer(
        text, image_hidden_states=media.flatten(1, 2), image_attention_mask=additive(padded(layout)),
        cross_attention_gate=layout.sees_any().float(),
    )  # fmt: skip
    torch.testing.assert_close(ours(text, media, layout), expected, atol=1e-5, rtol=1e-5)


def padded(layout: MediaLayout) -> Tensor:
    """The mask over three slots a row; a row that sees nothing may look anywhere, for the gate closes it."""
    return layout.mask()[..., :3]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_resampler_of_idefics(qk_norm):
    """Its resampler, with and without norms over the heads, at heads that are not of the width."""
    config = IdeficsConfig(
        vision_config={"embed_dim": VISION_DIM}, perceiver_config={"qk_layer_norms_perceiver": qk_norm},
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    peer = randomised(IdeficsPerceiverResampler(config, VISION_DIM, depth=2, n_heads=2, head_dim=5, n_latents=LATENTS))
    preset = resampler_preset(
        "idefics", depth=2, num_heads=2, head_dim=5, num_latents=LATENTS, qk_norm="layer_norm" if qk_norm else None
    )
    ours = PerceiverResampler(vision_dim=VISION_DIM, dim=VISION_DIM, **preset)
    take_weights(ours, peer)
    vision = torch.randn(4, 7, VISION_DIM)
    torch.testing.assert_close(ours(vision[:, None]), peer(vision), atol=1e-5, rtol=1e-5)


def test_block_of_mllama():
    """Grouped heads, norms over them, and tiles that do not exist; where tokens see an image the peer is right."""
    config = MllamaTextConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_attention_heads=4, num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    config._attn_implementation = "eager"
    peer = randomised(MllamaCrossAttentionDecoderLayer(config, layer_idx=0))
    ours = GatedCrossAttentionBlock(
        DIM, vision_dim=DIM, **block_preset("mllama", num_heads=4, num_kv_heads=2, hidden_dim=HIDDEN)
    )
    take_weights(ours, peer)
    layout = MediaLayout.from_grid(TAGS, num_media=3, group_consecutive=True)
    text, media = 0.01 * torch.randn(2, 5, DIM), torch.randn(2, 3, 2 * LATENTS, DIM)
    tiles = torch.tensor([[[True, True], [True, False], [True, True]]]).expand(2, -1, -1)
    seen = (layout.mask()[..., None] & tiles[:, None]).long()
    mask, rows = _prepare_cross_attention_mask(seen, num_vision_tokens=LATENTS, dtype=torch.float32)
    expected = peer(
        text, cross_attention_states=media.flatten(1, 2), cross_attention_mask=mask, attention_mask=None,
        full_text_row_masked_out_mask=rows,
    )  # fmt: skip
    out = ours(text, media, layout, valid=tiles.repeat_interleave(LATENTS, -1))
    sees = layout.sees_any()
    torch.testing.assert_close(out[sees], expected[sees], atol=1e-5, rtol=1e-5)
    assert torch.equal(out[~sees], text[~sees])  # as Meta's own code; transformers adds the mean over all images
    assert not torch.allclose(expected[~sees], text[~sees], atol=1e-3)
