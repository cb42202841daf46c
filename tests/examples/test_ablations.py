"""The paper's ablations in small: each changes what it says, a killed command goes on, and the page tells the runs."""

import importlib
import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from statistics import mean

import pytest
import torch

from flamingo_blocks.demo import DemoError
from flamingo_blocks.demo import model as demo_model
from flamingo_blocks.demo.episodes import text_of_image
from flamingo_blocks.demo.model import train_flamingo
from flamingo_blocks.demo.parts import prepare_parts
from flamingo_blocks.demo.progress import Stopwatch

ROOT = Path(__file__).parents[2]
MODULES = ("run_ablations", "variants", "outcome_table")
PUBLISHED = ROOT / "docs" / "assets" / "ablations" / "results.json"
PAGE = ROOT / "docs" / "explanation" / "ablations.md"


@pytest.fixture(scope="module")
def script():
    """The script as Python finds it when it is started: beside its own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples" / "ablations"))
        yield importlib.import_module("run_ablations")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def few(script):
    """Settings that learn nothing."""
    return script.Settings(steps=2, episodes=2, tower_steps=1, lm_steps=1, min_recall=0.0)


@pytest.fixture(scope="module")
def folder(script, few, tmp_path_factory):
    """What all variants leave behind after two steps."""
    out = tmp_path_factory.mktemp("ablations") / "not" / "there"
    script.run_all(list(script.VARIANTS), [3], out, few)
    script.write_outcome(out, few)
    return out


@pytest.fixture(scope="module")
def parts():
    return prepare_parts(Stopwatch(lambda *_: None), seed=3, tower_steps=1, lm_steps=1)


def runs_of(out):
    return {run["variant"]: run for run in json.loads((out / "results.json").read_text())}


def train(script, parts, name, *, steps=1):
    flamingo = script.build(script.VARIANTS[name], parts, seed=3)
    updates = script.VARIANTS[name].updates
    tasks = ("naming", "captions")
    train_flamingo(flamingo, parts.training, parts.vocabulary, tasks=tasks, steps=steps, lr=0.01, seed=3,
                   updates=updates)  # fmt: skip
    return flamingo


def two_images(flamingo, parts):
    """A text of two images, what each of its tokens sees, and the images."""
    chunk = text_of_image(parts.vocabulary, "this is a red")
    ids = torch.cat([chunk, chunk[1:]])[None]
    return ids, flamingo.make_layout(ids), parts.test.features[:2, None]


def same(module, other):
    states = module.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def test_every_variant_changes_one_thing(script):
    """Title and paper apart; a round-robin of the same batches needs more updates for them."""
    baseline = script.VARIANTS["baseline"]
    for name, variant in script.VARIANTS.items():
        changed = {one.name for one in fields(variant) if getattr(variant, one.name) != getattr(baseline, one.name)}
        assert len(changed - {"title", "paper", "steps"}) == (name != "baseline"), name
        assert "steps" not in changed or variant.updates == "round_robin"


def test_every_variant_leaves_its_measures(script, folder, few):
    """Curves, captions, losses, counts and times, with the settings beside them."""
    runs = runs_of(folder)
    assert list(runs) == list(script.VARIANTS)
    for name, run in runs.items():
        assert run["settings"] == asdict(few)
        assert {"0", "1", "2", "4", "8"} <= set(run["naming"]["closed"])
        assert all(0 <= value <= 1 for value in (*run["naming"]["closed"].values(), *run["captions"].values()))
        assert set(run["loss"]["first"]) == set(run["loss"]["last"]) == {"naming", "captions"}
        assert run["seconds_per_update"] > 0
        doubled = {"round_robin": (4, 4), "round_robin_short": (2, 2)}
        assert (run["updates"], run["batches"]) == doubled.get(name, (2, 4))


def test_the_weights_that_train_are_those_of_the_change(script, folder, parts):
    """A gate fewer, a language model more, half the blocks; the perceptron has as many as the resampler."""
    trained = {name: run["trained"] for name, run in runs_of(folder).items()}
    base = trained["baseline"]
    lm = sum(weight.numel() for weight in parts.lm.parameters())
    for name in ("all_previous", "round_robin", "round_robin_short"):
        assert trained[name] == base
    assert trained["no_gate"]["all"] == base["all"] - 4
    assert trained["lm_trained"]["all"] == trained["lm_from_scratch"]["all"] == base["all"] + lm
    blocks = script.build(script.VARIANTS["baseline"], parts, seed=3).blocks
    assert base["all"] - trained["every_second"]["all"] == sum(weight.numel() for weight in blocks["1"].parameters())
    assert abs(trained["mlp"]["resampler"] / base["resampler"] - 1) < 0.02


def test_all_but_the_one_without_gates_start_as_the_language_model(script, parts):
    """Images change no logit at the start, save where updates pass no gate."""
    for name, variant in script.VARIANTS.items():
        flamingo = script.build(variant, parts, seed=3).eval()
        ids, layout, images = two_images(flamingo, parts)
        with torch.no_grad():
            seen = flamingo(ids, features=images, layout=layout).logits
            with flamingo.attachment.without_media():
                blind = flamingo.lm(ids)
        assert torch.equal(seen, blind) == (name != "no_gate"), name


def test_what_is_not_changed_has_the_weights_of_the_baseline(script, parts):
    """New weights are the same for all variants of a seed, and other ones for another seed."""
    baseline = script.build(script.VARIANTS["baseline"], parts, seed=3)
    for name, variant in script.VARIANTS.items():
        flamingo = script.build(variant, parts, seed=3)
        assert same(flamingo.resampler, baseline.resampler) == (name != "mlp")
        assert same(flamingo.lm, parts.lm) == (name != "lm_from_scratch")
        assert all(same(baseline.blocks[index].attention, one.attention) for index, one in flamingo.blocks.items())
        assert len(flamingo.blocks) == (1 if name == "every_second" else 2)
    assert not same(script.build(script.VARIANTS["baseline"], parts, seed=4).resampler, baseline.resampler)


def test_frozen_weights_stay_and_those_of_a_trained_language_model_move(script, parts):
    """The tower stays in any case, and the parts that variants share are never touched."""
    before = {name: weight.clone() for name, weight in parts.lm.state_dict().items()}
    for name in ("baseline", "no_gate", "lm_trained", "lm_from_scratch"):
        flamingo = train(script, parts, name, steps=2)  # closed gates let no gradient through in the first
        start = script.build(script.VARIANTS[name], parts, seed=3)
        still = [
            torch.equal(one, two) for one, two in zip(flamingo.lm.parameters(), start.lm.parameters(), strict=True)
        ]
        assert not any(still) if name.startswith("lm_") else all(still), name
        assert same(flamingo.vision, parts.tower)
        assert not same(flamingo.resampler, start.resampler)
    assert all(torch.equal(weight, before[name]) for name, weight in parts.lm.state_dict().items())


def test_a_token_sees_the_earlier_image_only_where_it_should(script, parts):
    """The second text depends on the first image by its own sight with scope "all" alone."""
    for name in ("baseline", "all_previous"):
        flamingo = script.build(replace(script.VARIANTS[name], gated=False, every=2), parts, seed=3).eval()
        ids, layout, images = two_images(flamingo, parts)
        block, text = flamingo.blocks["0"], torch.randn(1, ids.shape[1], flamingo.lm.dim)
        with torch.no_grad():
            media = flamingo.encode_media(features=images).media
            change = block(text, media, layout) - block(text, media + torch.tensor([1.0, 0.0])[:, None, None], layout)
        assert bool(change[0, -3:].abs().max() > 0) == (name == "all_previous")


def test_a_round_robin_sees_the_same_batches_in_twice_the_updates(script, parts, monkeypatch):
    """As the baseline and in its order; with the same updates it sees the first half."""
    drawn, real = [], demo_model.to_batch
    monkeypatch.setattr(demo_model, "to_batch", lambda texts, *rest: drawn.append(texts) or real(texts, *rest))
    batches = {}
    for name, steps in (("baseline", 2), ("round_robin", 4), ("round_robin_short", 2)):
        train(script, parts, name, steps=steps)
        batches[name] = [torch.cat([texts.input_ids.flatten(), texts.images.flatten()]) for texts in drawn]
        drawn.clear()
    assert [len(found) for found in batches.values()] == [4, 4, 2]
    for name in ("round_robin", "round_robin_short"):
        assert all(torch.equal(one, two) for one, two in zip(batches[name], batches["baseline"], strict=False))


def test_a_killed_command_goes_on(script, few, folder, tmp_path, monkeypatch):
    """What has its file stays as it is, the rest comes out as in one go, and nothing is left half written."""
    names, real, told = ["baseline", "every_second"], script.run_one, []

    def killed(*arguments, label, **options):
        told.append(label)
        if len(told) == 2:
            raise KeyboardInterrupt
        return real(*arguments, label=label, **options)

    monkeypatch.setattr(script, "run_one", killed)
    with pytest.raises(KeyboardInterrupt):
        script.run_all(names, [3], tmp_path, few)
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["baseline-3.json"]
    first = (tmp_path / "runs" / "baseline-3.json").read_bytes()
    script.run_all(names, [3], tmp_path, few)
    assert told == [f"{name}, seed 3" for name in ("baseline", "every_second", "every_second")]
    assert (tmp_path / "runs" / "baseline-3.json").read_bytes() == first
    script.write_outcome(tmp_path, few)
    at_once = runs_of(folder)
    for name, run in runs_of(tmp_path).items():
        assert {**run, "seconds_per_update": 0} == {**at_once[name], "seconds_per_update": 0}
    monkeypatch.setattr(script, "prepare_parts", lambda *_, **__: pytest.fail("nothing was left to do"))
    script.run_all(names, [3], tmp_path, few)


def test_a_file_is_there_in_whole_or_not_at_all(script, tmp_path, monkeypatch):
    """A command that dies while it writes leaves what was there before."""
    script.write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        script.write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"


def test_runs_of_other_settings_are_refused(script, few, folder):
    """They would not belong into one table."""
    with pytest.raises(DemoError, match=r"baseline-3.json was run with .*'steps': 2.*wanted .*'steps': 3"):
        script.run_all(["baseline"], [3], folder, replace(few, steps=3))


def test_the_table_tells_mean_and_spread(script, folder, few):
    """Over the seeds that are there; one seed has no spread."""
    one = runs_of(folder)["baseline"]
    closed = [{"naming": {**one["naming"], "closed": dict.fromkeys("01248", value)}} for value in (0.2, 0.4)]
    first, second = script.format_table([{**one, **change} for change in closed]).split("\n\n")
    assert first.splitlines()[2].startswith("| nothing: the demo | 0.30 ± 0.14 |")
    assert second.splitlines()[2].split(" | ")[5:8] == ["2", "2", "4"]  # seeds updates batches
    table = script.write_outcome(folder, few)
    assert table + "\n" == (folder / "table.md").read_text()
    assert "±" not in table
    assert all(variant.title in table for variant in script.VARIANTS.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variants", "baseline,gates"], "there is no gates; there are baseline, no_gate"),
        (["--seeds", "0,x"], "--seeds is '0,x', wanted whole numbers"),
        (["--steps", "0"], "--steps is 0 and --episodes 400, wanted 1 or more"),
    ],
)
def test_wrong_words_are_told(script, words, message, tmp_path, capsys):
    """Before anything is trained."""
    with pytest.raises(SystemExit):
        script.main([*words, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_table(script, few, folder, monkeypatch, capsys):
    """Where all runs are there it trains nothing."""
    monkeypatch.setattr(script, "Settings", lambda **_: few)
    assert script.main(["--seeds", "3", "--out", str(folder)]) == 0
    assert capsys.readouterr().out == (folder / "table.md").read_text()


def test_the_page_tells_what_was_found(script):
    """Its tables are those of the published runs: every variant with three seeds and the script's own settings."""
    runs = json.loads(PUBLISHED.read_text())
    assert [(run["variant"], run["seed"]) for run in runs] == [(name, k) for name in script.VARIANTS for k in range(3)]
    assert all(run["settings"] == asdict(script.Settings()) for run in runs)
    page = PAGE.read_text()
    for table in script.format_table(runs).split("\n\n"):
        assert table in page


MEASURES = {
    "naming": lambda run: run["naming"]["closed"]["8"],
    "open naming": lambda run: run["naming"]["open"]["8"],
    "captions": lambda run: run["captions"]["seen"],
    "unseen captions": lambda run: run["captions"]["unseen"],
    "recall": lambda run: run["text_recall"],
}
CLAIMS = {
    "no_gate": {"naming": "better", "unseen captions": "better"},
    "all_previous": {"naming": "worse", "open naming": "worse"},
    "round_robin": {},
    "round_robin_short": {},
    "lm_trained": dict.fromkeys(("naming", "open naming", "unseen captions", "recall"), "worse"),
    "lm_from_scratch": dict.fromkeys(("naming", "open naming", "recall"), "worse"),
    "every_second": {"unseen captions": "worse"},
    "mlp": {},
}


def differs(values, others):
    """The page's rule: the ranges over seeds do not touch, and the means are 0.03 apart or more."""
    if abs(mean(values) - mean(others)) < 0.03 or not (min(values) > max(others) or max(values) < min(others)):
        return None
    return "better" if mean(values) > mean(others) else "worse"


def test_what_the_page_says_beside_the_paper_is_in_the_runs(script):
    """Each difference from the baseline, and no other, by the rule that the page gives."""
    runs = json.loads(PUBLISHED.read_text())

    def values(name, measure):
        return [measure(run) for run in runs if run["variant"] == name]

    found = {
        name: {
            key: told
            for key, measure in MEASURES.items()
            if (told := differs(values(name, measure), values("baseline", measure)))
        }
        for name in script.VARIANTS
        if name != "baseline"
    }
    assert found == CLAIMS
    assert max(values("all_previous", MEASURES["naming"])) < 0.25  # chance is 0.20
    assert max(values("lm_trained", MEASURES["open naming"])) == 0
    assert differs(values("lm_from_scratch", MEASURES["naming"]), values("lm_trained", MEASURES["naming"])) == "worse"
    assert min(values("lm_from_scratch", MEASURES["naming"])) < 0.25
    largest = [values(name, lambda run: run["largest_gradient"]) for name in ("round_robin", "baseline")]
    assert all(one > 2 * other for one, other in zip(*largest, strict=True))
    first = [values(name, lambda run: run["loss"]["first"]["naming"]) for name in ("no_gate", "baseline")]
    assert all(one > other for one, other in zip(*first, strict=True))
