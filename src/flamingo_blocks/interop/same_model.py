"""Whether a checkpoint, read back as planned, would be the model that is written into it."""

from typing import Any

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.key_map import GIVEN, Plan
from flamingo_blocks.interop.planned_shapes import parts_on_meta
from flamingo_blocks.models import Flamingo

_OF_MODEL = {"scope": "last", "document_end_id": None, "predict_new_tokens": True}
_OF_PART = (  # what no shape tells: sizes are compared tensor by tensor
    "num_heads", "head_dim", "num_kv_heads", "activation", "norm", "norm_eps", "media_norm", "qk_norm", "gate",
    "dense_without_media", "final_norm",
)  # fmt: skip
_LAYER_NORM_EPS = 1e-5  # torch's


def check_same_model(flamingo: Flamingo, plan: Plan, *, where: str) -> None:
    """Refuse a checkpoint that has no place for what was trained, or that would be read as another model.

    Args:
        flamingo: The model to be written.
        plan: How the checkpoint that it is to be like would be loaded.
        where: What errors call that checkpoint.

    Raises:
        CheckpointError: Naming the tensors without a place, or the option that differs and both its values.
    """
    state = flamingo.state_dict(keep_vars=True)
    placed = {id(state[name]) for entry in plan.entries for name in entry.ours if name in state}
    # A head's new rows that no such checkpoint holds are drawn anew at each load, by the family's own code too.
    unsaved = plan.fresh - {"token_rows.input"}
    lost = [name for name, tensor in state.items() if not name.startswith(GIVEN) and id(tensor) not in placed]
    if lost := [name for name in lost if name not in unsaved]:
        raise CheckpointError(
            f"{where} has no place for {len(lost)} trained tensors of this model: {', '.join(lost[:5])}"
            f"{', ...' * (len(lost) > 5)}; without like= names are those of the family's own code"
        )
    for name, default in _OF_MODEL.items():
        _compare(name, getattr(flamingo, name), plan.flamingo.get(name, default), "this model", where)
    for part, module in parts_on_meta(plan).items():
        if part == "projection":  # a matrix, of which shapes tell all
            continue
        found, told = _options(flamingo.get_submodule(part)), _options(module)
        for name in told:
            _compare(name, found.get(name), told[name], part, where)


def _options(module: Any) -> dict[str, Any]:
    """What a part computes, in one form: defaults that are made of other arguments are written out."""
    config: Any = getattr(module, "config", None)
    if not isinstance(config, dict):
        raise CheckpointError(f"a {type(module).__name__} is no part that a checkpoint of others describes")
    options = {name: config[name] for name in _OF_PART if name in config}
    options["head_dim"] = options["head_dim"] or config["dim"] // config["num_heads"]
    if "num_kv_heads" in options:
        options["num_kv_heads"] = options["num_kv_heads"] or options["num_heads"]
    if options["norm"] == "layer_norm":
        options["norm_eps"] = options["norm_eps"] or _LAYER_NORM_EPS
    return options


def _compare(name: str, found: Any, told: Any, part: str, where: str) -> None:
    if found != told:
        raise CheckpointError(
            f"{part} has {name}={found!r}, and {where} would be read with {name}={told!r}; pass the options that it "
            "was loaded with, or leave like= away"
        )
