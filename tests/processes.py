"""Several processes of this machine that work together, as `torchrun` starts them."""

import multiprocessing
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from flamingo_blocks.training.ranks.process_group import process_group

TIMEOUT_S = 180.0  # for all of it: a hang is a failure, and no hang of the tests


def run_together(function: Callable[..., Any], world_size: int, *arguments: Any, folder: Path) -> list[Any]:
    """What a function gives in each process of a group over gloo, by rank.

    It and its arguments travel by pickle, so it stands in a module. Starting two processes takes seconds: put many
    checks into one function. What one of them raises fails the test, with its traceback; the others are ended.
    """
    context = multiprocessing.get_context("spawn")
    folder = Path(folder) / f"together-{time.monotonic_ns()}"
    folder.mkdir()
    processes = [
        context.Process(target=_work, args=(function, rank, world_size, folder, arguments), daemon=True)
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        _join(processes, folder)
        return [torch.load(folder / f"{rank}.result", weights_only=False) for rank in range(world_size)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _join(processes: list[Any], folder: Path) -> None:
    end = time.monotonic() + TIMEOUT_S
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            break
        assert time.monotonic() < end, f"{len(processes)} processes were not done after {TIMEOUT_S:g} s"
        processes[0].join(0.05)
    time.sleep(0.2 if any(process.exitcode for process in processes) else 0)  # for what they had to say
    said = "\n".join(file.read_text() for file in sorted(folder.glob("*.error")))
    codes = [process.exitcode for process in processes]
    assert not any(codes), f"the processes ended with {codes}\n{said}"


def _work(function: Callable[..., Any], rank: int, world_size: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        with process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size,
            timeout=timedelta(seconds=60),
        ):  # fmt: skip
            result = function(*arguments)
            torch.save(result, folder / f"{rank}.result")
            distributed.barrier()
    except BaseException:  # noqa: BLE001 - told by the test
        (folder / f"{rank}.error").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise SystemExit(1) from None
