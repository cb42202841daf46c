"""Optimisers by name: each trains, is saved and goes on; groups keep what is theirs; the configuration wins."""

import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.training.optim.groups import param_groups
from flamingo_blocks.training.optim.mended import mended
from flamingo_blocks.training.optim.optimiser_table import OPTIMISERS
from flamingo_blocks.training.optim.optimisers import adamw, make_optimizer, restore_hyperparameters
from tests.optimiser_runs import loss_of, make_groups, make_model, train

every_optimiser = pytest.mark.parametrize("name", OPTIMISERS)
OF_TORCH = [name for name, entry in OPTIMISERS.items() if entry.package == "torch.optim"]


def test_adamw_equals_torchs_own_loop():
    """The fused optimiser makes the update that torch's default makes."""
    updates = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        groups = param_groups(layer, lr=0.1, weight_decay=0.1)
        optimiser = adamw(groups) if fused else torch.optim.AdamW(groups, foreach=False)
        assert bool(optimiser.param_groups[0]["fused"]) is fused
        for _ in range(3):
            optimiser.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            optimiser.step()
        updates.append(layer.weight.detach().clone())
    torch.testing.assert_close(*updates)


def test_every_optimiser_of_the_package_has_a_name():
    """Those of torch-optimizer under their own names in lower case; RAdam, which torch has as well, under both."""
    package = pytest.importorskip("torch_optimizer")
    classes = {name for name in package.__all__ if name != "get"}
    assert {entry.class_name for entry in OPTIMISERS.values() if entry.package == "torch_optimizer"} == classes
    for name, entry in OPTIMISERS.items():
        assert name.removeprefix("torch_optimizer.") == entry.class_name.lower()
    groups = param_groups(nn.Linear(1, 1), lr=0.1)
    assert type(make_optimizer("RAdam", groups)) is torch.optim.RAdam
    assert isinstance(make_optimizer("Torch_Optimizer.RAdam", groups), package.RAdam)


@every_optimiser
def test_it_trains_and_goes_on_bit_for_bit(name, tmp_path):
    """It lowers the loss of a regression; saved to a file half-way, and resumed in a new object, it ends the same."""
    pytest.importorskip("torch_optimizer")
    graph = OPTIMISERS[name].needs_graph
    model = make_model()
    before = loss_of(model).item()
    optimiser = make_optimizer(name, make_groups(model, name))
    train(model, optimiser, range(12), graph=graph)
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "half.pt")
    train(model, optimiser, range(12, 24), graph=graph)
    assert loss_of(model).item() < 0.9 * before

    saved = torch.load(tmp_path / "half.pt", weights_only=True)
    resumed = make_model(seed=1)
    resumed.load_state_dict(saved["model"])
    groups = make_groups(resumed, name)
    again = make_optimizer(name, groups)
    again.load_state_dict(saved["optimiser"])
    assert [(group["name"], group["base_lr"]) for group in again.param_groups] == [
        (group["name"], group["base_lr"]) for group in groups
    ]
    assert restore_hyperparameters(again, groups) == []
    train(resumed, again, range(12, 24), graph=graph)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), resumed.parameters(), strict=True))


# Adahessian draws for all parameters together, so it is another one alone.
@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name != "adahessian"])
def test_groups_are_on_their_own(name):
    """Each group moves as it would without the others: at its rate, with its decay."""
    pytest.importorskip("torch_optimizer")
    together, apart = make_model(), make_model()
    train(together, make_optimizer(name, make_groups(together, name)), range(7), graph=False)
    optimisers = [make_optimizer(name, [group]) for group in make_groups(apart, name)]
    for step in range(7):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = optimiser.param_groups[0]["base_lr"] / (1 + 0.1 * step)
            optimiser.zero_grad()
        loss_of(apart).backward()
        for optimiser in optimisers:
            optimiser.step()
    assert all(torch.equal(*pair) for pair in zip(together.parameters(), apart.parameters(), strict=True))


# A2Grad has no decay, Adahessian no step without a graph, and Shampoo no step that is weight by weight.
NOT_HERE = ("a2gradexp", "a2gradinc", "a2graduni", "adahessian", "shampoo")


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if name not in NOT_HERE])
def test_decay_makes_weights_smaller(name):
    """Of either sign: with gradients that say next to nothing no weight grows."""
    pytest.importorskip("torch_optimizer")
    layer = nn.Linear(4, 3, bias=False)
    start = torch.linspace(-2, 2, 12).reshape(3, 4)
    with torch.no_grad():
        layer.weight.copy_(start)
    optimiser = make_optimizer(name, param_groups(layer, lr=1e-3, weight_decay=0.1))
    layer.weight.grad = 1e-9 * start
    optimiser.step()
    assert (layer.weight.abs() < start.abs()).any()
    assert (layer.weight.abs() <= start.abs()).all()


@pytest.mark.parametrize("name", [name for name in OPTIMISERS if not name.startswith("a2grad")])
def test_the_learning_rate_of_the_groups_counts(name):
    """At another rate the same steps lead elsewhere; A2Grad alone has none."""
    pytest.importorskip("torch_optimizer")
    ends = []
    for lr in (1e-3, 2e-3):
        model = make_model()
        optimiser = make_optimizer(name, param_groups(model, lr=lr, weight_decay=0.0))
        train(model, optimiser, range(2), graph=OPTIMISERS[name].needs_graph)
        ends.append(model[0].weight.detach())
    assert not torch.equal(*ends)


@pytest.mark.parametrize("name", ["apollo", "lookahead", "ranger", "sgdw"])
def test_no_graph_is_kept(name):
    """The state of an optimiser holds no gradient function, which would hold every step before."""
    pytest.importorskip("torch_optimizer")
    model = make_model()
    optimiser = make_optimizer(name, make_groups(model, name), **({"momentum": 0.9} if name == "sgdw" else {}))
    train(model, optimiser, range(2), graph=False)
    states = [value for state in optimiser.state.values() for value in state.values() if torch.is_tensor(value)]
    assert states
    assert not any(value.requires_grad for value in states)


@pytest.mark.parametrize("name", ["adamw", "lookahead", "yogi"])
def test_a_closure_gives_its_loss(name):
    """It is called once, with gradients."""
    pytest.importorskip("torch_optimizer")
    model, calls = make_model(), []

    def closure():
        calls.append(loss_of(model))
        calls[0].backward()
        return calls[0]

    optimiser = make_optimizer(name, make_groups(model, name))
    before = model[0].weight.detach().clone()
    assert optimiser.step(closure) is calls[0]
    assert len(calls) == 1
    assert not torch.equal(model[0].weight, before)


def test_lookahead_wraps_what_it_is_told_to():
    """AdamW unless told; options of either reach it; a parameter that gets its first gradient late starts then."""
    pytest.importorskip("torch_optimizer")
    model = make_model()
    optimiser = make_optimizer("lookahead", make_groups(model, "yogi"), base="yogi", k=2, alpha=0.3, eps=1e-2)
    assert (type(optimiser.optimizer).__name__, optimiser.k, optimiser.alpha) == ("Yogi", 2, 0.3)
    assert {group["eps"] for group in optimiser.param_groups} == {1e-2}
    assert isinstance(make_optimizer("lookahead", make_groups(model, "adamw")).optimizer, torch.optim.AdamW)
    model[0].bias.grad = torch.ones(7)
    optimiser.step()
    train(model, optimiser, range(3), graph=False)
    assert "exp_avg" in optimiser.state[model[0].weight]


def test_the_groups_that_were_given_stay_as_they_are():
    """A schedule moves the optimiser's copies, and an optimiser puts its defaults into those."""
    groups = param_groups(nn.Linear(2, 3), lr=0.1)
    before = [dict(group) for group in groups]
    for name in ("adamw", "sgd"):
        optimiser = make_optimizer(name, groups)
        optimiser.param_groups[0]["lr"] = 0.0
    assert [set(group) for group in groups] == [set(group) for group in before]
    assert [group["lr"] for group in groups] == [0.1, 0.1]


@pytest.mark.parametrize(("name", "close"), [("adamv", "'adamw'"), ("Adabeleif", "'adabelief'"), ("lam", "'lamb'")])
def test_an_unknown_name_has_close_ones(name, close):
    """What was probably meant stands in the error."""
    with pytest.raises(ValueError, match=f"no optimiser is called '{name}'; did you mean .*{close}"):
        make_optimizer(name, param_groups(nn.Linear(1, 1), lr=0.1))


def test_a_name_like_no_other_has_all():
    """Where nothing is close, all names are told."""
    with pytest.raises(
        ValueError, match="no optimiser is called '???'; there are adamw, sgd, .*, yogi$".replace("?", r"\?")
    ):
        make_optimizer("???", param_groups(nn.Linear(1, 1), lr=0.1))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("adamw", {"momentum": 0.9}, "AdamW has no option momentum; it takes amsgrad, betas, .*eps"),
        ("lamb", {"beta": 0.9}, "Lamb has no option beta; it takes adam, betas, clamp_value, debias, eps"),
        ("lookahead", {"beta": 0.9}, "AdamW has no option beta"),
        ("yogi", {"lr": 0.1}, "lr of Yogi belongs to the groups: give it to param_groups"),
        ("sgd", {"weight_decay": 0.1, "lr": 0.1}, "lr, weight_decay of SGD belongs to the groups"),
    ],
)
def test_an_option_that_is_none_of_it_is_refused(name, options, says):
    """The options that there are stand in the error; rates and decays belong to the groups."""
    pytest.importorskip("torch_optimizer")
    with pytest.raises(ValueError, match=says):
        make_optimizer(name, param_groups(nn.Linear(1, 1), lr=0.1), **options)


def test_a_decay_that_would_be_ignored_is_refused():
    """A2Grad has none."""
    pytest.importorskip("torch_optimizer")
    with pytest.raises(ValueError, match=r"A2GradUni has no weight decay, and the groups \['rest.matrices'\] have one"):
        make_optimizer("a2graduni", param_groups(nn.Linear(1, 1), lr=0.1))


def test_a_missing_package_is_named(monkeypatch):
    """With the extra that brings it; torch's own need none."""
    monkeypatch.setitem(sys.modules, "torch_optimizer", None)
    mended.cache_clear()
    groups = param_groups(nn.Linear(1, 1), lr=0.1)
    with pytest.raises(
        MissingDependencyError, match="make_optimizer needs the package 'torch_optimizer'.*extra 'optim'"
    ):
        make_optimizer("yogi", groups)
    for name in OF_TORCH:
        make_optimizer(name, groups)


numbers = st.floats(1e-5, 1e-1)


@given(name=st.sampled_from(["adamw", "radam", "sgd"]), saved=st.tuples(*[numbers] * 3), now=st.tuples(*[numbers] * 3))
def test_the_configuration_wins_over_the_file(name, saved, now):
    """Rates, decays and options are those of this run, moments those of the file; each difference has its line."""

    def build(model, settings):
        lr, decay, number = settings
        options = {"momentum": number} if name == "sgd" else {"betas": (0.9, 1 - number), "eps": 1e-8}
        groups = param_groups(model, lr=lr, weight_decay=decay)
        return groups, make_optimizer(name, groups, **options)

    model = make_model()
    _, first = build(model, saved)
    train(model, first, range(3), graph=False)
    groups, second = build(model, now)
    wanted = [{k: v for k, v in group.items() if k != "params"} for group in second.param_groups]
    second.load_state_dict(first.state_dict())
    lines = restore_hyperparameters(second, groups)
    assert [{k: v for k, v in group.items() if k != "params"} for group in second.param_groups] == wanted
    for parameter in model.parameters():
        assert first.state[parameter].keys() == second.state[parameter].keys()
        assert all(torch.equal(first.state[parameter][key], value) for key, value in second.state[parameter].items())
    changed = {
        f"{group['name']}: base_lr is {now[0]}, the file had {saved[0]}" for group in groups if saved[0] != now[0]
    }
    assert changed <= set(lines)
    decays = saved[1] != now[1]  # of the matrices alone
    option = saved[2] != now[2] if name == "sgd" else 1 - saved[2] != 1 - now[2]
    assert len(lines) == len(changed) + decays + 2 * option
    assert restore_hyperparameters(second, groups) == []


def test_groups_of_another_model_are_told():
    """Loading by place would give one role the rate of another."""
    model = nn.Linear(2, 3)
    groups = param_groups(model, lr=0.1)
    optimiser = adamw(groups)
    state = optimiser.state_dict()
    state["param_groups"][0]["name"], state["param_groups"][1]["name"] = "gates", "rest.matrices"
    optimiser.load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"groups of this run are \['rest.matrices', 'rest.other'\], those of the file"
    ):
        restore_hyperparameters(optimiser, groups)


def test_what_a_file_gives_as_a_list_is_no_difference():
    """Some formats know no tuples."""
    groups = param_groups(nn.Linear(2, 3), lr=0.1)
    optimiser = adamw(groups)
    for group in optimiser.param_groups:
        group["betas"] = list(group["betas"])
    assert restore_hyperparameters(optimiser, groups) == []
    assert all(math.isclose(group["betas"][0], 0.9) for group in optimiser.param_groups)


def test_switches_stay_those_of_the_file():
    """They say what a state holds and where it lies, so that they belong to it."""
    model = make_model()
    groups = make_groups(model, "adamw")
    saved = make_optimizer("adamw", groups, amsgrad=True, fused=False)
    train(model, saved, range(1), graph=False)
    optimiser = make_optimizer("adamw", groups)
    optimiser.load_state_dict(saved.state_dict())
    assert restore_hyperparameters(optimiser, groups) == []
    assert all(group["amsgrad"] and not group["fused"] for group in optimiser.param_groups)
    train(model, optimiser, range(1, 2), graph=False)
