"""What decides a synthetic task: how many queries, the seed, the size of its pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.synthetic.choices import Choices


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What decides a synthetic task.

    Args:
        task: What is hashed: open and closed questions, and more and fewer queries, have the same pictures.
        queries: How many are asked.
        support: How many rows shots are drawn from; of names, how many shots a query has, and no less.
        seed: Decides everything that is chosen.
        size: Side of the pictures in pixels.
    """

    task: str
    queries: int
    support: int
    seed: int
    size: int

    def choices(self, id: str) -> Choices:  # noqa: A002 - as a row is called elsewhere
        """Choices for an item or a picture.

        Args:
            id: Which one.
        """
        return Choices(self.task, self.seed, id)

    def image(self, name: str, draw: Callable[[Choices], Tensor]) -> ImageSegment:
        """A picture, drawn by its own choices.

        Args:
            name: What tells it from the others of the task.
            draw: Draws it.
        """
        # The name stands for the picture in a pool of media, so that it has to say all that the picture depends on.
        url = f"synthetic/{self.task}/seed-{self.seed}/{self.size}px/{name}.png"
        return ImageSegment(url=url, data=draw(self.choices(name)))


def check_one_of(name: str, value: object, wanted: Sequence[object]) -> None:
    """Refuse a value that is not one of those allowed.

    Args:
        name: The argument.
        value: What came.
        wanted: What may come.

    Raises:
        ValueError: Naming the three.
    """
    if value not in wanted:
        raise ValueError(f"{name} is {value!r}, wanted one of {', '.join(map(repr, wanted))}")
