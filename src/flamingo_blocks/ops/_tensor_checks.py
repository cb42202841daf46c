"""That an argument is a tensor of floats: said once, for every part that computes with one."""

from torch import Tensor

from flamingo_blocks.errors import ShapeError


def check_floats(x: object, name: str, axes: str) -> None:
    """Refuse what cannot be computed with, such as an array of numpy, a list, or bytes of an image.

    Args:
        x: What was given.
        name: Of the argument.
        axes: Its shape, in words.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it does not hold floats.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}, wanted a tensor of floats {axes}; torch.as_tensor(array) makes one of an "
            "array, torch.stack(tensors) of a list"
        )
    if not x.is_floating_point():
        raise ShapeError(
            f"{name} is {x.dtype} of shape {tuple(x.shape)}, wanted floats {axes}; convert it with {name}.float()"
        )
