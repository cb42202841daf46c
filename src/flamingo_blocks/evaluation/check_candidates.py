"""Candidates are texts, and each comes once."""

from collections.abc import Sequence

from flamingo_blocks.errors import EvaluationError


def check_candidates(candidates: Sequence[str], *, of: str = "") -> None:
    """Refuse candidates among which a model cannot choose; they are compared as prompts show them, in one line.

    Args:
        candidates: The candidates of a query, or of all queries of a task.
        of: What an error names them by: a file, or a task and a query.

    Raises:
        EvaluationError: If one is empty or comes twice.

    Example:
        >>> check_candidates(["yes", "no", "yes"], of="task memes, query '7'")
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: task memes, query '7': candidate 2 is 'yes', as candidate 0 is; give \
each text once, and say which classes share it
    """
    before = f"{of}: " if of else ""
    seen: dict[str, int] = {}
    for place, candidate in enumerate(candidates):
        if not candidate.strip():
            raise EvaluationError(f"{before}candidate {place} is {candidate!r}, wanted a text; leave it out")
        shown = " ".join(candidate.split())
        if seen.setdefault(shown, place) != place:
            raise EvaluationError(
                f"{before}candidate {place} is {candidate!r}, as candidate {seen[shown]} is; give each text once, and "
                "say which classes share it"
            )
