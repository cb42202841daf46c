"""Products in bfloat16 over weights in float32: near the gradients of float32, and nothing that trains is narrow."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.nn import TanhGate
from flamingo_blocks.training import (
    Objective,
    TrainConfig,
    adamw,
    flamingo_loss,
    param_groups,
    prepare_precision,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.training.finetune import train_only
from flamingo_blocks.training.objective import draw
from flamingo_blocks.training.update import update
from flamingo_blocks.vision import CallableTower, TransformersTower

BFLOAT16 = torch.bfloat16


class StandardisedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1, as in NFNets: small numbers are subtracted there."""

    def forward(self, pixels):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight * (weight.square().mean((1, 2, 3), keepdim=True) * weight[0].numel() + 1e-4).rsqrt()
        return F.conv2d(pixels, weight, self.bias, self.stride)


def nfnet():
    net = nn.Sequential(StandardisedConv(3, 8, 2, stride=2), nn.GELU(), StandardisedConv(8, 16, 2, stride=2))
    return CallableTower(net, image_size=8)


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    return TransformersTower(ViTModel(config, add_pooling_layer=False))


def make_model(tower=None, *parts):
    """Gates open, so that a step reaches everything."""
    model = build_tiny_flamingo()
    if tower is not None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.vision = tower()
    for gate in (module for module in model.modules() if isinstance(module, TanhGate)):
        nn.init.constant_(gate.gate, 0.5)
    train_only(model, *parts)
    return model.train()


def make_batch():
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 31, (8, 24), generator=noise)
    ids[:, [1, 9]] = 32
    layout = build_tiny_flamingo().make_layout(ids)
    pixels = torch.randn(16, 1, 3, 8, 8, generator=noise)
    return FlamingoBatch(input_ids=ids, attention_mask=ids >= 0, layout=layout, labels=ids, pixels=pixels)


def objective(loss=flamingo_loss):
    return Objective(name="pairs", batches=[make_batch()], loss=loss)


def gradients(model, autocast=None):
    """Of one step of the loop, not clipped; and the loss."""
    config = TrainConfig(
        model=model, objectives=[objective()], steps=1, lr=1e-3, schedule=warmup_hold_decay(warmup=1),
        max_grad_norm=1e9, autocast=autocast,
    )  # fmt: skip
    (report,) = train(config).reports
    return {name: p.grad for name, p in model.trained_parameters().items()}, report.losses["pairs"]


def apart(some, others):
    """Norm of the difference of all gradients, relative to their own."""
    some, others = (torch.cat([grad.flatten() for grad in grads.values()]) for grads in (some, others))
    return float((some - others).norm() / others.norm())


@pytest.mark.parametrize("tower", [None, nfnet, vit])
@pytest.mark.parametrize("parts", [(), ("blocks", "resampler", "new_tokens", "tower")])
def test_gradients_are_near_those_in_float32(tower, parts):
    """Within 2 %, frozen weights in bfloat16 and the tower in either: about 1 % is seen."""
    exact, loss = gradients(make_model(tower, *parts))
    model = make_model(tower, *parts)
    prepare_precision(model)
    rounded, rounded_loss = gradients(model, BFLOAT16)
    assert rounded_loss == pytest.approx(loss, rel=0.01)
    assert 1e-4 < apart(rounded, exact) < 0.02
    assert model.lm.head.weight.dtype == BFLOAT16
    frozen_tower = not any(p.requires_grad for p in model.vision.parameters())
    assert {p.dtype for p in model.vision.parameters()} == {BFLOAT16 if frozen_tower else torch.float32}


def test_what_trains_is_float32_throughout():
    """Parameters, their gradients, the moments of the optimiser, the loss, and what a gate multiplies by."""
    model = make_model()
    prepare_precision(model)
    optimizer = adamw(param_groups(model, lr=1e-3))
    gates, losses = [], []

    def loss(model, batch):
        gates.extend(module.value() for module in model.modules() if isinstance(module, TanhGate))
        losses.append(flamingo_loss(model, batch))
        return losses[0]

    drawn = [draw(objective(loss), iter([make_batch()]), model, 0)]
    sizes = [each.sizes for each in drawn]
    update(model, optimizer, drawn, sizes, step=0, lr=1e-3, began=0.0, max_grad_norm=1.0, autocast=BFLOAT16)
    trained = list(model.trained_parameters().values())
    moments = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert len(gates) == 4 and len(moments) == 2 * len(trained)
    everything = [*trained, *(p.grad for p in trained), *moments, *gates, *losses]
    assert {tensor.dtype for tensor in everything} == {torch.float32}


def computed_in(autocast):
    """Dtypes of what the first block and its widest matrix give, frozen weights in bfloat16."""
    model, found = make_model(), {}
    prepare_precision(model)
    block = model.blocks["0"]
    for name, module in (("block", block), ("product", block.attention.q_proj)):
        module.register_forward_hook(lambda *seen, name=name: found.update({name: seen[2].dtype}))
    gradients(model, autocast)
    return found


def test_products_are_in_bfloat16_with_autocast_alone():
    """The residual is that of the language model in any case; without autocast, what trains computes in float32."""
    assert computed_in(BFLOAT16) == {"block": BFLOAT16, "product": BFLOAT16}
    assert computed_in(None) == {"block": BFLOAT16, "product": torch.float32}


def test_recomputed_activations_give_the_same_gradients():
    """Bit for bit: what is recomputed in the backward pass, outside of the context, is rounded alike."""
    found = []
    for checkpointed in (False, True):
        model = make_model()
        prepare_precision(model)
        model.checkpoint_activations(enabled=checkpointed)
        found.append(gradients(model, BFLOAT16)[0])
    assert all(torch.equal(grad, found[1][name]) for name, grad in found[0].items())


def test_float16_is_refused():
    """Its small gradients would vanish, and the loop has no scale for them."""
    with pytest.raises(ValueError, match=r"autocast is torch\.float16, wanted torch\.bfloat16 or None"):
        gradients(make_model(), torch.float16)
