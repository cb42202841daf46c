"""The optimisers that `make_optimizer` knows by name, and which of them step on sharded parameters."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OptimiserEntry:
    """One optimiser.

    Args:
        package: Where its class is.
        class_name: What the class is called there.
        not_sharded: Why it cannot step on parameters that are sharded; empty where it can.
        options: Options that differ from the package's own defaults.
        needs_graph: Whether the backward pass must keep its graph, `backward(create_graph=True)`.
        own_rate: Whether it changes its learning rate by itself, so that no schedule may set it.

    Example:
        >>> OPTIMISERS["lamb"].class_name
        'Lamb'
    """

    package: str
    class_name: str
    not_sharded: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    needs_graph: bool = False
    own_rate: bool = False


def _of_torch(class_name: str, **options: Any) -> OptimiserEntry:
    return OptimiserEntry(package="torch.optim", class_name=class_name, options=options)


def _extra(class_name: str, **facts: Any) -> OptimiserEntry:
    return OptimiserEntry(package="torch_optimizer", class_name=class_name, **facts)


_COPIES = "it makes deep copies of gradients, which sharded ones refuse"
_NORMS = "it adds to norms in place, of which each process has a part only"

OPTIMISERS: dict[str, OptimiserEntry] = {
    "adamw": _of_torch("AdamW", fused=True),
    "sgd": _of_torch("SGD"),
    "radam": _of_torch("RAdam"),
    "nadam": _of_torch("NAdam"),
    "adagrad": _of_torch("Adagrad"),
    "a2gradexp": _extra("A2GradExp", not_sharded=_COPIES),
    "a2gradinc": _extra("A2GradInc", not_sharded=_COPIES),
    "a2graduni": _extra("A2GradUni", not_sharded=_COPIES),
    "accsgd": _extra("AccSGD"),
    "adabelief": _extra("AdaBelief"),
    "adabound": _extra("AdaBound"),
    # Left to itself it takes a learning rate of its own from the step, and neither groups nor schedule count.
    "adafactor": _extra(
        "Adafactor",
        not_sharded="its moments of rows and columns are tensors that are not sharded",
        options={"relative_step": False},
    ),
    "adahessian": _extra(
        "Adahessian", not_sharded="gradients that were summed over processes have no graph", needs_graph=True
    ),
    "adamod": _extra("AdaMod"),
    "adamp": _extra("AdamP", not_sharded=_NORMS),
    "aggmo": _extra("AggMo"),
    "apollo": _extra("Apollo"),
    "diffgrad": _extra("DiffGrad"),
    "lamb": _extra("Lamb"),
    "lars": _extra("LARS"),
    "lookahead": _extra("Lookahead"),
    "madgrad": _extra("MADGRAD"),
    "novograd": _extra("NovoGrad", not_sharded="the norm of a whole gradient goes into a tensor that is not sharded"),
    "pid": _extra("PID"),
    "qhadam": _extra("QHAdam"),
    "qhm": _extra("QHM"),
    "ranger": _extra("Ranger"),
    "rangerqh": _extra("RangerQH"),
    "rangerva": _extra("RangerVA"),
    "sgdp": _extra("SGDP", not_sharded=_NORMS),
    "sgdw": _extra("SGDW"),
    "shampoo": _extra("Shampoo", not_sharded="it transposes gradients in place, which sharded ones cannot"),
    "swats": _extra(
        "SWATS", own_rate=True, not_sharded="its estimate of a learning rate is a tensor that is not sharded"
    ),
    "torch_optimizer.radam": _extra("RAdam"),  # "radam" is torch's own
    "yogi": _extra("Yogi"),
}
