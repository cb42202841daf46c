"""The way of the data, walked from end to end: pages, pairs and clips become shards, batches, and a trained model."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest
import torch

from flamingo_blocks.cli import main
from flamingo_blocks.data import ImageSegment, SpecialTokens, collate
from flamingo_blocks.data.examples import CaptionExamples, InterleavedExamples
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.data.shards import DocumentShards
from flamingo_blocks.data.video import clip_images
from flamingo_blocks.models.builders import build_tiny_flamingo
from flamingo_blocks.training import Objective, TrainConfig, flamingo_loss, train, warmup_hold_decay

SCRIPT = Path(__file__).parents[2] / "examples" / "make_corpus.py"
BEGIN, END = 256, 257
SPECIAL = SpecialTokens(media=258, end_of_chunk=259, bos=BEGIN, eos=END)
WEIGHTS = {"m3w": 1.0, "pairs": 0.2, "clips": 0.03}


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sixty pages with their pictures, pairs and clips."""
    spec = importlib.util.spec_from_file_location("make_corpus", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    assert script.main([str(out), "--pages", "60", "--seed", "1", "--questions", "12"]) == 0
    return out


@pytest.fixture(scope="module")
def built(corpus):
    """The shards that the command makes of the pages."""
    out = corpus / "documents"
    words = ["data", "build", corpus / "pages", out, "--language", "any", "--workers", "2", "--pages-per-shard", "25"]
    assert main([str(word) for word in words]) == 0
    return out


def mixture_of(corpus, built, preprocess, **options):
    """Pages, pairs and clips as the paper mixes them, in small."""
    shared = {"tokenizer": Bytes(), "special": SPECIAL, "preprocess": preprocess}
    first_frames = partial(clip_images, fps=1.0, count=4)
    makers = {
        "m3w": (built / "shards", InterleavedExamples(**shared, length=96, needs_media=True, source="m3w"), 4),
        "pairs": (corpus / "pairs", CaptionExamples(**shared, length=64, source="pairs"), 8),
        "clips": (corpus / "clips", CaptionExamples(**shared, length=64, clip_images=first_frames, source="clips"), 2),
    }
    sources = [
        DataSource(
            name=name, documents=DocumentShards(folder), make=make, collate=partial(collate, pad_id=0),
            batch_size=size, weight=WEIGHTS[name],
        )
        for name, (folder, make, size) in makers.items()
    ]  # fmt: skip
    return Mixture(sources, seed=0, **options)


def test_what_is_built_is_told_and_holds_the_bytes_of_its_images(built):
    """Every page is a document or a reason, every image of a document is there, and nothing else is left behind."""
    told = json.loads((built / "build.json").read_text())
    documents = DocumentShards(built / "shards")
    assert told["pages"] == 60 == len(documents) + sum(told["reasons"].values())
    assert told["documents"] == len(documents) > 20
    images = [item for document in documents for item in document.media]
    assert all(isinstance(image, ImageSegment) and image.url and image.data for image in images)
    assert {path.name for path in built.iterdir()} == {"build.json", "shards"}
    assert not told["quarantined"]


def test_a_model_is_trained_on_what_was_built(corpus, built):
    """Pages, pairs and clips, each in its own batch of every step: the loss falls and what is frozen stays."""
    flamingo = build_tiny_flamingo(vocab_size=258)
    frozen = {name: value.clone() for name, value in flamingo.lm.state_dict().items()}
    with mixture_of(corpus, built, flamingo.vision.preprocess) as mixture:
        objectives = [
            Objective(name=name, batches=mixture.batches(name), loss=flamingo_loss, weight=weight)
            for name, weight in WEIGHTS.items()
        ]
        result = train(
            TrainConfig(model=flamingo, objectives=objectives, steps=30, lr=1e-2, schedule=warmup_hold_decay(warmup=3))
        )
    losses = torch.tensor([[report.losses[name] for name in WEIGHTS] for report in result.reports])
    assert losses.isfinite().all()
    assert (losses[-5:].mean(dim=0) < losses[:5].mean(dim=0)).all()
    assert all(torch.equal(frozen[name], value) for name, value in flamingo.lm.state_dict().items())


def test_a_recipe_trains_on_what_was_built(corpus, built, tmp_path):
    """Tower, language model and what stands between them, in a few steps each; killed, it goes on with these parts."""
    assert built.name == "documents"
    words = [f"data={corpus}", f"folder={tmp_path}", "tower_steps=2", "lm_steps=2", "score_every=2", "save_every=1"]
    recipe = str(SCRIPT.parent / "recipes" / "corpus.py")
    assert main(["train", recipe, "steps=2", *words]) == 0
    parts = (tmp_path / "parts.pt").stat().st_mtime_ns
    assert main(["train", recipe, "steps=4", *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    asked = {f"few_shot/{what}, {shots} shots" for what in ("colour", "digit") for shots in (0, 4)}
    for line in lines[1::2]:
        assert all(0 <= line["measured"][name] <= 1 for name in asked)
    assert (tmp_path / "parts.pt").stat().st_mtime_ns == parts
    assert (tmp_path / "model").is_dir()


def test_batches_are_what_the_paper_says(corpus, built):
    """Windows with at most five images, captions between tag and end, and clips of several frames."""
    preprocess = build_tiny_flamingo(vocab_size=258).vision.preprocess
    with mixture_of(corpus, built, preprocess) as mixture:
        batch = next(mixture)
    assert {name: part.input_ids.shape[0] for name, part in batch.items()} == {"m3w": 4, "pairs": 8, "clips": 2}
    assert batch["m3w"].input_ids.shape[1] <= 96
    assert ((batch["m3w"].input_ids == SPECIAL.media).sum(dim=1) <= 5).all()
    for row in batch["pairs"].input_ids:
        assert row[:2].tolist() == [BEGIN, SPECIAL.media]
        assert [SPECIAL.end_of_chunk, END] in [row[k : k + 2].tolist() for k in range(len(row) - 1)]
    assert batch["pairs"].pixels.shape[:2] == (8, 1)
    assert batch["clips"].pixels.shape[1] > 1


@pytest.mark.parametrize("num_workers", (0, 2))
def test_a_run_goes_on_where_it_stopped(corpus, built, num_workers):
    """A state that was saved after three steps gives the very batches of the run that was not stopped."""
    preprocess = build_tiny_flamingo(vocab_size=258).vision.preprocess
    with mixture_of(corpus, built, preprocess) as mixture:
        steps = [next(mixture) for _ in range(6)]
    with mixture_of(corpus, built, preprocess, num_workers=num_workers) as stopped:
        for _ in range(3):
            next(stopped)
        state = json.loads(json.dumps(stopped.state_dict()))
    with mixture_of(corpus, built, preprocess, num_workers=num_workers) as resumed:
        resumed.load_state_dict(state)
        for expected in steps[3:]:
            for name, batch in next(resumed).items():
                assert torch.equal(batch.input_ids, expected[name].input_ids)
                assert torch.equal(batch.pixels, expected[name].pixels)
                assert torch.equal(batch.layout.last, expected[name].layout.last)


def test_pages_that_were_built_can_be_looked_at(built, tmp_path, capsys):
    """The commands that check, count and show take what the builder wrote."""
    page = tmp_path / "look.html"
    assert main(["data", "check", str(built / "shards")]) == 0
    assert main(["data", "stats", str(built / "shards")]) == 0
    assert main(["data", "show", str(built / "shards"), "--out", str(page), "--limit", "3"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert page.read_text().count("<img") >= 3
