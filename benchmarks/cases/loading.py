"""Loading: the order of samples, the first batch after a stop, and batches through workers, beside other loaders."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks.data import FlamingoBatch, FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource, DataStream, SampleOrder
from flamingo_blocks.data.loading.batch_recipe import BatchRecipe

PAGES = 43_300_000  # of the paper's M3W
POSITIONS, BATCHES = 1000, 8
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """On the CPU, without disk: what a loader adds to reading and making."""
    if device != "cpu" or dtype != "float32":
        return []
    rows, side = (2, 4) if tiny else (8, 64)
    resumes = [
        Case(
            suite="loading", name=f"loading/resume/batch{batch}", sizes={"rows": rows}, device=device, dtype=dtype,
            prepare=partial(_resumes, batch, rows, side), check=_check_same_rows,
            bar=(
                Bar("the first batch within 50 ms of making it", "make", 1.0, "at_most", slack=0.05),
                Bar("no later than at the start, but for 2 ms", "start", 1.0, "at_most", slack=0.002),
            ),
        )
        for batch in (0, 10_000_000)
    ]  # fmt: skip
    return [
        Case(
            suite="loading", name="loading/order", sizes={"positions": POSITIONS}, device=device, dtype=dtype,
            prepare=_orders, check=_check_orders,
            bar=(Bar("at least as fast as Grain's", "grain", 1.0, "faster_by"),),
        ),
        *resumes,
        Case(
            suite="loading", name="loading/worker", sizes={"batches": BATCHES, "rows": rows}, device=device,
            dtype=dtype, prepare=partial(_workers, rows, side, grain=not tiny), check=_check_same_rows,
            bar=(Bar("at least as fast as torch's DataLoader", "torch_loader", 1.0, "faster_by"),),
        ),
    ]  # fmt: skip


class MakePage:
    """A page of 256 tokens and three images, without work."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, document: int, *, key: tuple[Any, ...]) -> FlamingoExample:  # noqa: ARG002 - nothing is random
        """Make the row."""
        images = [torch.full((1, 3, self._side, self._side), float(document % 255)) for _ in range(3)]
        return FlamingoExample([document, *range(1, 256)], tags=[1, 80, 160], pixels=images)


def _source(rows: int, side: int) -> DataSource:
    return DataSource(
        name="pages", documents=range(PAGES), make=MakePage(side), collate=partial(collate, pad_id=0), batch_size=rows
    )


def _orders() -> list[Contender]:
    """The samples of positions spread over two epochs."""
    order, start = SampleOrder(PAGES, seed=0), [0]

    def fresh(seed: int) -> None:
        start[0] = seed * 7919

    def positions() -> range:
        return range(start[0], start[0] + POSITIONS * 80_000, 80_000)

    found = [Contender(OURS, lambda: [order.at(position).sample for position in positions()], fresh)]
    if (why := _missing()) is not None:
        return [*found, Contender.left_out("grain", why)]
    theirs = importlib.import_module("grain").MapDataset.range(PAGES).shuffle(seed=0).repeat()
    return [*found, Contender("grain", lambda: [theirs[position] for position in positions()], fresh)]


def _check_orders(contenders: list[Contender]) -> None:
    """Every contender names samples that are there, and no sample twice in what is one epoch."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        samples = [int(sample) for sample in contender.run()][: PAGES // 80_000]
        if len(set(samples)) < len(samples) or not all(0 <= sample < PAGES for sample in samples):
            raise AssertionError(f"{contender.name} names a sample twice, or one that is not there")


def _resumes(batch: int, rows: int, side: int) -> list[Contender]:
    """A new stream that loads a state and gives a batch, beside making the batch alone."""
    source = _source(rows, side)
    recipe = BatchRecipe(source, seed=0, rank=0, world_size=1)

    def resume(at: int) -> FlamingoBatch:
        stream = DataStream(source, seed=0)
        state = stream.state_dict()
        state["sources"]["pages"]["batches"] = at
        stream.load_state_dict(state)
        return next(stream)

    found = [
        Contender(OURS, lambda: resume(batch), _nothing),
        Contender("make", lambda: recipe(batch).batch, _nothing),
        Contender("start", lambda: resume(0), _nothing, same_work=batch == 0),
    ]
    if (why := _missing()) is not None:
        return [*found, Contender.left_out("grain", why)]
    dataset = _grain_dataset(rows, side)

    def resume_grain() -> Any:
        iterator = iter(dataset)
        iterator.set_state({"next_index": batch})
        return next(iterator)

    return [*found, Contender("grain", resume_grain, _nothing)]


class _Numbered(Dataset[FlamingoBatch]):
    """Batches by number, for torch's loader."""

    def __init__(self, source: DataSource) -> None:
        self._recipe = BatchRecipe(source, seed=0, rank=0, world_size=1)

    def __len__(self) -> int:
        return PAGES

    def __getitem__(self, number: int) -> FlamingoBatch:
        return self._recipe(number).batch


def as_it_is(batch: FlamingoBatch) -> FlamingoBatch:
    """What torch's loader is to make of a batch."""
    return batch


def _workers(rows: int, side: int, *, grain: bool) -> list[Contender]:
    """Some batches in a row out of one worker, which makes the same ones for each loader."""
    source = _source(rows, side)
    ours = DataStream(source, seed=0, num_workers=1)
    torch_loader = DataLoader(
        _Numbered(source), batch_size=None, collate_fn=as_it_is, num_workers=1, multiprocessing_context="forkserver"
    )
    found = [
        Contender(OURS, _drawing(lambda: ours), _nothing),
        Contender("torch_loader", _drawing(lambda: iter(torch_loader)), _nothing),
    ]
    # Grain's iterator raises where it is forgotten, which a test must not.
    if (why := _missing() if grain else "its end raises") is not None:
        return [*found, Contender.left_out("grain", why)]
    workers = importlib.import_module("grain").MultiprocessingOptions(num_workers=1)
    return [
        *found,
        Contender("grain", _drawing(lambda: iter(_grain_dataset(rows, side).mp_prefetch(workers))), _nothing),
    ]


def _drawing(make: Callable[[], Iterator[Any]]) -> Callable[[], Any]:
    """Draws some batches of a loader that is made at the first call; gives the last one."""
    loader: list[Iterator[Any]] = []

    def run() -> Any:
        if not loader:
            loader.append(make())
        return [next(loader[0]) for _ in range(BATCHES)][-1]

    return run


def _grain_dataset(rows: int, side: int) -> Any:
    grain, make, order = importlib.import_module("grain"), MakePage(side), SampleOrder(PAGES, 0, "pages")
    made = grain.MapDataset.range(10**12).map(lambda at: make(order.at(at).sample, key=()))
    threads = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return made.batch(rows, batch_fn=partial(collate, pad_id=0)).to_iter_dataset(threads)


def _nothing(_: int) -> None:
    """Nothing is random here, and every call goes on where the last one stopped."""


def _check_same_rows(contenders: list[Contender]) -> None:
    """All give the same batch, of the rows that the order names."""
    batches = {contender.name: contender.run() for contender in contenders if contender.same_work}
    for name, batch in batches.items():
        if not torch.equal(batch.input_ids, batches[OURS].input_ids):
            raise AssertionError(f"rows of {name} are not those of {OURS}")
        if not torch.equal(batch.pixels[::3, 0, 0, 0, 0].long(), batch.input_ids[:, 0] % 255):
            raise AssertionError(f"images of {name} do not belong to their rows")


def _missing() -> str | None:
    return None if importlib.util.find_spec("grain") else "grain not installed"
