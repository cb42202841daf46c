"""Runs rows in batches that fit into memory."""

from collections.abc import Callable, Sequence

from flamingo_blocks.evaluation.decode.batch_sizes import Made, TokenBytes, in_batches, skips_pads
from flamingo_blocks.evaluation.decode.media_pool import MediaPool
from flamingo_blocks.evaluation.decode.query_rows import PlacedRows, QueryRow, place_rows
from flamingo_blocks.models.processor import FlamingoProcessor


class RowRunner:
    """Places rows as a processor would, and runs as many at once as fit.

    Args:
        pool: Gives the media tokens, and has the model.
        processor: Says the ids of pads and tags.
        memory_bytes: What a batch may take.
        max_rows: Most rows at once.
    """

    def __init__(
        self, pool: MediaPool, processor: FlamingoProcessor, *, memory_bytes: int, max_rows: int | None
    ) -> None:
        self.pool, self.processor, self.flamingo = pool, processor, pool.flamingo
        self.memory_bytes, self.max_rows = memory_bytes, max_rows
        self.bytes = TokenBytes.of(pool.flamingo)
        self.num_tokens = 0

    def place(self, rows: Sequence[QueryRow], *, left: bool = True) -> PlacedRows:
        """Rows as arguments of the model; `left` says where pads stand."""
        special = self.processor.special
        return place_rows(self.pool, rows, pad_id=self.processor.pad_token_id, tag_ids=special.media_ids, left=left)

    def run(
        self,
        rows: Sequence[QueryRow],
        run: Callable[[list[QueryRow]], list[Made]],
        *,
        need: Callable[[QueryRow], int],
        more: int = 0,
        padded: bool | None = None,
    ) -> dict[int, Made]:
        """Run rows; the results by their numbers.

        Args:
            rows: Rows behind one prompt, and rows without.
            run: Runs some that have all the prompt, or all none.
            need: Bytes that a row takes.
            more: Most tokens that come behind a row.
            padded: Whether rows of different lengths may run together; what the language model bears by default.
        """
        found: dict[int, Made] = {}
        for shared in (True, False):
            some = [row for row in rows if (row.prompt is not None) == shared]
            if some:
                may = self._skips_pads(some, more) if padded is None else padded
                found |= in_batches(
                    some, run, need=need, memory_bytes=self.memory_bytes, max_rows=self.max_rows, padded=may
                )
        return found

    def _skips_pads(self, rows: Sequence[QueryRow], more: int) -> bool:
        prompt = rows[0].prompt
        held = 0 if prompt is None else prompt.input_ids.shape[1]
        longest = held + more + max(len(row.ids) for row in rows)
        return skips_pads(self.flamingo, between=prompt is not None, num_tokens=longest)
