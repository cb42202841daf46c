"""A whole run over a small corpus of our own: what `start_run` does alone and with several processes."""

import json
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from flamingo_blocks.data import ImageSegment, InterleavedDocument, SpecialTokens
from flamingo_blocks.data.records import to_members
from flamingo_blocks.data.shards import Sample, write_shard
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import RunConfig, TrainingSet, paper_feed, start_run, warmup_hold_decay

SPECIAL = SpecialTokens(media=258, end_of_chunk=259, bos=256, eos=257)


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


def write_corpus(folder: Path) -> None:
    """Twelve pages of two pictures, and twelve pairs."""
    import io

    def picture(number):
        file = io.BytesIO()
        Image.new("RGB", (12, 12), (20 * number, 90, 255 - 20 * number)).save(file, "PNG")
        return ImageSegment(data=file.getvalue())

    for name, parts in (("pages", 2), ("pairs", 1)):
        documents = [
            InterleavedDocument.from_parts([part for k in range(parts) for part in (picture(n), f"number {n} and {k}")])
            for n in range(12)
        ]
        (folder / name).mkdir(parents=True)
        samples = [Sample(f"{n:03}", to_members(document)) for n, document in enumerate(documents)]
        write_shard(folder / name / "00000.tar", samples)


def make_sets(data, **changed):
    return [
        TrainingSet(name="pages", folder=data / "pages", kind="pages", rows=4, text=40, items=2, **changed),
        TrainingSet(name="pairs", folder=data / "pairs", kind="captions", rows=8, text=24, weight=0.2),
    ]


def feed_of(model, *, sets, **options):
    return paper_feed(sets, tokenizer=Bytes(), special=SPECIAL, pad_id=0, preprocess=model.vision.preprocess, **options)


def make_config(data, folder, *, parts=1, **changed):
    """Pages and pairs, four steps."""
    sets = make_sets(data)
    usual = {"steps": 4, "lr": 1e-2, "save_every": 2, "gates_every": 2}
    return RunConfig(
        build=partial(build_tiny_flamingo, vocab_size=258),
        feed=partial(feed_of, sets=sets, parts=parts),
        batches={each.name: each.shape for each in sets},
        folder=folder,
        options={"schedule": warmup_hold_decay(warmup=1)},
        **(usual | changed),
    )


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_in_each(data, folder, changed):
    """In each of several processes; what the run reported, and the weights that it saved."""
    result = start_run(make_config(data, folder, **changed), progress=False)
    torch.distributed.barrier()
    return [dict(report.losses) for report in result.reports]
