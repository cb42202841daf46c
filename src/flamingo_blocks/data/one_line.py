"""What an error said, for the details of a record that is dropped."""

LONGEST = 200  # characters


def one_line(error: BaseException) -> str:
    """The type and message of an error in one line of at most 200 characters.

    Args:
        error: Any.
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]
