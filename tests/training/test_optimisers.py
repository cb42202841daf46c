"""Every trained parameter is in one group, by its role."""

import pytest
import torch
from torch import nn

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import adamw, param_groups


def test_each_trained_parameter_is_in_exactly_one_group_and_no_frozen_one_is():
    """The groups hold the trained parameters of a Flamingo, each once, tied ones too."""
    flamingo = build_tiny_flamingo()
    grouped = [id(p) for group in param_groups(flamingo, lr=1e-3) for p in group["params"]]
    trained = {id(p) for p in flamingo.parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained


def test_roles_decide_rate_and_decay():
    """Block matrices alone decay, gates alone have another learning rate, and each role holds what its name says."""
    flamingo = build_tiny_flamingo()
    groups = {group["name"]: group for group in param_groups(flamingo, lr=0.01, weight_decay=0.2, gate_lr_factor=10.0)}
    assert {name for name, group in groups.items() if group["weight_decay"]} == {"blocks.matrices"}
    assert {name for name, group in groups.items() if group["lr"] != 0.01} == {"gates"}
    assert groups["gates"]["lr"] == groups["gates"]["base_lr"] == pytest.approx(0.1)
    names = {id(p): name for name, p in flamingo.named_parameters()}
    assert all("gate" in names[id(p)] for p in groups["gates"]["params"])
    assert all(names[id(p)].startswith("resampler.") for p in groups["resampler"]["params"])
    assert all(names[id(p)].startswith("token_rows.") for p in groups["new_tokens"]["params"])
    assert all(p.ndim == 2 for p in groups["blocks.matrices"]["params"])


def test_a_frozen_model_is_refused():
    """A model without a trained parameter has nothing to group."""
    with pytest.raises(ValueError, match="Linear without a parameter that needs a gradient"):
        param_groups(nn.Linear(1, 1).requires_grad_(False), lr=0.1)


def test_adamw_equals_torchs_own_loop():
    """The fused optimiser makes the update that torch's default makes."""
    updates = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        groups = param_groups(layer, lr=0.1, weight_decay=0.1)
        optimiser = adamw(groups) if fused else torch.optim.AdamW(groups, foreach=False)
        for _ in range(3):
            optimiser.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            optimiser.step()
        updates.append(layer.weight.detach().clone())
    torch.testing.assert_close(*updates)
