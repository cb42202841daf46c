"""A Flamingo in, the tensors of another implementation out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import Checkpoint, ForeignCheckpoint, open_checkpoint
from flamingo_blocks.interop.families import find_family
from flamingo_blocks.interop.key_map import Entry
from flamingo_blocks.interop.load import check_option_names, make_plan
from flamingo_blocks.interop.same_model import check_same_model
from flamingo_blocks.models import Flamingo


def export_foreign(
    flamingo: Flamingo,
    *,
    family: str,
    like: Checkpoint | ForeignCheckpoint | None = None,
    leave_out: Sequence[str] = (),
    **options: Any,
) -> dict[str, Tensor]:
    """Give the tensors under the names, and in the shapes, of another implementation.

    The inverse of `load_foreign`: what was loaded comes out as the same tensors, but for weights of the language model
    or tower that were rounded on loading, because `lm` or `vision` is of a dtype of fewer digits than the checkpoint.

    Args:
        flamingo: The model; it must compute what the family computes.
        family: See `load_foreign`.
        like: A checkpoint of the family whose names (wrappers' prefixes, doubled layouts), order and dtypes are
            wanted; what our model has no place for is taken from it. By default the names that the family's own code
            saves. It must have a place for all that was trained, and be read as the same model.
        leave_out: What was left out of `like` when it was loaded, and is taken from it as it is.
        **options: Those of the family, of loading beside `like`.

    Returns:
        Tensors by name; those of our model are not copied where their shape and dtype are the same.

    Raises:
        CheckpointError: If the family has no place for a part of the model, or the model does not fit `like`.
        ValueError: If `family` or an option is unknown.

    Example:
        >>> from flamingo_blocks.interop import load_foreign
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> checkpoint = tiny_open_flamingo(vocab_size=10, dim=8, depth=2)
        >>> lm = PaperLanguageModel(vocab_size=10, dim=8, depth=2, num_heads=2)
        >>> back = export_foreign(load_foreign(checkpoint, lm=lm), family="open_flamingo")
        >>> all(bool((back[name] == tensor).all()) for name, tensor in checkpoint.items())
        True
    """
    found = find_family(family)
    state = {name: tensor.detach() for name, tensor in flamingo.state_dict(keep_vars=True).items()}
    if like is None:
        check_option_names(found, found.entries, options)
        return _join(found.entries(flamingo, **options), state)
    opened = like if isinstance(like, ForeignCheckpoint) else open_checkpoint(like)
    options = {"media_token_id": flamingo.media_token_id, **options}
    vision: Any = flamingo.vision
    plan = make_plan(found, opened.shapes, lm=flamingo.lm, vision=vision, leave_out=leave_out, options=options)
    check_same_model(flamingo, plan, where=opened.where)
    joined = _join(plan.entries, state)
    for name in plan.kept:
        joined[name] = opened.read(name)
    result = {}
    for name, facts in opened.tensors.items():
        if name not in joined or tuple(joined[name].shape) != facts.shape:
            has = tuple(joined[name].shape) if name in joined else "none"
            raise CheckpointError(f"{name} has shape {facts.shape} in {opened.where}, but {has} in this model")
        result[facts.name] = joined[name].to(facts.dtype)
    return result


def _join(entries: Iterable[Entry], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The foreign tensors; what is one tensor here, under whatever names, is one tensor there."""
    made: dict[tuple[Any, ...], Tensor] = {}
    joined = {}
    for entry in entries:
        if absent := [name for name in entry.ours if name not in state]:
            raise CheckpointError(f"{entry.foreign} is made of {', '.join(absent)}, which this model does not have")
        if away := [name for name in entry.ours if state[name].is_meta]:
            raise CheckpointError(
                f"{entry.foreign} is made of {away[0]}, which is not in memory (offloaded, or on the meta device); "
                "export the model with all its weights in memory"
            )
        parts = [state[name] for name in entry.ours]
        key = (*((part.data_ptr(), part.shape) for part in parts), entry.shape) if parts else (entry.foreign,)
        if key not in made:
            made[key] = entry.join(parts)
        joined.update(dict.fromkeys(entry.names, made[key]))
    return joined
