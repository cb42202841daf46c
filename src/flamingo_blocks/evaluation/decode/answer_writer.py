"""Lets a model write behind queries, as many at once as fit."""

from collections.abc import Sequence

from flamingo_blocks.evaluation.decode.query_rows import QueryRow
from flamingo_blocks.evaluation.decode.row_runner import RowRunner
from flamingo_blocks.evaluation.decode.write_rows import Writing, WrittenIds, write_rows


class AnswerWriter:
    """Writes behind rows.

    Args:
        runner: Places and runs the rows.
    """

    def __init__(self, runner: RowRunner) -> None:
        self.runner = runner

    def run(self, rows: Sequence[QueryRow], how: Writing, *, with_log_probs: bool = False) -> dict[int, WrittenIds]:
        """What was written behind each row, by its number.

        Args:
            rows: Rows behind one prompt, and rows without.
            how: Beams, length and stops.
            with_log_probs: As in `write_rows`.
        """
        sizes = self.runner.bytes

        def need(row: QueryRow) -> int:
            held = 0 if row.prompt is None else row.prompt.input_ids.shape[1]
            copied = (held + len(row.ids) + how.max_new_tokens) * sizes.cached
            kept = how.max_new_tokens * sizes.predicted if with_log_probs else 0
            return how.num_beams * (copied + sizes.predicted + kept) + len(row.ids) * sizes.running

        def run(batch: list[QueryRow]) -> list[WrittenIds]:
            made = write_rows(self.runner.flamingo, self.runner.place(batch), how, with_log_probs=with_log_probs)
            written = how.num_beams * sum(max(0, len(one.ids) - 1) for one in made)
            self.runner.num_tokens += sum(len(row.ids) for row in batch) + written
            return made

        return self.runner.run(rows, run, need=need, more=how.max_new_tokens)
