"""Every trained parameter is in one group, by its role."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.lm import TokenRows
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.nn import TanhGate
from flamingo_blocks.training.optim.groups import ROLES, describe_groups, param_groups
from tests.language_models import make_language_model

KINDS = {
    "gate": TanhGate,
    "block": lambda: GatedCrossAttentionBlock(4, vision_dim=4, num_heads=1),
    "resampler": lambda: PerceiverResampler(
        vision_dim=4, dim=4, num_latents=2, depth=1, num_heads=1, head_dim=4, max_frames=1
    ),
    "rows": lambda: TokenRows(torch.ones(3, 4), torch.ones(3, 4), 2),
    "linear": lambda: nn.Linear(2, 3),
    "norm": lambda: nn.LayerNorm(2),
    "plain": nn.Module,
}
NAMES = ("a", "b", "lora_A", "modules_to_save", "lora", "low")


@st.composite
def trees(draw):
    """Modules in modules, of our types and of others, some of them and of their parameters in several places."""
    built = [
        draw(st.sampled_from(sorted(KINDS)).map(lambda kind: KINDS[kind]())) for _ in range(draw(st.integers(1, 6)))
    ]
    root = nn.Module()
    for number, module in enumerate(built):
        above = draw(st.sampled_from([root, *built[:number]]))
        above.add_module(f"{draw(st.sampled_from(NAMES))}{number}", module)
    for number in range(draw(st.integers(0, 2))):  # a module in a second place, not inside of itself
        first = draw(st.integers(0, len(built) - 1))
        draw(st.sampled_from([root, *built[:first]])).add_module(f"again{number}", built[first])
    for number in range(draw(st.integers(0, 3))):  # a parameter in a second place, or one that no module made
        parameters = [nn.Parameter(torch.ones(2)), *root.parameters()]
        holder = draw(st.sampled_from([root, *built]))
        holder.register_parameter(f"{draw(st.sampled_from(NAMES))}_{number}", draw(st.sampled_from(parameters)))
    for parameter in root.parameters():
        parameter.requires_grad_(draw(st.booleans()))
    return root


def role_of(root, name, parameter):
    """What the path of a parameter says, read from its end."""
    *path, own = name.split(".")
    if own.startswith(("lora_", "modules_to_save")):
        return "lora"
    kinds = {TanhGate: "gates", GatedCrossAttentionBlock: "blocks", PerceiverResampler: "resampler"}
    kinds[TokenRows] = "new_tokens"
    role = "rest"
    for depth in range(len(path), 0, -1):
        module = root.get_submodule(".".join(path[:depth]))
        if type(module) in kinds:
            role = kinds[type(module)]
            break
        if path[depth - 1].startswith(("lora_", "modules_to_save")):
            role = "lora"
            break
    return f"{role}.{'matrices' if parameter.ndim > 1 else 'other'}" if role in ("blocks", "rest") else role


@given(tree=trees())
def test_each_trained_parameter_is_in_the_one_group_of_its_role(tree):
    """In any tree of modules, shared ones among them; frozen parameters are in none, and no group is empty."""
    trained = {name: parameter for name, parameter in tree.named_parameters() if parameter.requires_grad}
    if not trained:
        with pytest.raises(ValueError, match="nothing to train"):
            param_groups(tree, lr=0.1)
        return
    groups = param_groups(tree, lr=0.1)
    found = {id(parameter): group["name"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert found == {id(parameter): role_of(tree, name, parameter) for name, parameter in trained.items()}
    assert [group["name"] for group in groups] == [role for role in ROLES if role in found.values()]


@given(
    factors=st.dictionaries(st.sampled_from(ROLES), st.floats(0, 100)),
    decays=st.dictionaries(st.sampled_from(ROLES), st.floats(0, 1)),
)
def test_rates_and_decays_go_by_role(factors, decays):
    """Each role has the factor and the decay that was given for it, and otherwise 1 and what it has by itself."""
    for group in param_groups(build_tiny_flamingo(), lr=0.01, lr_factors=factors, weight_decays=decays):
        role = group["name"]
        assert group["lr"] == group["base_lr"] == 0.01 * factors.get(role, 1.0)
        assert group["weight_decay"] == decays.get(role, 0.1 if role in ("blocks.matrices", "rest.matrices") else 0.0)


def test_roles_of_a_flamingo():
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


def test_adapters_of_peft_have_a_role():
    """LoRA's matrices and the modules that it trains beside them do not decay; what it wraps is frozen."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    lm = peft.get_peft_model(make_language_model("llama"), config)
    (group,) = param_groups(lm, lr=0.01)
    assert (group["name"], group["weight_decay"]) == ("lora", 0.0)
    names = {id(parameter): name for name, parameter in lm.named_parameters()}
    found = [names[id(parameter)] for parameter in group["params"]]
    assert sum("lora_" in name for name in found) == 4
    assert [name for name in found if "lora_" not in name] == [
        "base_model.model.lm_head.modules_to_save.default.weight"
    ]


def test_what_is_trained_of_a_language_model_is_the_rest():
    """Its matrices decay as the blocks' do, its norms and biases do not."""
    flamingo = build_tiny_flamingo()
    flamingo.lm.requires_grad_(True)
    groups = {group["name"]: group for group in param_groups(flamingo, lr=0.01)}
    assert groups["rest.matrices"]["weight_decay"] == 0.1
    assert groups["rest.other"]["weight_decay"] == 0.0
    rest = {id(p) for name in ("rest.matrices", "rest.other") for p in groups[name]["params"]}
    assert rest == {id(p) for p in flamingo.lm.parameters()}


def test_a_frozen_model_is_refused():
    """A model without a trained parameter has nothing to group."""
    with pytest.raises(ValueError, match="Linear without a parameter that needs a gradient"):
        param_groups(nn.Linear(1, 1).requires_grad_(False), lr=0.1)


def test_a_parameter_without_dimensions_is_refused():
    """It is named, with the way out; a frozen one does not matter."""
    model = nn.ModuleDict({"part": nn.Linear(1, 1)})
    model["part"].scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"part\.scale has no dimension.*\(1,\)"):
        param_groups(model, lr=0.1)
    model["part"].scale.requires_grad_(False)
    assert len(param_groups(model, lr=0.1)) == 2


@pytest.mark.parametrize("argument", ["lr_factors", "weight_decays"])
def test_an_unknown_role_is_refused(argument):
    """The error has the role, and those that there are."""
    with pytest.raises(
        ValueError, match=rf"{argument} names the roles blocks; there are blocks\.matrices, .*rest.other"
    ):
        param_groups(nn.Linear(1, 1), lr=0.1, **{argument: {"blocks": 1.0, "gates": 2.0}})


def test_the_gates_have_one_factor():
    """Given in two places, neither is guessed to be meant."""
    with pytest.raises(ValueError, match=r"gate_lr_factor is 10\.0 and lr_factors gives the gates 2\.0"):
        param_groups(nn.Linear(1, 1), lr=0.1, gate_lr_factor=10.0, lr_factors={"gates": 2.0})


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (lambda x: {"lr": x}, "lr"),
        (lambda x: {"weight_decay": x}, "weight_decay"),
        (lambda x: {"gate_lr_factor": x}, "the factor of gates"),
        (lambda x: {"lr_factors": {"lora": x}}, "the factor of lora"),
        (lambda x: {"weight_decays": {"resampler": x}}, "the weight decay of resampler"),
    ],
)
def test_a_number_that_is_none_is_refused(arguments, what, wrong):
    """Whatever the optimiser would do with it, it is named here."""
    with pytest.raises(ValueError, match=f"^{what} is {wrong}, wanted a finite number"):
        param_groups(nn.Linear(1, 1), **{"lr": 0.1, **arguments(wrong)})


def test_the_table_of_groups():
    """A line for each group and one for all, in columns."""
    groups = param_groups(build_tiny_flamingo(), lr=2e-4, gate_lr_factor=10.0)
    header, *lines, total = describe_groups(groups).splitlines()
    assert header.split("  ")[0] == "group"
    assert [line.split()[0] for line in lines] == [group["name"] for group in groups]
    gates = next(line for line in lines if line.startswith("gates"))
    assert gates.split()[-2:] == ["0.002", "0"]
    counts = [int(line.split()[2].replace(",", "")) for line in (*lines, total)]
    assert sum(counts[:-1]) == counts[-1] == sum(p.numel() for group in groups for p in group["params"])
    assert describe_groups([]).splitlines()[-1].split() == ["all", "0", "0"]
