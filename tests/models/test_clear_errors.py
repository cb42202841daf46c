"""Slips of someone new: each gets an error that names the argument, what came, what was wanted and the fix."""

import re

import pytest
import torch
from torch import nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, MediaLayout, MediaState, PerceiverResampler
from flamingo_blocks.models import PaperLanguageModel, build_tiny_flamingo, every_layer
from flamingo_blocks.vision import CallableTower

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def resampler(vision_dim=8, dim=8):
    return PerceiverResampler(vision_dim=vision_dim, dim=dim, num_latents=2, depth=1, num_heads=1, head_dim=8)


def tower(dim=8):
    return CallableTower(nn.Conv2d(3, dim, 4, stride=4), image_size=8)


def make(lm=None, dim=16, vision_dim=8, **parts):
    """A model of which one part may not fit."""
    lm = PaperLanguageModel(vocab_size=10, dim=16, depth=2, num_heads=2) if lm is None else lm
    blocks = every_layer(lm, lambda: GatedCrossAttentionBlock(dim, vision_dim=vision_dim, num_heads=2))
    return Flamingo(lm=lm, blocks=blocks, **{"media_token_id": 9, **parts})


class Unknown(nn.Module):
    """A projector that tells no width; what it calls `dim` is its own business."""

    dim = 99

    def forward(self, features):
        return features


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            dict(vision=tower(6), resampler=resampler()),
            r"vision gives width 6, resampler wants vision_dim 8; build it with vision_dim=6(\n|$)",
        ),
        (dict(resampler=resampler(dim=12)), "resampler gives width 12, the block before layer 0 wants vision_dim 8"),
        (dict(vision=tower(6)), "vision gives width 6, the block before layer 0 wants vision_dim 8"),
        (dict(vision=tower(6), projection=nn.Linear(5, 8)), "vision gives width 6, projection wants in_features 5"),
        (
            dict(resampler=resampler(), projection=nn.Linear(5, 8)),
            "resampler gives width 8, projection wants in_features 5",
        ),
        (
            dict(resampler=Unknown(), projection=nn.Linear(5, 7)),
            "projection gives width 7, the block before layer 0 wants vision_dim 8",
        ),
        (dict(resampler=nn.Linear(8, 7)), "resampler gives width 7, the block before layer 0 wants vision_dim 8"),
        (dict(dim=12), r"lm gives width 16, the block before layer 0 wants dim 12; build it with dim=16(\n|$)"),
    ],
)
def test_parts_of_different_widths_are_refused_with_both_names(parts, message):
    """The language model has no hook left."""
    lm = PaperLanguageModel(vocab_size=10, dim=16, depth=2, num_heads=2)
    with pytest.raises(ValueError, match=message):
        make(lm, **parts)
    assert not any(module._forward_pre_hooks for module in lm.modules())
    assert all(weight.requires_grad for weight in lm.parameters())


def test_the_width_of_a_language_model_of_transformers_is_known():
    """Its config says it, also where the embedding is narrower than the layers."""
    transformers = pytest.importorskip("transformers")
    config = transformers.OPTConfig(
        vocab_size=10, hidden_size=24, word_embed_proj_dim=12, ffn_dim=8, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    lm = transformers.OPTForCausalLM(config)
    with pytest.raises(ValueError, match="lm gives width 24, the block before layer 0 wants dim 12"):
        make(lm, dim=12)
    make(lm, dim=24)


def test_a_part_that_does_not_tell_its_width_hides_it():
    """Nothing is refused that may be right."""
    make(vision=tower(6), resampler=Unknown(), projection=nn.Linear(5, 8))
    make(vision=tower(6), resampler=Unknown())


def test_a_bare_encoder_is_told_what_wraps_it():
    """By the library that it comes from."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    with pytest.raises(TypeError, match=r"vision is a CLIPVisionModel without dim, .*: TransformersTower\(model\)"):
        make(vision=transformers.CLIPVisionModel(config), resampler=resampler())
    with pytest.raises(TypeError, match=r"vision is a Conv2d without dim, .*: CallableTower\(model, image_size="):
        make(vision=nn.Conv2d(3, 8, 4))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (dict(media_token_id="<image>"), TypeError, "media_token_id is '<image>', wanted the id of a token"),
        (dict(media_token_id=None), TypeError, "media_token_id is None, wanted the id of a token"),
        (dict(end_token_id="<EOC>"), TypeError, "end_token_id is '<EOC>', wanted the id of a token"),
        (dict(end_token_id=9), ValueError, "end_token_id and media_token_id are both 9"),
        (dict(document_end_id=9), ValueError, "document_end_id and media_token_id are both 9"),
    ],
)
def test_tokens_are_ids_of_their_own(tokens, error, message):
    """Words are no ids, and the end is no image."""
    with pytest.raises(error, match=message):
        make(**tokens)


IDS = torch.tensor([[1, 32, 5]])
PIXELS = torch.zeros(1, 1, 3, 8, 8)
LAYOUT = MediaLayout.from_tokens(IDS == 32)
CALLS = {"forward": {}, "prefill": {}, "generate": dict(max_new_tokens=1), "score": dict(candidates=[[3]])}


@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    [
        ("forward", dict(pixels=[PIXELS[0]]), TypeError, r"pixels is a list, wanted a tensor; .*torch.stack"),
        ("forward", dict(media=MediaLayout), TypeError, "media is a type, wanted a tensor"),
        *(
            (call, dict(input_ids=[[1, 32]], **more), TypeError, "input_ids is a list, wanted a tensor of ids")
            for call, more in CALLS.items()
        ),
        ("generate", dict(input_ids=IDS[:, :0]), ValueError, r"input_ids has shape \(1, 0\), so there is no text"),
        ("prefill", dict(input_ids=IDS[:, :0]), ValueError, r"input_ids has shape \(1, 0\), so there is no text"),
        (
            "score",
            dict(input_ids=IDS[:, :0], candidates=[[3]]),
            ValueError,
            r"input_ids has shape \(1, 0\), so there is no text",
        ),
        (
            "score",
            dict(pixels=PIXELS, candidates=torch.tensor([[3], [4]])),
            TypeError,
            r"candidates is a Tensor, wanted lists of token ids: candidates.tolist\(\)",
        ),
        (
            "forward",
            dict(pixels=PIXELS, labels=IDS[:, :2]),
            ValueError,
            r"labels has shape \(1, 2\), wanted \(1, 3\) as input_ids",
        ),
        (
            "forward",
            dict(pixels=PIXELS, attention_mask=torch.ones(1, 2)),
            ValueError,
            r"attention_mask has shape \(1, 2\), wanted \(1, 3\) as input_ids: 1 at real tokens",
        ),
        *(
            (
                call,
                dict(pixels=PIXELS, layout=LAYOUT, attention_mask=torch.ones(shape), **more),
                ValueError,
                rf"attention_mask has shape {re.escape(str(shape))}, wanted \(1, 3\) as input_ids: 1 at real tokens",
            )
            for call, more in CALLS.items()
            for shape in ((1, 9), (3,), (1, 1, 3, 3))
        ),
        (
            "forward",
            dict(pixels=PIXELS, layout=LAYOUT, document=IDS[:, :2]),
            ValueError,
            r"document is torch.int64 of shape \(1, 2\), wanted integers of shape \(1, 3\), one a token",
        ),
        ("__call__", dict(pixel_values=PIXELS), TypeError, "pixel_values was given; here it is pixels="),
        ("generate", dict(pixel_values=PIXELS), TypeError, "pixel_values was given; here it is pixels="),
        ("forward", dict(pixels=PIXELS.byte()), ValueError, r"divide by 255 where .* from 0 to 1"),
        (
            "forward",
            dict(pixels=PIXELS.movedim(2, -1)),
            ValueError,
            r"the channels are last: pixels.movedim\(-1, -3\)",
        ),
        ("forward", dict(pixels=PIXELS[0]), ValueError, r"an image is a clip of one frame: pixels\[:, None\]"),
    ],
)
def test_arguments_of_a_call(call, arguments, error, message):
    """What came, what was wanted, and the fix."""
    with pytest.raises(error, match=message):
        getattr(build_tiny_flamingo(), call)(**{"input_ids": IDS, **arguments})


FEATURES, MEDIA = torch.zeros(1, 1, 4, 16), torch.zeros(1, 4, 16)
FRAME, PATCH = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, 4, dtype=torch.bool)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            dict(pixels=PIXELS, patch_valid=PATCH),
            "patch_valid was given beside pixels, wanted beside features: the tower",
        ),
        (dict(media=MEDIA, patch_valid=PATCH), "patch_valid was given beside media, wanted .*, or give MediaState"),
        (
            dict(media=MediaState(media=MEDIA), frame_valid=FRAME),
            "frame_valid was given beside media, wanted beside pixels or features: .*; leave it",
        ),
        (
            dict(input_ids=IDS[:, :1], frame_valid=FRAME, patch_valid=PATCH),
            "frame_valid was given without media, wanted beside pixels or features: leave it out",
        ),
        (
            dict(features=FEATURES, frame_valid=FRAME[0]),
            r"frame_valid has shape \[1\] and dtype torch.bool, wanted bool \[1, 1\] \(items frames\) beside features",
        ),
        (
            dict(features=FEATURES, frame_valid=FRAME.long()),
            r"frame_valid has shape \[1, 1\] and dtype torch.int64, wanted bool \[1, 1\]",
        ),
        (
            dict(features=FEATURES, patch_valid=PATCH[..., :3]),
            r"patch_valid has shape \[1, 1, 3\] and dtype torch.bool, wanted bool \[1, 1, 4\] \(items frames patches\)",
        ),
    ],
)
def test_flags_of_frames_and_patches_are_never_passed_over(call, given, message):
    """Beside media that have none, or that tell it themselves, they are refused, as are flags of another shape."""
    with pytest.raises(ValueError, match=message):
        getattr(build_tiny_flamingo(), call)(**{"input_ids": IDS, **given}, **CALLS[call])


def test_media_that_are_encoded_once_have_flags_that_count():
    """`encode_media` refuses what `forward` refuses."""
    flamingo = build_tiny_flamingo()
    with pytest.raises(ValueError, match="patch_valid was given beside pixels"):
        flamingo.encode_media(PIXELS, patch_valid=PATCH)
    with pytest.raises(ValueError, match=r"frame_valid has shape \[2\]"):
        flamingo.encode_media(features=FEATURES, frame_valid=torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("call", CALLS)
def test_a_detached_model_says_so(call):
    """Whatever it is asked for; what it was made of goes on."""
    flamingo = build_tiny_flamingo()
    lm = flamingo.detach()
    with pytest.raises(RuntimeError, match="this Flamingo was detached; make another one"):
        getattr(flamingo, call)(IDS, pixels=PIXELS, **CALLS[call])
    assert lm(IDS[:, :1]).shape == (1, 1, 32)


def test_a_prompt_prints_its_sizes():
    """Not its weights and caches."""
    flamingo = build_tiny_flamingo()
    assert repr(flamingo.prefill(IDS, pixels=PIXELS)) == "PromptState(1 rows of 3 tokens, 1 items, no cache)"
