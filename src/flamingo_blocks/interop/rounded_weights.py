"""Weights of a checkpoint that the caller's language model or tower, of fewer digits, cannot hold as they are."""

from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint
from flamingo_blocks.interop.key_map import GIVEN, Plan
from flamingo_blocks.models import Flamingo


def rounded_names(opened: ForeignCheckpoint, plan: Plan, flamingo: Flamingo) -> dict[str, list[str]]:
    """Say which tensors were rounded when they were copied into the caller's parts: these come back rounded.

    Args:
        opened: The checkpoint.
        plan: How it was loaded.
        flamingo: The model.

    Returns:
        Plain names of the checkpoint by part, `"lm"` and `"vision"`; a part without any is not there.

    Example:
        >>> from flamingo_blocks.interop import load_foreign, open_checkpoint, plan_foreign
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> lm = PaperLanguageModel(vocab_size=32, dim=16, depth=2, num_heads=2).bfloat16()
        >>> opened = open_checkpoint(tiny_open_flamingo())
        >>> plan, flamingo = plan_foreign(opened, lm=lm), load_foreign(opened, lm=lm)
        >>> rounded_names(opened, plan, flamingo)["lm"][0]
        'lang_encoder.embedding.weight'
    """
    state = flamingo.state_dict(keep_vars=True)
    rounded: dict[str, list[str]] = {}
    for entry in plan.entries:
        names = [name for name in entry.names if name in opened.tensors]
        narrow = [bool(ours.startswith(GIVEN)) for ours in entry.ours]
        if not any(narrow) or not names:
            continue
        places = [state[ours] for ours in entry.ours]
        if all(place.dtype == opened.tensors[names[0]].dtype for place in places):
            continue
        parts = entry.split(opened.read(names[0]), [place.shape for place in places])
        for ours, place, part in zip(entry.ours, places, parts, strict=True):
            if ours.startswith(GIVEN) and bool((part.to(place.dtype).to(part.dtype) != part).any()):
                rounded.setdefault(ours.partition(".")[0], []).extend(names)
    return rounded
