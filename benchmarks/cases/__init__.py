"""All cases of the suite, one file for each part of it."""

from benchmarks.case import Case
from benchmarks.cases import (
    attention,
    attention_scores,
    block,
    captions,
    checkpoints,
    decode,
    dedup,
    evaluation,
    evaluation_decode,
    examples,
    import_time,
    loading,
    loss,
    optimisers,
    pages,
    resampler,
    shards,
    train,
    train_loop,
    video,
)

SUITES = (
    attention, attention_scores, block, resampler, decode, loss, optimisers, train, train_loop, checkpoints, evaluation,
    evaluation_decode, captions, pages, shards, dedup, video, examples, loading, import_time,
)  # fmt: skip


def all_cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Every case for a device and a dtype.

    Args:
        device: `cpu` or `cuda`.
        dtype: `float32`, `bfloat16` or `float16`.
        tiny: The same cases at the smallest sizes, for tests.
    """
    return [case for suite in SUITES for case in suite.cases(device, dtype, tiny=tiny)]
