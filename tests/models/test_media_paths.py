"""Each way that media can come to the blocks keeps the laws: features, media tokens, projected media."""

import pytest
import torch
from torch import nn

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, MediaState, PerceiverResampler, media_attention
from flamingo_blocks.lm import attach
from flamingo_blocks.models import Flamingo, PaperLanguageModel, build_tiny_flamingo, every_layer
from flamingo_blocks.models.call_language_model import accepts
from flamingo_blocks.models.encode_pool import encode_pool
from flamingo_blocks.ops._layout_checks import check_is_media
from flamingo_blocks.vision import CallableTower, TransformersTower

IDS = torch.tensor([[1, 32, 5, 6]])


def opened():
    flamingo = build_tiny_flamingo()
    for block in flamingo.blocks.values():
        nn.init.constant_(block.attention_gate.gate, 0.7)
        nn.init.constant_(block.feed_forward_gate.gate, 0.7)
    return flamingo


def features_with_a_bad_spare():
    features = torch.randn(2, 1, 4, 16, generator=torch.Generator().manual_seed(0))
    features[1] = float("nan")
    return features


@pytest.mark.parametrize("path", ["features", "media", "projected"])
def test_an_item_that_nobody_sees_reaches_no_gradient_on_any_path(path):
    """NaN in an item that no token sees leaves every gradient finite, however the media came."""
    flamingo, features = opened(), features_with_a_bad_spare()
    layout = MediaLayout.from_tokens(IDS == 32)
    if path == "features":
        out = flamingo(IDS, features=features, layout=layout)
    else:
        state = flamingo.encode_media(features=features, layout=layout)
        out = flamingo(IDS, media=state if path == "media" else flamingo.attachment.project(state))
    out.logits.square().sum().backward()
    bad = [name for name, p in flamingo.trained_parameters().items() if p.grad is None or not p.grad.isfinite().all()]
    assert bad == []


def test_media_with_a_layout_are_seen_by_it():
    """A state's own layout is used; another one beside it is refused."""
    flamingo = opened()
    features = torch.randn(2, 1, 4, 16)
    both = MediaLayout.from_tokens(torch.tensor([[True, False, True, False]]))
    state = flamingo.encode_media(features=features, layout=both)
    expected = flamingo(IDS, features=features, layout=both).logits
    torch.testing.assert_close(flamingo(IDS, media=state).logits, expected)
    with pytest.raises(ValueError, match="media has a layout of its own"):
        flamingo(IDS, media=state, layout=both.slice(0, 4))


def test_a_prompt_without_new_text_is_scored_as_it_is():
    """Candidates right behind a prompt get the scores that they get behind the same text."""
    flamingo, features = opened(), torch.randn(1, 1, 4, 16)
    prompt = flamingo.prefill(IDS, features=features)
    behind = flamingo.score(IDS[:, :0], [[3], [4, 5]], prompt=prompt)
    torch.testing.assert_close(behind.log_probs, flamingo.score(IDS, [[3], [4, 5]], features=features).log_probs)
    with pytest.raises(ValueError, match="input_ids has no column"):
        flamingo(IDS[:, :0], prompt=prompt)


def test_a_pool_too_small_is_told_before_anything_runs():
    """A block with gradients names the pool's size and the item that is missing."""
    block = GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2)
    layout = MediaLayout.from_tokens(torch.tensor([[True, False]]), item_ids=torch.tensor([[5]]))
    with pytest.raises(ValueError, match="holds 1 items, but the layout names item 5"):
        block(torch.zeros(1, 2, 8), torch.zeros(1, 3, 8), layout)


def test_media_are_projected_where_the_block_is():
    """The blocks of a dispatched model project on their own devices."""
    lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2, enable_nested_tensor=False)
    blocks = {i: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2) for i in range(2)}
    attachment = attach(lm, {0: blocks[0], 1: blocks[1].to("meta")})
    projected = attachment.project(MediaState(media=torch.zeros(1, 3, 8), valid=torch.ones(1, 3).bool())).projected
    assert [projected[name].key.device.type for name in "01"] == ["cpu", "meta"]


def test_a_resampler_that_takes_no_flags_gets_none():
    """It would read the padding of clips as if it were frames; without flags it is run as it is."""

    class Mean(nn.Module):
        vision_dim = 16

        def forward(self, features):
            return features.mean(2)

    clips, exist = torch.randn(1, 2, 4, 16), torch.tensor([[True, False]])
    assert encode_pool(resampler=Mean(), features=clips).media.shape == (1, 2, 16)
    with pytest.raises(ValueError, match="Mean takes no valid=, but some frames or patches may not exist"):
        encode_pool(resampler=Mean(), features=clips, frame_valid=exist)


def test_compiled_models_keep_their_arguments():
    """The names that `forward` takes are found behind `torch.compile`."""
    lm = torch.compile(PaperLanguageModel(vocab_size=8, dim=8, depth=1, num_heads=2), backend="eager")
    assert accepts(lm, "attention_mask")


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_autocast_does_not_round_what_is_normed(norm, without_shape_checks):
    """Under autocast a residual far from zero is normed in its own precision, without a warning."""
    torch.manual_seed(0)
    block = GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2, norm=norm, qk_norm=norm)
    nn.init.constant_(block.attention_gate.gate, 1.0)
    nn.init.constant_(block.feed_forward_gate.gate, 1.0)
    resampler = PerceiverResampler(
        vision_dim=8, dim=16, num_latents=3, depth=1, num_heads=2, head_dim=8, norm=norm, qk_norm=norm, final_norm=True
    )
    layout = MediaLayout.from_tokens(torch.tensor([[True, False, False]]))
    text, vision = torch.randn(1, 3, 16) + 300, torch.randn(1, 1, 5, 8)
    exact = block(text, resampler(vision), layout)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block(text, resampler(vision), layout)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded - text, exact - text, atol=0.1, rtol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs two devices that compute")
def test_a_layout_elsewhere_is_told():
    """A layout on another device than the text is a ValueError that names both."""
    layout = MediaLayout.from_tokens(torch.tensor([[True, False]]))
    query = torch.zeros(1, 2, 2, 4, device="cuda")
    with pytest.raises(ValueError, match=r"layout is on cpu, query on cuda.*layout\.to"):
        media_attention(query, query, query, layout)


@pytest.mark.parametrize("family", ["clip", "vit"])
def test_a_folder_that_holds_everything_holds_the_tower(family, tmp_path):
    """A tower of transformers is built again from the folder alone, its options and preprocessing included."""
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
             "num_hidden_layers": 2}  # fmt: skip
    model = {
        "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes)),
        "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**sizes)),
    }[family]()
    lm = PaperLanguageModel(vocab_size=32, dim=16, depth=2, num_heads=2)
    flamingo = Flamingo(
        lm=lm,
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2)),
        vision=TransformersTower(model, layer=-2, fit="pad"),
        media_token_id=32,
        num_new_tokens=2,
    ).eval()
    nn.init.constant_(flamingo.blocks["0"].attention_gate.gate, 0.7)
    flamingo.save_pretrained(tmp_path, frozen="include")
    loaded = Flamingo.from_pretrained(tmp_path)
    pixels = torch.randn(1, 1, 3, 16, 16)
    assert torch.equal(loaded(IDS, pixels=pixels).logits, flamingo(IDS, pixels=pixels).logits)
    assert (loaded.vision.layer, loaded.vision.preprocess) == (-2, flamingo.vision.preprocess)


def test_a_tower_of_ones_own_is_asked_for(tmp_path):
    """What cannot be built from plain values is named, with the argument that brings it."""
    flamingo = opened().eval()
    assert isinstance(flamingo.vision, CallableTower)
    flamingo.save_pretrained(tmp_path, frozen="include")
    with pytest.raises(ValueError, match="CallableTower cannot be built .* pass it as vision="):
        Flamingo.from_pretrained(tmp_path)


def test_padded_media_need_a_layout_of_the_grid():
    """Media padded to a grid beside a layout of packed items are refused: row 1 would see row 0's padding."""
    block = GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2)
    is_media = torch.tensor([[True, False, False], [True, False, True]])
    text, media = torch.zeros(2, 3, 8), torch.randn(2, 2, 3, 8)
    with pytest.raises(ValueError, match=r"padded to 2 items a row.*from_grid\(\.\.\., num_media=2\)"):
        block(text, media, MediaLayout.from_tokens(is_media))
    assert block(text, media, MediaLayout.from_grid(is_media, num_media=2)).shape == text.shape


def test_slips_are_told_where_they_are_made(without_shape_checks):
    """Wrong ids, candidates, shapes and backends are refused in words, with the argument's name."""
    flamingo = opened()
    with pytest.raises(TypeError, match="candidate 0 is 'cat', wanted a list of token ids"):
        flamingo.score(IDS[:, :1], ["cat"])
    with pytest.raises(TypeError, match="candidate 1 is 4, wanted a list of token ids"):
        flamingo.score(IDS[:, :1], [[3], 4])
    with pytest.raises(ValueError, match=r"input_ids is torch.int64 of shape \(4,\), wanted ids \[batch text\]"):
        flamingo(IDS[0])
    with pytest.raises(ValueError, match="packed rows cannot be continued"):
        flamingo.generate(IDS, document=torch.zeros_like(IDS))
    with pytest.raises(ValueError, match="backend is 'flash', wanted 'auto' or one of 'reference', 'sdpa', 'runs'"):
        GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2, backend="flash")
    lm = PaperLanguageModel(vocab_size=8, dim=8, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="media_token_id is 8, but the table has 8 ids and num_new_tokens is 0"):
        Flamingo(lm=lm, blocks={0: GatedCrossAttentionBlock(8, vision_dim=8, num_heads=2)}, media_token_id=8)
    with pytest.raises(TypeError, match="is_media is a list, wanted a bool tensor"):
        check_is_media([[True]], None)
