"""Checkpoints that must not be loaded, saves that must not be made, and what is said of them."""

import json
import logging
import shutil
from hashlib import sha256

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints import Checkpointer, manifest
from tests.training.checkpoint_runs import Run, blocking, flip, named, refused, same, small


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpointer with two checkpoints, and a run that is to load them."""
    checkpoints = blocking(tmp_path_factory.mktemp("saved") / "run")
    run = Run().train(1).save(checkpoints).train(2).save(checkpoints)
    return checkpoints, run


@pytest.fixture
def copied(saved, tmp_path):
    """The same, to be spoilt."""
    shutil.copytree(saved[0].folder, tmp_path / "run")
    return blocking(tmp_path / "run"), Run().train(3)


FILES = [".metadata", "__0_0.distcp", "config.json", "manifest.json", "state.json"]


@given(name=st.sampled_from(FILES), bit=st.integers(0, 10_000_000))
def test_a_flipped_bit_is_told_before_a_tensor_changes(saved, name, bit):
    """Whichever bit of whichever file it is, the load fails, and model and optimiser are what they were."""
    checkpoints, run = saved
    path, before = checkpoints.folder / "step-00000002" / name, run.everything()
    content = path.read_bytes()
    flip(path, bit)
    try:
        with pytest.raises(CheckpointError, match=r"damaged|format version"):
            checkpoints.load(run.model, run.optimizer)
    finally:
        path.write_bytes(content)
    assert same(run.everything(), before)


def test_each_bit_of_a_manifest_counts(copied):
    """It has nothing to vouch for it but itself: of 500 bits spread over it, none can be another unseen."""
    folder = copied[0].folder / "step-00000002"
    path = folder / manifest.MANIFEST
    content = path.read_bytes()
    assert manifest.read_manifest(folder).step == 2
    for bit in range(0, 8 * len(content), 8 * len(content) // 500):
        flip(path, bit + bit % 7)
        with pytest.raises(CheckpointError, match=r"is damaged|format version"):
            manifest.read_manifest(folder)
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_missing_or_short_are_told(copied, name):
    """The message names the file; the older checkpoint is named, and loaded when that is asked for."""
    checkpoints, run = copied
    path = checkpoints.folder / "step-00000002" / name
    before = run.everything()
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{name} " in refused(lambda: run.load(checkpoints))
    path.unlink()
    said = refused(lambda: run.load(checkpoints))
    assert f"{name} is missing: the checkpoint is not whole; fall_back=True takes an older one, of [1]" in said
    assert same(run.everything(), before)
    assert checkpoints.latest() == 1
    run.load(checkpoints, fall_back=True)
    assert run.step == 1
    assert name in run.loaded.passed_over[0]
    assert named(checkpoints.folder) == ["step-00000001", "step-00000002.damaged"]
    run.train(2).save(checkpoints)  # its name is free
    assert checkpoints.latest() == 2


def test_without_a_whole_one_nothing_is_loaded(copied):
    """When all are damaged, all are named; a step that is not there is named with those that are."""
    checkpoints, run = copied
    assert "step is 7, wanted one of [1, 2]" in refused(lambda: run.load(checkpoints, 7))
    for step in (1, 2):
        flip(checkpoints.folder / f"step-0000000{step}" / "__0_0.distcp", 800)
    said = refused(lambda: run.load(checkpoints, fall_back=True))
    assert "step-00000001" in said
    assert "step-00000002" in said
    assert named(checkpoints.folder) == ["step-00000001", "step-00000002"]  # none is put aside where none is loaded


def test_a_read_that_fails_at_its_end_changes_nothing(copied, monkeypatch):
    """A disk that fails after all hashes agreed leaves model and optimiser as they were."""
    checkpoints, run = copied
    read, before = FileSystemReader.read_data, run.everything()

    def broken(*arguments):
        read(*arguments)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(FileSystemReader, "read_data", broken)
    assert "rank 0: OSError: [Errno 5]" in refused(lambda: run.load(checkpoints))
    assert same(run.everything(), before)


def test_a_renamed_checkpoint_is_told(copied):
    """A folder whose name is of another step is no checkpoint of it."""
    checkpoints, run = copied
    (checkpoints.folder / "step-00000002").rename(checkpoints.folder / "step-00000008")
    assert "step-00000008 holds step 2: it was renamed" in refused(lambda: run.load(checkpoints))
    assert checkpoints.latest() == 1


def rewrite(folder, change):
    """A manifest with other values, as another version would write it."""
    values = json.loads((folder / manifest.MANIFEST).read_text())
    values.pop("sha256")
    change(values)
    digest = sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    text = json.dumps({**values, "sha256": digest}, sort_keys=True, indent=2) + "\n"
    (folder / manifest.MANIFEST).write_text(text)


def test_a_newer_format_is_told_and_no_older_one_taken(copied):
    """It is no damage: whoever asked to fall back hears of the version as well."""
    checkpoints, run = copied
    rewrite(checkpoints.folder / "step-00000002", lambda values: values.update(format_version=2))
    said = refused(lambda: run.load(checkpoints, fall_back=True))
    assert "has format version 2, this library reads up to 1; it was written by flamingo_blocks 0.1.0" in said
    assert checkpoints.steps() == [1]


def test_versions_are_told(copied):
    """Another torch is no reason to refuse, but one that the bits may differ."""
    checkpoints, run = copied
    rewrite(checkpoints.folder / "step-00000002", lambda values: values["versions"].update(torch="2.10.0"))
    run.load(checkpoints)
    assert run.loaded.differences == (f"torch: was 2.10.0, is {torch.__version__}",)


def test_a_layout_that_names_other_things_is_not_read(copied):
    """The layout is a pickle; a class that is no layout's is not imported, even where the hashes agree."""
    checkpoints, run = copied
    folder = checkpoints.folder / "step-00000002"
    (folder / ".metadata").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    record = manifest.FileRecord.of(folder / ".metadata")
    rewrite(folder, lambda values: values["files"].update({".metadata": vars(record)}))
    assert "names os.system, which no layout has" in refused(lambda: run.load(checkpoints))


def spoilt(change):
    model = small()[0]
    model = change(model) or model
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)


def test_another_model_is_told(tmp_path):
    """Keys are compared both ways, with shapes and dtypes, and so is what is frozen; all before a tensor changes."""
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    checkpoints.save(1, model, optimizer)
    values = model.state_dict()
    changes = {
        "it lacks 1 tensors that train here: ['4.weight']": lambda m: nn.Sequential(*m, nn.Linear(2, 2, bias=False)),
        "it has 5 tensors that do not train here: ['3.bias', '3.num_batches_": lambda m: m[:3],
        "2.weight has shape (2, 3) in the checkpoint, (5, 3) here": lambda m: nn.Sequential(
            *m[:2], nn.Linear(3, 5), nn.BatchNorm1d(5)
        ),
        "2.weight has dtype torch.float32 in the checkpoint, torch.float64 here": lambda m: m.double(),
        "names, shapes or configs of what is frozen differ": lambda m: nn.Sequential(
            nn.Linear(2, 3, bias=False).requires_grad_(False), *m[1:]
        ),
        "weights of what is frozen differ": lambda m: None,
    }
    for said, change in changes.items():
        other, its_optimizer = spoilt(change)
        before = {name: value.clone() for name, value in other.state_dict().items()}
        assert said in refused(lambda: checkpoints.load(other, its_optimizer)), said  # noqa: B023
        assert same(before, other.state_dict())
        assert not its_optimizer.state
    other, its_optimizer = spoilt(lambda m: nn.Sequential(*model[:2], *m[2:]))
    checkpoints.load(other, its_optimizer)
    assert same(values, other.state_dict())


def test_a_frozen_part_in_another_precision_is_the_same(tmp_path):
    """A language model may be stored in bfloat16 when the run goes on."""
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    checkpoints.save(1, model, optimizer)
    model[0].to(torch.bfloat16)
    assert checkpoints.load(model, optimizer).step == 1


def test_another_optimiser_is_told(tmp_path):
    """Its class is compared, and which parameters it trains."""
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    checkpoints.save(1, model, optimizer)
    said = refused(lambda: checkpoints.load(model, torch.optim.SGD(model[2].parameters(), lr=0.1)))
    assert "its optimizer is torch.optim.adamw:AdamW, here it is torch.optim.sgd:SGD" in said
    said = refused(lambda: checkpoints.load(model, torch.optim.AdamW(model[2].parameters(), lr=0.1)))
    assert "the optimizer of the checkpoint trains ['3.bias', '3.weight'], and not here" in said


def test_nothing_is_overwritten(tmp_path):
    """A step that is there is refused at once and uncounted, be it whole or not."""
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    checkpoints.save(1, model, optimizer)
    (tmp_path / "step-00000002").mkdir()
    for step in (1, 2):
        with pytest.raises(CheckpointError, match=f"step-0000000{step} is there already: it is never overwritten"):
            checkpoints.save(step, model, optimizer)
    assert checkpoints.failures == 0
    assert checkpoints.latest() == 1


def test_room_is_asked_for_before_anything_is_written(tmp_path, monkeypatch, caplog):
    """Where the disk has too little, both numbers are told, and nothing is begun."""
    checkpoints, (model, optimizer) = Checkpointer(tmp_path, max_failures=2), small()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 0, 10))
    with caplog.at_level(logging.WARNING):
        checkpoints.save(1, model, optimizer)
    assert "the disk has 10 bytes free, wanted 1000193" in caplog.text
    with pytest.raises(CheckpointError, match="2 saves in a row have failed, the last one: .*the disk has 10 bytes"):
        checkpoints.save(1, model, optimizer)
    assert named(tmp_path) == []


@pytest.mark.parametrize("asynchronous", [True, False])
def test_failures_in_a_row_are_counted(asynchronous, tmp_path, monkeypatch):
    """One is logged and counted, a save that succeeds forgets it, so many in a row raise, and `wait` raises any."""
    checkpoints, (model, optimizer) = Checkpointer(tmp_path, max_failures=2, asynchronous=asynchronous), small()
    writing = FileSystem.create_stream

    def broken(*_):
        raise OSError(5, "Input/output error")

    def save(step, stream):
        monkeypatch.setattr(FileSystem, "create_stream", stream)
        checkpoints.save(step, model, optimizer)

    save(1, broken)
    with pytest.raises(CheckpointError, match=r"step-00000001 was not saved: rank 0: OSError: \[Errno 5\]"):
        checkpoints.wait()
    assert checkpoints.failures == 1
    checkpoints.wait()  # it was told
    save(2, writing)
    checkpoints.wait()
    assert checkpoints.failures == 0
    said = [refused(lambda: save(step, broken)) for step in (3, 4, 5)]  # noqa: B023 - called at once
    assert said[0] == "nothing was refused"
    assert said[2 if asynchronous else 1].startswith("2 saves in a row have failed, the last one: ")
    monkeypatch.setattr(FileSystem, "create_stream", writing)
    assert checkpoints.latest() == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"keep_last": 0}, "keep_last is 0, wanted 1 or more"),
        ({"keep_every": 0}, "keep_every is 0, wanted 1 or more"),
        ({"max_failures": 0}, "max_failures is 0, wanted 1 or more"),
        ({"best_is": "low"}, "best_is is 'low', wanted"),
    ],
)
def test_slips_of_the_checkpointer_are_told(arguments, said, tmp_path, without_shape_checks):
    """Each argument is named with its value and what was wanted."""
    with pytest.raises(ValueError, match=said):
        Checkpointer(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"step": -1}, "step is -1, wanted 0 or more"),
        ({"state": {"rank": {0: "random"}}}, r"state has the keys \[0\], wanted strings"),
        ({"state": {"generator": object()}}, "state is .*object.*, wanted values of JSON's types"),
        ({"config": {"device": torch.device("cpu")}}, "config is .*device.*, wanted values of JSON's types"),
        ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)}, "make it after the model is sharded"),
    ],
)
def test_slips_of_a_save_are_told_and_not_counted(arguments, said, tmp_path):
    """What a caller can mend raises at once, and leaves nothing."""
    checkpoints, (model, optimizer) = blocking(tmp_path), small()
    with pytest.raises(ValueError, match=said):
        checkpoints.save(**{"step": 1, "model": model, "optimizer": optimizer, **arguments})
    assert checkpoints.failures == 0
    assert named(tmp_path) == []
