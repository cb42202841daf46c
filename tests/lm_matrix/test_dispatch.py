"""Language models that are spread over devices, memory and disk by accelerate."""

import copy

import accelerate
import pytest
import torch
from torch import nn

from flamingo_blocks import Flamingo, attach
from flamingo_blocks.lm import find_decoder_layers
from flamingo_blocks.lm.find_layers import layer_device
from tests.flamingos import EXAMPLE_ROWS, KNOWN_TAG, make_batch, make_block, make_flamingo
from tests.language_families import parametrised
from tests.language_models import PlainDecoder, make_language_model

# transformers 5.0 takes a model whose weights are on disk for one on the meta device
pytestmark = pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")
BATCH = make_batch(EXAMPLE_ROWS, 0, tag=KNOWN_TAG, dtype=torch.float32)


def flamingo_around(name: str, lm: nn.Module) -> Flamingo:
    """No new tokens: their first values are read off the table, which may be on disk."""
    flamingo = make_flamingo(
        name, lm=copy.deepcopy(make_language_model(name)), num_new_tokens=0, media_token_id=KNOWN_TAG, end_token_id=None
    )
    parts = {"blocks": {int(index): block for index, block in flamingo.float().blocks.items()}}
    parts |= {part: getattr(flamingo, part) for part in ("resampler", "vision")}
    return Flamingo(lm=lm, media_token_id=KNOWN_TAG, **parts).eval()


def spread(lm: nn.Module, kind: str, folder) -> nn.Module:
    """All weights in memory or on disk until they are needed; or each second part of the model on disk."""
    cpu = torch.device("cpu")
    if kind == "memory":
        return accelerate.cpu_offload(lm, execution_device=cpu)
    if kind == "disk":
        return accelerate.disk_offload(lm, str(folder), execution_device=cpu)
    found = find_decoder_layers(lm)
    parts = [f"{found.name}.{index}" for index in range(len(found.layers))]
    rest = [
        name
        for name, module in lm.named_modules()
        if not name.startswith(found.name) and list(module.parameters(recurse=False))
    ]
    device_map = {name: "disk" if index % 2 else "cpu" for index, name in enumerate([*parts, *rest])}
    return accelerate.dispatch_model(lm, device_map, main_device="cpu", offload_dir=str(folder))


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("kind", ["memory", "disk", "device map"])
@parametrised(["llama", "gpt2"], in_every_run=["llama"])
def test_a_model_that_is_spread_runs_as_it_did_before(name, kind, order, tmp_path):
    """Attached before it is spread or after: the same logits, loss, gradients and tokens."""
    reference = flamingo_around(name, make_language_model(name))
    lm = make_language_model(name)
    if order == "before":
        spread(lm, kind, tmp_path)
    flamingo = flamingo_around(name, lm)
    if order == "after":
        spread(flamingo.lm, kind, tmp_path)
    assert any(weight.is_meta for weight in lm.parameters())
    given = BATCH.arguments()
    assert torch.equal(flamingo(**given).logits, reference(**given).logits)
    losses = [one(**given, labels=BATCH.input_ids).loss for one in (flamingo, reference)]
    gradients = [
        torch.autograd.grad(loss, list(one.blocks.parameters()))
        for loss, one in zip(losses, (flamingo, reference), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    row = BATCH.row(0).arguments()
    arguments = dict(max_new_tokens=3, eos_token_id=None)
    assert torch.equal(flamingo.generate(**row, **arguments), reference.generate(**row, **arguments))


def test_packed_documents_are_shown_to_work_on_a_model_on_disk(tmp_path):
    """Its first weights tell no device; the look at the model runs all the same."""
    flamingo = flamingo_around("llama", spread(make_language_model("llama"), "disk", tmp_path))
    document = torch.tensor([[0, 0, 0, 1, 1]])
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    torch.testing.assert_close(flamingo(ids, document=document).logits[:, 3:], flamingo(ids[:, 3:]).logits)


def test_blocks_move_to_the_device_of_their_layer(tmp_path):
    """Where accelerate runs the layer, or where its weights are; a layer without weights moves nothing."""
    lm = spread(make_language_model("llama"), "disk", tmp_path)
    assert all(layer_device(layer) == torch.device("cpu") for layer in find_decoder_layers(lm).layers)
    lm = PlainDecoder()
    lm.layers[1].to("meta")
    attachment = attach(lm, {0: make_block(0), 1: make_block(1)})
    attachment.move_to_layers()
    assert {p.device.type for p in attachment.blocks["0"].parameters()} == {"cpu"}
    assert {p.device.type for p in attachment.blocks["1"].parameters()} == {"meta"}
    assert layer_device(nn.Identity()) is None
