"""Which trained parameter gets which learning rate and weight decay.

The file is not called `param_groups`, which is a function of the package: a module of one name would hide the other.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from flamingo_blocks.lm import TokenRows
from flamingo_blocks.models.adapters import adapter_weights
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler, TanhGate

ROLES = ("blocks.matrices", "blocks.other", "gates", "resampler", "new_tokens", "lora", "rest.matrices", "rest.other")
_DECAYED = ("blocks.matrices", "rest.matrices")
_ADAPTERS = ("lora_", "modules_to_save")  # how PEFT calls the children that it trains


def param_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.1,
    gate_lr_factor: float = 1.0,
    lr_factors: Mapping[str, float] | None = None,
    weight_decays: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Sort the trained parameters of a model by their role.

    The roles are `blocks.matrices`, `blocks.other` (norms and biases), `gates`, `resampler`, `new_tokens`, `lora`,
    `rest.matrices` and `rest.other`; the last two hold what is trained of a tower or a language model. They are told
    by module type, so a model of your own that holds our blocks is sorted the same way; adapters of PEFT, whose types
    are not ours, by the names that it gives them (`lora_...`, `modules_to_save`).

    Args:
        model: Any module; parameters that need no gradient are left out. One that is shared counts once, for the
            module that comes first.
        lr: Learning rate of all groups, times the factor of each.
        weight_decay: Decay of the matrices; gates, resampler, new tokens, adapters, norms and biases have none.
        gate_lr_factor: Factor on the gates' learning rate. Under Adam a gate moves about `lr` a step whatever its
            gradient is, so a run of a few hundred steps needs 10 or more; a long one needs 1.
        lr_factors: Factors on the learning rate by role; 1 for those that are not named.
        weight_decays: Decays by role, in place of the ones above.

    Returns:
        Groups for an optimiser, each with `name`, `params`, `lr`, `base_lr` and `weight_decay`; empty ones left out.

    Raises:
        ValueError: If the model has no trained parameter or one without dimensions, a role is unknown, the gates'
            factor is given twice, or a number is negative or not finite.

    Example:
        >>> groups = param_groups(nn.Linear(2, 3), lr=1e-3, lr_factors={"rest.other": 2.0})
        >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups]
        [('rest.matrices', 0.001, 0.1), ('rest.other', 0.002, 0.0)]

    Source:
        Flamingo (arXiv 2204.14198), appendix B.1.2: decay 0.1, none for the resampler. No decay on gates is ours:
        decay would pull an unused gate shut over a long run.
    """
    rates, decays = _settings(lr, weight_decay, gate_lr_factor, lr_factors or {}, weight_decays or {})
    members: dict[str, list[nn.Parameter]] = {role: [] for role in ROLES}
    for role, name, parameter in _roles(model):
        if parameter.ndim == 0:
            raise ValueError(
                f"the trained parameter {name} has no dimension, and one like it cannot be sharded: give it the shape "
                "(1,), or freeze it with requires_grad_(False)"
            )
        members[role].append(parameter)
    if not any(members.values()):
        raise ValueError(
            f"model is a {type(model).__name__} without a parameter that needs a gradient: nothing to train"
        )
    return [
        {"name": role, "params": members[role], "lr": rates[role], "base_lr": rates[role], "weight_decay": decays[role]}
        for role in ROLES
        if members[role]
    ]


def describe_groups(groups: Sequence[Mapping[str, Any]]) -> str:
    """A table of groups, to be printed or logged at the start of a run.

    Args:
        groups: What `param_groups` gave, or the `param_groups` of an optimiser.

    Returns:
        A line a group and one for all, under a header: name, tensors, parameters, learning rate, weight decay. Of
        parameters that are sharded, all elements count, not those of one process.

    Example:
        >>> print(describe_groups(param_groups(nn.Linear(200, 30), lr=1e-3)))
        group          tensors  parameters     lr  weight decay
        rest.matrices        1       6,000  0.001           0.1
        rest.other           1          30  0.001             0
        all                  2       6,030
    """
    rows = [("group", "tensors", "parameters", "lr", "weight decay")]
    numbers = [(len(group["params"]), sum(parameter.numel() for parameter in group["params"])) for group in groups]
    for group, (tensors, elements) in zip(groups, numbers, strict=True):
        name, lr, decay = str(group.get("name", "")), group.get("lr", 0.0), group.get("weight_decay", 0.0)
        rows.append((name, f"{tensors}", f"{elements:,}", f"{lr:g}", f"{decay:g}"))
    tensors, elements = (sum(each) for each in zip(*numbers, strict=True)) if numbers else (0, 0)
    rows.append(("all", f"{tensors}", f"{elements:,}", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join((name.ljust(widths[0]), *aligned)).rstrip())
    return "\n".join(lines)


def _settings(
    lr: float, weight_decay: float, gate_lr_factor: float, factors: Mapping[str, float], decays: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Learning rate and weight decay of each role."""
    for argument, roles in (("lr_factors", factors), ("weight_decays", decays)):
        if unknown := sorted(set(roles) - set(ROLES)):
            raise ValueError(f"{argument} names the roles {', '.join(unknown)}; there are {', '.join(ROLES)}")
    if gate_lr_factor != 1 and "gates" in factors:
        raise ValueError(
            f"gate_lr_factor is {gate_lr_factor} and lr_factors gives the gates {factors['gates']}: give one of them"
        )
    factors = {**dict.fromkeys(ROLES, 1.0), "gates": gate_lr_factor, **factors}
    decays = {role: decays.get(role, weight_decay if role in _DECAYED else 0.0) for role in ROLES}
    numbers = {"lr": lr, "weight_decay": weight_decay}
    numbers |= {f"the factor of {role}": factor for role, factor in factors.items()}
    numbers |= {f"the weight decay of {role}": decay for role, decay in decays.items()}
    for what, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{what} is {number}, wanted a finite number that is not negative")
    return {role: lr * factor for role, factor in factors.items()}, decays


def _roles(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Each trained parameter once, with its name and the role of the closest module above it that has one."""
    seen: set[int] = set()
    adapters = {id(weight) for weight in adapter_weights(model)}

    def walk(module: nn.Module, path: tuple[str, ...], above: str) -> Iterator[tuple[str, str, nn.Parameter]]:
        role = _role_of(module, path[-1] if path else "", above=above)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                own = "lora" if id(parameter) in adapters or name.startswith(_ADAPTERS) else role
                kind = "matrices" if parameter.ndim > 1 else "other"
                yield (f"{own}.{kind}" if own in ("blocks", "rest") else own), ".".join((*path, name)), parameter
        for name, child in module.named_children():
            yield from walk(child, (*path, name), role)

    yield from walk(model, (), "rest")


def _role_of(module: nn.Module, name: str, *, above: str) -> str:
    kinds = {
        TanhGate: "gates",
        GatedCrossAttentionBlock: "blocks",
        PerceiverResampler: "resampler",
        TokenRows: "new_tokens",
    }
    by_name = "lora" if name.startswith(_ADAPTERS) else above
    return next((role for kind, role in kinds.items() if isinstance(module, kind)), by_name)
