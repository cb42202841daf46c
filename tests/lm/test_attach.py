"""Attaching blocks: what is refused, how columns are counted, in which order hooks run."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, MediaState, attach
from flamingo_blocks.errors import LayersNotFoundError
from tests.flamingos import LATENTS, VISION_DIM, close, make_block
from tests.language_models import DIM, NAMES, PlainDecoder, make_language_model

IS_MEDIA = torch.tensor([[False, True, False, False, True, False]])
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def example_state(dtype: torch.dtype = torch.float32) -> MediaState:
    media = torch.randn(2, LATENTS, VISION_DIM, generator=torch.Generator().manual_seed(0)).to(dtype)
    return MediaState(media=media, layout=MediaLayout.from_tokens(IS_MEDIA))


def hooks_of(lm: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in lm.modules())


def test_a_layer_takes_one_block_only():
    """A second attachment to a layer is refused before anything is done; other layers, or the same later, are free."""
    lm = PlainDecoder()
    first = attach(lm, {0: make_block()})
    before = hooks_of(lm)
    with pytest.raises(ValueError, match="layer 0 of 'layers' has a block already; call detach"):
        attach(lm, {1: make_block(), 0: make_block()})
    assert hooks_of(lm) == before
    second = attach(lm, {1: make_block()})
    state = example_state()
    with first.media(state), second.media(state):
        both = lm(IDS)
    first.detach()
    attach(lm, {0: first.blocks["0"]})
    second.detach()
    assert hooks_of(lm) == before
    assert torch.isfinite(both).all()


@pytest.mark.parametrize("layer", [-1, 2])
def test_a_block_needs_a_layer(layer):
    """An index beyond the layers is an error with both numbers, and leaves nothing behind."""
    lm = PlainDecoder()
    with pytest.raises(ValueError, match=f"a block for layer {layer}, but 'layers' has layers 0 to 1"):
        attach(lm, {0: make_block(), layer: make_block()})
    assert hooks_of(lm) == 0


def test_unknown_layers_are_told_with_the_candidates():
    """The error of the search passes through, and names the list that there is."""
    with pytest.raises(LayersNotFoundError, match="'layers' \\(2 layers\\)"):
        attach(PlainDecoder(), {0: make_block()}, layers="transformer.h")


@pytest.mark.parametrize("name", NAMES)
def test_a_call_without_media_is_refused(name):
    """A model with blocks never runs as if it had none by mistake."""
    lm = make_language_model(name)
    attach(lm, {0: make_block()})
    with pytest.raises(
        RuntimeError, match=r"wrap the call in attachment.media\(state\), or in attachment.without_media"
    ):
        lm(IDS)


def test_media_need_a_layout():
    """A pool alone does not say which token sees what."""
    attachment = attach(PlainDecoder(), {0: make_block()})
    with (
        pytest.raises(ValueError, match="state has no layout; give it one with state.with_layout"),
        attachment.media(MediaState(media=torch.zeros(1, LATENTS, VISION_DIM))),
    ):
        raise AssertionError


def test_blocks_are_kept_beside_the_model():
    """They are a `ModuleDict` by layer, in order, and no part of the model's tree."""
    lm = PlainDecoder()
    blocks = {1: make_block(1), 0: make_block(0)}
    attachment = attach(lm, blocks)
    assert list(attachment.blocks) == ["0", "1"]
    assert attachment.blocks["1"] is blocks[1]
    assert not {id(module) for module in attachment.blocks.modules()} & {id(module) for module in lm.modules()}


def test_attaching_computes_nothing():
    """A model on the meta device attaches, and only then might run."""
    with torch.device("meta"):
        lm, block = PlainDecoder(), GatedCrossAttentionBlock(DIM, vision_dim=VISION_DIM, num_heads=4)
        attachment = attach(lm, {0: block})
        layout = MediaLayout.from_tokens(IS_MEDIA.cpu())
    with attachment.media(MediaState(media=torch.empty(2, LATENTS, VISION_DIM, device="meta"), layout=layout)):
        assert attachment.lm(IDS.to("meta")).shape == (1, 6, 50)


def test_our_hooks_move_before_others():
    """What FSDP sets after us runs first until `move_to_front`; then the block runs before it, with the same result."""
    lm = PlainDecoder().eval()
    attachment = attach(lm, {0: make_block()})
    inputs = []
    lm.layers[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0]), prepend=True)
    state = example_state()
    with attachment.media(state):
        behind = lm(IDS)
        attachment.move_to_front()
        before = lm(IDS)
    assert torch.equal(behind, before)
    assert torch.equal(inputs[0], lm.embed(IDS))  # their hook saw the text without the block
    assert torch.equal(inputs[1], attachment.blocks["0"](lm.embed(IDS), state.media, state.layout))
    attachment.detach()
    assert hooks_of(lm) == 1


class TokenWise(nn.Module):
    """A decoder whose layers treat each token alone, so that any stretch of columns can be run by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, DIM)
        self.layers = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("projected", [False, True])
def test_a_decoder_with_a_cache_of_its_own_is_told_how_much_it_holds(projected):
    """`past` moves the columns of the layout that a call uses; beyond the layout, tokens see what the last one saw."""
    attachment = attach(TokenWise(), {0: make_block(0), 1: make_block(1)})
    state = attachment.project(example_state()) if projected else example_state()
    with attachment.media(state):
        whole = attachment.lm(IDS)
    for start in range(6):
        with attachment.media(state, past=start):
            close(attachment.lm(IDS[:, start:]).double(), whole[:, start:].double(), "llama")
    with attachment.media(state.with_layout(state.layout.extend(2))):
        longer = attachment.lm(torch.cat([IDS, IDS[:, :2]], 1))
    with attachment.media(state, past=6):
        close(attachment.lm(IDS[:, :2]).double(), longer[:, 6:].double(), "llama")


class Dispatched(TokenWise):
    """A decoder whose second layer is on another device."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[1].to("meta")

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x.to(layer.weight.device))
        return x


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("valid", [None, torch.ones(2, LATENTS, dtype=torch.bool)])
def test_media_move_to_the_device_of_each_layer(projected, valid):
    """A pool on one device serves blocks on several, projected or not; the state itself stays where it is."""
    attachment = attach(Dispatched(), {0: make_block(0), 1: make_block(1).to("meta")})
    state = replace(example_state(), valid=valid)
    state = attachment.project(state) if projected else state
    with attachment.media(state):
        assert attachment.lm(IDS).device.type == "meta"
    assert state.media.device.type == state.layout.last.device.type == "cpu"


def test_several_calls_share_a_context():
    """Each call starts at the first column, whatever the one before it was."""
    attachment = attach(PlainDecoder().eval(), {0: make_block(0)})
    with attachment.media(example_state()):
        whole = attachment.lm(IDS)
        torch.testing.assert_close(attachment.lm(IDS[:, :3]), whole[:, :3])
        torch.testing.assert_close(attachment.lm(IDS), whole)


class Sum(nn.Module):
    """A layer that knows its inputs by name."""

    def forward(self, **kwargs: Tensor) -> Tensor:
        return sum(kwargs.values())


class WithKeywords(nn.Module):
    """A decoder that calls its layers by keywords."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.layers = nn.ModuleList([Sum(), Sum()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(**dict.fromkeys(self.names, x))
        return x


def test_layers_called_by_keyword_get_the_block_too():
    """The hidden states are the one argument of their shape, or the one of that name."""
    layout = MediaLayout.from_tokens(IS_MEDIA)
    text, block = torch.randn(1, 6, DIM, generator=torch.Generator().manual_seed(1)), make_block()
    for names, times in ((("x",), 1), (("other", "hidden_states"), 2)):
        attachment = attach(WithKeywords(names), {1: block})
        state = MediaState(media=example_state().media, layout=layout)
        with attachment.media(state):
            out = attachment.lm(text)
        new = block(text * times, state.media, layout)
        expected = new if times == 1 else new + text * times
        torch.testing.assert_close(out, expected)


def test_layers_without_telling_keywords_are_refused():
    """Two tensors of that shape under other names: none is taken by luck."""
    attachment = attach(WithKeywords(("left", "right")), {0: make_block()})
    with (
        pytest.raises(ValueError, match=r"keywords \['left', 'right'\]; wanted hidden_states"),
        attachment.media(example_state()),
    ):
        attachment.lm(torch.zeros(1, 6, DIM))


def test_a_pool_of_another_size_than_the_layout_names_is_refused():
    """An item that the layout names and the pool lacks is an error, not a wrong image."""
    attachment = attach(PlainDecoder(), {0: make_block()})
    state = MediaState(media=torch.zeros(1, LATENTS, VISION_DIM), layout=MediaLayout.from_tokens(IS_MEDIA))
    with pytest.raises(ValueError, match="pool holds 1 items, but the layout names item 1"), attachment.media(state):
        attachment.lm(IDS)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([make_block()], TypeError, "blocks is a list, wanted a mapping from layer index to block"),
        (nn.ModuleDict(), TypeError, "blocks is a ModuleDict, wanted a mapping from layer index to block"),
        ({}, ValueError, r"blocks is empty, wanted a mapping .* every_layer\(lm, make_block\) makes them"),
        ({"0": make_block()}, TypeError, "blocks holds '0': GatedCrossAttentionBlock, wanted a mapping"),
        ({0: GatedCrossAttentionBlock}, TypeError, "blocks holds 0: type, wanted a mapping"),
    ],
)
def test_blocks_come_by_the_index_of_their_layer(blocks, error, message):
    """Anything else is refused, and nothing is left behind."""
    lm = PlainDecoder()
    with pytest.raises(error, match=message):
        attach(lm, blocks)
    assert hooks_of(lm) == 0


@pytest.mark.usefixtures("without_shape_checks")
def test_media_come_as_a_state_while_the_blocks_are_there():
    """A bare layout is told what holds it; blocks that were taken off are told so, and print so."""
    attachment = attach(PlainDecoder(), {1: make_block(), 0: make_block()})
    assert repr(attachment) == "Attachment(PlainDecoder, layers with a block: 0, 1)"
    state = example_state()
    with pytest.raises(TypeError, match=r"state is a MediaLayout, wanted a MediaState: MediaState\(media=media"):
        attachment.media(state.layout).__enter__()
    attachment.detach()
    assert repr(attachment) == "Attachment(PlainDecoder, layers with a block: none: detached)"
    with pytest.raises(RuntimeError, match="these blocks were detached from the language model; attach them again"):
        attachment.media(state).__enter__()
    with attachment.without_media():
        attachment.lm(IDS)
