"""Ids of the media tag and of the end of a chunk, which no checkpoint holds."""

from torch import nn


def token_ids(
    lm: nn.Module, table: str | None, num_new_tokens: int, media_token_id: int | None, end_token_id: int | None
) -> dict[str, int | None]:
    """Arguments of `Flamingo`: as told, or the first two new rows, in the order in which open_flamingo adds them.

    Args:
        lm: The language model.
        table: Name of its embedding's weight.
        num_new_tokens: Rows beyond it.
        media_token_id: What the caller says.
        end_token_id: Likewise.

    Returns:
        The two ids by the names of `Flamingo`'s arguments.

    Raises:
        ValueError: If the media tag cannot be told.
    """
    if num_new_tokens >= 2 and table is not None:
        rows = lm.state_dict()[table].shape[0]
        media_token_id = rows + 1 if media_token_id is None else media_token_id
        if end_token_id is None and media_token_id != rows:  # a tag that is told leaves the end where it is
            end_token_id = rows
    if media_token_id is None:
        raise ValueError(
            f"media_token_id is not told by a checkpoint with {num_new_tokens} new rows; pass the tokenizer's id of "
            "its media tag as media_token_id= (and that of its end of chunk as end_token_id=)"
        )
    return {"media_token_id": media_token_id, "end_token_id": end_token_id}
