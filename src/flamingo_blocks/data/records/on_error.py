"""What a reader does about records that are broken."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.record_error import RecordError

OnError = Literal["raise"] | Callable[[RecordError], object]
Found = InterleavedDocument | RecordError


def documents_of(found: Iterable[Found], on_error: OnError) -> Iterator[InterleavedDocument]:
    """The documents alone; errors are raised, or handed on.

    Args:
        found: Documents and errors in order.
        on_error: `"raise"`, or what is called with each error.
    """
    for each in found:
        if isinstance(each, InterleavedDocument):
            yield each
        elif on_error == "raise":
            raise each
        else:
            on_error(each)


def check_on_error(on_error: object) -> None:
    """Refuse what is neither `"raise"` nor a function.

    Args:
        on_error: What was given.
    """
    if on_error != "raise" and not callable(on_error):
        raise ValueError(f"on_error is {on_error!r}, wanted 'raise' or a function of a RecordError")
