"""What becomes of a record that a data step does not keep."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dropped:
    """A record that a step did not keep, and why.

    Steps give it in place of a document; nothing is dropped without a reason that can be counted.

    Args:
        reason: A short name out of those that the step declares, such as `"too_large"`.
        detail: What was found, for people.

    Example:
        >>> Dropped("too_large", "6000000 characters")
        Dropped(reason='too_large', detail='6000000 characters')
    """

    reason: str
    detail: str = ""
