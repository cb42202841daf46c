"""The families of checkpoints, one file each."""

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.families.flamingo_mini import FAMILY as FLAMINGO_MINI
from flamingo_blocks.interop.families.flamingo_pytorch import FAMILY as FLAMINGO_PYTORCH
from flamingo_blocks.interop.families.idefics import FAMILY as IDEFICS
from flamingo_blocks.interop.families.mllama import FAMILY as MLLAMA
from flamingo_blocks.interop.families.open_flamingo import FAMILY as OPEN_FLAMINGO
from flamingo_blocks.interop.families.otter import FAMILY as OTTER
from flamingo_blocks.interop.key_map import Family, Shapes

__all__ = ["FAMILIES", "detect_family", "find_family"]

FAMILIES: dict[str, Family] = {
    family.name: family for family in (OPEN_FLAMINGO, OTTER, FLAMINGO_MINI, FLAMINGO_PYTORCH, IDEFICS, MLLAMA)
}


def find_family(name: str) -> Family:
    """The family of that name.

    Args:
        name: One of `FAMILIES`.

    Raises:
        ValueError: If there is none.

    Example:
        >>> find_family("open_flamingo").name
        'open_flamingo'
    """
    if name not in FAMILIES:
        raise ValueError(f"family is {name!r}, wanted one of {', '.join(map(repr, FAMILIES))}")
    return FAMILIES[name]


def check_family(family: Family, shapes: Shapes) -> Family:
    """The family, once a checkpoint's names are seen to belong to it.

    Args:
        family: Which it is said to be of.
        shapes: Of the checkpoint.

    Raises:
        CheckpointError: If they do not.

    Example:
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> shapes = {name: tuple(tensor.shape) for name, tensor in tiny_open_flamingo().items()}
        >>> check_family(find_family("open_flamingo"), shapes).name
        'open_flamingo'
    """
    if not family.matches(shapes):
        raise CheckpointError(
            f"this is no checkpoint of {family.name}: its names begin with {sorted(shapes)[:3]}; without family= it "
            "is found by itself"
        )
    return family


def detect_family(shapes: Shapes) -> Family:
    """The family that a checkpoint's names belong to.

    Args:
        shapes: Of the checkpoint, by plain name: `open_checkpoint(...).shapes`.

    Raises:
        CheckpointError: If no family knows such names, or several do.

    Example:
        >>> from flamingo_blocks.interop import open_checkpoint
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> detect_family(open_checkpoint(tiny_open_flamingo()).shapes).name
        'open_flamingo'
    """
    found = [family for family in FAMILIES.values() if family.matches(shapes)]
    if len(found) != 1:
        known = ", ".join(family.name for family in found) or "none"
        raise CheckpointError(
            f"families that fit this checkpoint: {known} (of {', '.join(FAMILIES)}); its names start with "
            f"{sorted(shapes)[:4]}; say which with family="
        )
    return found[0]
