"""Runs that save and go on, here and in other processes: `python -m tests.training.checkpoint_runs <folder>`."""

import json
import os
import random
import resource
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training import adamw, param_groups
from flamingo_blocks.training.checkpoints import Checkpointer
from tests.data.build.killed_builds import Points, forked
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo

ROWS = EXAMPLE_ROWS[:2] * 2  # all with clips, every other one with pads; two for each of two processes


class Run:
    """A tiny Flamingo in float32 with AdamW; sharded where a process group is up."""

    def __init__(self, *, lr: float = 1e-3, model: nn.Module | None = None) -> None:
        self.model = make_flamingo("plain").float().train() if model is None else model
        self.rank, self.world = 0, 1
        if distributed.is_initialized():
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
            shard(self.model)
        self.optimizer = adamw(param_groups(self.model, lr=lr))
        self.step = 0

    def train(self, until: int) -> "Run":
        """Each row has its own loss, the ranks share the rows, and FSDP takes the mean over ranks."""
        while self.step < until:
            batch = make_batch(ROWS, self.step, dtype=torch.float32)
            for row in range(self.rank, len(ROWS), self.world):
                arguments = batch.row(row).arguments()
                loss = self.model(**arguments, labels=arguments["input_ids"]).loss
                (loss * self.world / len(ROWS)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
        return self

    def save(self, checkpoints: Checkpointer, **about: Any) -> "Run":
        checkpoints.save(
            self.step, self.model, self.optimizer, **{"state": {"step": self.step}, "config": {"lr": 1e-3}, **about}
        )
        return self

    def load(self, checkpoints: Checkpointer, step: int | None = None, **how: Any) -> "Run":
        self.loaded = checkpoints.load(self.model, self.optimizer, step, **how)
        self.step = self.loaded.step
        return self

    def everything(self) -> dict[str, Tensor]:
        """Parameters, buffers and moments, gathered."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        found = dict(self.model.state_dict())
        for parameter, state in self.optimizer.state.items():
            found |= {f"{names[id(parameter)]} {key}": value for key, value in state.items()}
        return {
            name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()
            for name, value in found.items()
        }


def blocking(folder, **options):
    return Checkpointer(folder, asynchronous=False, **options)


def named(folder):
    return sorted(path.name for path in folder.iterdir())


def small():
    """A model that trains in part, with buffers on both sides, and its optimiser after a step."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[:2].requires_grad_(False).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train_small(model, optimizer)
    return model, optimizer


def train_small(model, optimizer):
    optimizer.zero_grad()
    model(torch.arange(8.0).reshape(4, 2)).square().mean().backward()
    optimizer.step()


def shard(model: nn.Module) -> None:
    """What trains, by torch alone: blocks, resampler, and the rest of it in the root."""
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    for block in model.blocks.values():
        register_fsdp_forward_method(fully_shard(block), "project_media")
    fully_shard(model.resampler)
    fully_shard(model, ignored_params=frozen)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def digest(run: Run) -> str:
    return sha256(b"".join(value.numpy().tobytes() for _, value in sorted(run.everything().items()))).hexdigest()


def refused(action: Any) -> str:
    """What an error says."""
    try:
        action()
    except CheckpointError as error:
        return str(error)
    return "nothing was refused"


def first_two_processes(folder: Path) -> dict[str, Any]:
    """Saves and loads of two processes, and what is left for one."""
    found: dict[str, Any] = {"uninterrupted": Run().train(4).everything()}
    checkpoints = Checkpointer(folder / "two")
    run = Run().train(1).save(checkpoints)
    before = run.everything()
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.zero_()
    checkpoints.wait()
    found["as it was"] = same(Run().load(checkpoints).everything(), before)
    found["same world"] = Run().load(checkpoints).train(4).everything()
    found["after an evaluation"] = _save_after_evaluation(folder / "evaluated")
    found |= _failures(folder / "failing")
    run = Run().train(1)
    checkpoints.export(run.model, folder / "export")
    found["exported"] = {name: value for name, value in run.everything().items() if " " not in name}
    return found


def _save_after_evaluation(folder: Path) -> bool:
    """The root stays gathered after a forward pass without a backward pass."""
    checkpoints, run = Checkpointer(folder), Run().train(1)
    before = run.everything()
    with torch.no_grad():
        run.model(**make_batch(ROWS, 0, dtype=torch.float32).row(run.rank).arguments())
    run.save(checkpoints)
    checkpoints.wait()
    return same(Run().load(checkpoints).everything(), before)


def _failures(folder: Path) -> dict[str, Any]:
    """One process of two cannot write, or says something else."""
    checkpoints, run = Checkpointer(folder, max_failures=2, asynchronous=False), Run().train(1)
    run.save(checkpoints)
    run.train(2)
    write = FileSystem.create_stream

    def fail(self: Any, path: Path, mode: str) -> Any:
        if run.rank == 1 and mode == "wb":
            raise OSError(28, "No space left on device")
        return write(self, path, mode)

    FileSystem.create_stream = fail
    run.save(checkpoints)
    counted = checkpoints.failures
    last = refused(lambda: run.save(checkpoints))
    FileSystem.create_stream = write
    left = checkpoints.latest()
    run.save(checkpoints)
    whole = (counted, left, checkpoints.latest(), checkpoints.failures)
    run.train(3)
    differ = ""
    try:
        run.save(checkpoints, state={"rank": run.rank})
    except ValueError as error:
        differ = str(error)
    if run.rank == 0:
        flip(next((folder / "step-00000002").glob("__1_*")), 100)
    distributed.barrier()
    damaged = refused(lambda: Run().load(checkpoints))
    fallen = Run().load(checkpoints, fall_back=True).loaded
    return {"counted": whole, "last": last, "differ": differ, "damaged": damaged, "fallen": fallen}


def last_two_processes(folder: Path) -> dict[str, Tensor]:
    """Go on with what one process saved."""
    return Run().load(Checkpointer(folder / "one")).train(4).everything()


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def watch(points: Points) -> None:
    """Points at all that changes files: what is written of tensors, renames, syncs, removals."""
    points.watch_files()
    remove, create, make = shutil.rmtree, FileSystem.create_stream, Path.mkdir

    def watched_remove(path: Path) -> None:
        points.reach("before rmtree")
        for file in sorted(Path(path).iterdir()):
            file.unlink()
        remove(path)
        points.reach("after rmtree")

    def watched_make(self: Path, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        points.reach("after mkdir")

    def watched_stream(self: Any, path: Path, mode: str) -> Any:
        points.reach(f"before opening to {mode}")
        return create(self, path, mode)

    shutil.rmtree, FileSystem.create_stream, Path.mkdir = watched_remove, watched_stream, watched_make


def keep_training(folder: Path, *, asynchronous: bool, until: int = 3) -> str:
    """A script that may be killed and started again: go on with the newest, save each step."""
    checkpoints = Checkpointer(folder, keep_last=2, asynchronous=asynchronous)
    run = Run()
    if checkpoints.latest() is not None:
        run.load(checkpoints)
    for step in range(run.step + 1, until + 1):
        run.train(step).save(checkpoints)
    checkpoints.wait()
    return digest(run)


def killed(folder: Path, seeds: range) -> list[dict[str, Any]]:
    """Kill a run once for each seed, start it again, and say what came of it.

    The seeds draw from parts of the way of equal length, so no part is passed over; every other run saves in a thread.
    """
    folder.mkdir()
    log = folder / "log.json"
    Run()  # what the first of them imports, the forked processes have

    def count() -> None:
        points = Points(lambda: None, -1)
        watch(points)
        found = keep_training(folder / "calm", asynchronous=False)
        log.write_text(json.dumps([found, points.passed]))

    assert forked(count) == 0
    calm, passed = json.loads(log.read_text())
    share, runs = len(passed) / len(seeds), []
    for part, seed in enumerate(seeds):
        at = int(share * (part + random.Random(seed).random()))  # noqa: S311 - no secret
        out = folder / f"killed {seed}"

        def die(at: int = at, out: Path = out, part: int = part) -> None:
            watch(Points(lambda: os.kill(os.getpid(), signal.SIGKILL), at))
            keep_training(out, asynchronous=part % 2 == 1)

        def resume(out: Path = out) -> None:
            checkpoints = Checkpointer(out)
            newest = max([0, *(int(path.name[5:]) for path in out.glob("step-" + "[0-9]" * 8))])
            said = refused(lambda: Run().load(checkpoints)) if newest else "there is none"  # all files are compared
            ended_same = "not whole" not in said and keep_training(out, asynchronous=False) == calm
            log.write_text(json.dumps({"newest": newest, "said": said, "same": ended_same}))

        ended = forked(die)
        assert forked(resume) == 0
        runs.append({"where": f"{passed[at]} ({at} of {len(passed)})", "ended": ended, **json.loads(log.read_text())})
    return runs


def saved_to_full_disk(folder: Path, *, asynchronous: bool) -> dict[str, Any]:
    """Save where files may not grow, and then where they may, and say what came of it."""
    checkpoints = Checkpointer(folder, asynchronous=asynchronous)
    run = Run().train(1).save(checkpoints).train(2)
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    said = []
    for _ in range(2):
        run.save(checkpoints)
        said.append(refused(checkpoints.wait))
    failures, left = checkpoints.failures, checkpoints.steps()
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run.save(checkpoints)
    checkpoints.wait()
    now = {"steps": checkpoints.steps(), "failures": checkpoints.failures, "files": named(folder)}
    return {"said": said, "failures": failures, "left": left, "now": now}


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = Path(sys.argv[1])
    found = {
        "full disk": [saved_to_full_disk(where / f"asynchronous {way}", asynchronous=way) for way in (True, False)],
        "killed": killed(where / "killed", range(20)),
    }
    print(json.dumps(found))  # noqa: T201 - to the test
