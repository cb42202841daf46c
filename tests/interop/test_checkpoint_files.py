"""Checkpoints as they are found: files, folders, shards, wrappers' prefixes; and those that cannot be read."""

import argparse
import json
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import ForeignCheckpoint, open_checkpoint, read_record, write_checkpoint, write_record
from flamingo_blocks.interop.checkpoint_files import TensorFacts
from flamingo_blocks.interop.wrapped_names import plain_name

TENSORS = {
    "perceiver.latents": torch.arange(6.0).reshape(2, 3),
    "lang_encoder.gate": torch.ones(1, dtype=torch.bfloat16),
}


def same(path_or_tensors, tensors=TENSORS) -> bool:
    opened = open_checkpoint(path_or_tensors)
    return opened.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()} and all(
        torch.equal(opened.read(name), tensor) and opened.tensors[name].dtype == tensor.dtype
        for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_one_file_alone_or_in_a_folder(tmp_path, name, in_folder):
    """A file of tensors is read by its path or by its folder's, with all names and shapes."""
    write_checkpoint(TENSORS, tmp_path / "folder" / name)
    assert same(tmp_path / "folder" if in_folder else tmp_path / "folder" / name)


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model"])
def test_tensors_are_found_inside_a_training_checkpoint(tmp_path, key):
    """Beside optimizer and epoch, under the usual names, the tensors are found."""
    torch.save({"epoch": 3, "optimizer_state_dict": {"state": {}}, key: OrderedDict(TENSORS)}, tmp_path / "a.pt")
    assert same(tmp_path / "a.pt")


def test_an_old_pickle_file_is_read_too(tmp_path):
    """Files from before torch 1.6 cannot be mapped into memory, and are read all the same."""
    torch.save(TENSORS, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(tmp_path / "a.pt")


WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@given(
    st.lists(st.sampled_from(WRAPPERS), max_size=3),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(WRAPPERS[1:])), max_size=3),
)
def test_prefixes_of_wrappers_are_taken_off(front, inside):
    """In front any wrapper's segments, inside all but a plain `module`, vanish; nothing else does."""
    segments = ["lang_encoder", "module", "layers", "0", "weight"]
    wrapped = list(segments)
    for place, word in inside:
        wrapped.insert(place, word)
    assert plain_name(".".join([*front, *wrapped])) == ".".join(segments)


def test_two_names_that_are_one_without_prefixes_are_refused():
    """Nobody could say which of them counts."""
    with pytest.raises(CheckpointError, match=r"module\.a and a are both a without their prefixes"):
        open_checkpoint({"a": torch.zeros(1), "module.a": torch.ones(1)})


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_shards_are_opened_one_at_a_time(tmp_path, kind):
    """All names are known; while tensors are read in the order of the files, one file is open."""
    suffix, index = {"safetensors": (".safetensors", "model.safetensors.index.json"),
                     "pickle": (".bin", "pytorch_model.bin.index.json")}[kind]  # fmt: skip
    for number, (name, tensor) in enumerate(TENSORS.items()):
        part = {name: tensor}
        path = tmp_path / f"part-{number}{suffix}"
        save_file(part, path) if kind == "safetensors" else torch.save(part, path)
    places = {name: f"part-{number}{suffix}" for number, name in enumerate(TENSORS)}
    (tmp_path / index).write_text(json.dumps({"weight_map": places}))
    assert same(tmp_path)
    opened = open_checkpoint(tmp_path)
    assert opened._open is None
    for name in TENSORS:
        opened.read(name)
        assert opened._open[0] == opened.tensors[name].shard


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_file_is_said(tmp_path, suffix, keep):
    """A file that ends too early, or holds nothing, is an error of one line that names it."""
    path = tmp_path / f"a{suffix}"
    write_checkpoint(TENSORS, path)
    path.write_bytes(path.read_bytes()[: keep if keep >= 0 else path.stat().st_size + keep])
    wrong = "empty" if keep == 0 else "cut off: it ends before its tensors do"
    with pytest.raises(CheckpointError, match=rf"a\{suffix} is {wrong}(\n|$)"):
        open_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
def test_a_file_of_another_kind_is_said(tmp_path, suffix):
    """A text under the name of a checkpoint is called what it is not, without the words of a library."""
    path = tmp_path / f"a{suffix}"
    path.write_text("import torch\nfrom einops import rearrange\n")
    with pytest.raises(CheckpointError, match=rf"a\{suffix} is no pickle, zip or safetensors file(\n|$)"):
        open_checkpoint(path)


def test_a_pickle_of_before_torch_1_6_that_is_cut_off(tmp_path):
    """Cut in its words or in its numbers, it is said to be cut off."""
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for keep in (40, len(content) - 50):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match=r"a\.pt is cut off"):
            open_checkpoint(path)


class Evil:
    """Pickles as a call of any function."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_file_runs_nothing(tmp_path):
    """A pickle that would call a function when it is loaded is refused."""
    torch.save({"a": Evil()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt holds an object of \S*exec beside or in place of tensors"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_that_is_not_read_is_named(tmp_path, zipped):
    """Training scripts save their arguments beside the tensors: the class is in the error."""
    content = {"model_state_dict": TENSORS, "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"holds an object of argparse\.Namespace .* save the state dict alone"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no checkpoint"),
        ({"a.pt": TENSORS, "b.pt": TENSORS}, "2 checkpoints and no index: a.pt, b.pt"),
        ({"a.pt": {"a": 3}}, "'a' of the checkpoint is of type int"),
        ({"a.pt": [1]}, "holds an object of type list"),
        ({"a.pt": {}}, "holds no tensors"),
        ({"pytorch_model.bin.index.json": {}}, "no weight_map"),
        ({"pytorch_model.bin.index.json": {"weight_map": {"a": "gone.bin"}}}, "names the file 'gone.bin'"),
        ({"pytorch_model.bin.index.json": {"weight_map": {"a": 5}}}, "is damaged: it puts a into 5, wanted the name"),
        ({"pytorch_model.bin.index.json": {"weight_map": {"b": "a.bin", "a": None}}}, "it puts a into None, wanted"),
        ({"pytorch_model.bin.index.json": {"weight_map": ["a"]}}, "is damaged: no weight_map of names to files"),
        ({"training_args.bin": {}, "optimizer.pt": {}}, "holds no checkpoint"),
        ({"pytorch_model.bin.index.json": {"weight_map": {"a": "../a.bin"}}}, "names the file '../a.bin'"),
    ],
)
def test_folders_that_hold_no_checkpoint(tmp_path, files, message):
    """Nothing, several files without an index, other things than tensors, an index without its files."""
    for name, content in files.items():
        if name.endswith(".json"):
            (tmp_path / name).write_text(json.dumps(content))
        else:
            torch.save(content, tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


RUN = ["training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt", "scaler.pt",
       "rng_state.pth", "rng_state_0.pth"]  # fmt: skip


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "mine.pt", "model.safetensors", "mine.safetensors"])
@pytest.mark.parametrize("beside", [*RUN, "all"])
def test_what_a_training_run_leaves_is_no_second_checkpoint(tmp_path, name, beside):
    """Beside arguments, optimizer, schedule and random state the model is found, whatever its name."""
    write_checkpoint(TENSORS, tmp_path / name)
    for other in RUN if beside == "all" else [beside]:
        torch.save(argparse.Namespace(lr=1), tmp_path / other)
    assert same(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_the_name_of_a_whole_model_goes_first(tmp_path, name):
    """Of several files that one is read which transformers would read."""
    write_checkpoint(TENSORS, tmp_path / name)
    for other in ("adapter", "extra"):
        write_checkpoint({"a": torch.zeros(1)}, (tmp_path / other).with_suffix(tmp_path.joinpath(name).suffix))
    assert same(tmp_path)


def test_a_missing_path_is_said(tmp_path):
    """A path that is not there is named."""
    with pytest.raises(CheckpointError, match="there is no .*gone"):
        open_checkpoint(tmp_path / "gone")


def test_a_tensor_in_two_files_is_refused(tmp_path):
    """An index that hides one of two tensors of a name would load either."""
    for number in (0, 1):
        torch.save({"a": torch.zeros(1)}, tmp_path / f"{number}.bin")
    places = {"weight_map": {"a": "0.bin", "b": "1.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(places))
    with pytest.raises(CheckpointError, match="a is in two files"):
        open_checkpoint(tmp_path)


def test_nothing_is_written_over_and_nothing_half(tmp_path, monkeypatch):
    """What is there stays; what fails while it is written leaves nothing behind."""
    write_checkpoint(TENSORS, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="is there already"):
        write_checkpoint(TENSORS, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"ends in '\.txt'"):
        write_checkpoint(TENSORS, tmp_path / "a.txt")
    for name in ("b.safetensors", "b.pt", "b"):
        with pytest.raises(CheckpointError, match=r"a is not in memory \(offloaded, or on the meta device\)"):
            write_checkpoint({"a": torch.zeros(1, device="meta")}, tmp_path / "new" / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("No space left on device")])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, name, error):
    """Path and reason are said, and the folders that were made for it go away; those that were there stay."""
    import safetensors.torch

    def fail(content, path, *args, **options):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match=rf"newer/{name} cannot be written: No space left on device"):
        write_checkpoint(TENSORS, tmp_path / "there" / "new" / "newer" / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_place_that_cannot_be_is_said(tmp_path):
    """Below a file there are no folders."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/new/a\.pt cannot be written: Not a directory"):
        write_checkpoint(TENSORS, tmp_path / "file" / "new" / "a.pt")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("form", ["one file", "shards"])
def test_safetensors_go_before_pickles(tmp_path, form):
    """A folder that holds both, shards of pickles too, is read from its safetensors."""
    folder = tmp_path / "both"
    places = dict.fromkeys(TENSORS, "0.safetensors")
    sharded(folder, places, TENSORS)
    if form == "one file":
        (folder / "model.safetensors.index.json").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "part.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "part.bin"}}))
    assert same(folder)


def test_an_index_does_not_reach_outside_its_folder(tmp_path):
    """A shard beside the folder is not opened, though it is there."""
    (tmp_path / "folder").mkdir()
    torch.save({"a": torch.zeros(1)}, tmp_path / "outside.bin")
    places = {"weight_map": {"a": "../outside.bin"}}
    (tmp_path / "folder" / "pytorch_model.bin.index.json").write_text(json.dumps(places))
    with pytest.raises(CheckpointError, match="names the file '../outside.bin', which is not in the folder"):
        open_checkpoint(tmp_path / "folder")


def sharded(folder, places, *tensors):
    folder.mkdir()
    for number, part in enumerate(tensors):
        save_file(part, folder / f"{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_an_index_is_compared_with_its_files(tmp_path):
    """A tensor that the index promises and a file lacks, and one that a file holds and the index does not know."""
    places = {"a": "0.safetensors", "b": "1.safetensors"}
    one = torch.zeros(1)
    sharded(tmp_path / "lost", places, {"a": one}, {"c": one})
    with pytest.raises(CheckpointError, match=r"index.json says that b is in 1\.safetensors, which does not hold it"):
        open_checkpoint(tmp_path / "lost")
    sharded(tmp_path / "more", places, {"a": one}, {"b": one, "c": one.clone()})
    with pytest.raises(CheckpointError, match=r"1\.safetensors holds c, which .*index.json does not list"):
        open_checkpoint(tmp_path / "more")


def of_dtype(path, word, size=1):
    """A file of safetensors with one tensor of one number, of a dtype by that word."""
    header = json.dumps({"a": {"dtype": word, "shape": [1], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return path


def test_dtypes_of_quantised_checkpoints(tmp_path, monkeypatch):
    """Float8 is read as what it is; a dtype that is not known is said, with the tensor's name."""
    for word, dtype in {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}.items():
        opened = open_checkpoint(of_dtype(tmp_path / f"{word}.safetensors", word))
        assert opened.tensors["a"].dtype == opened.read("a").dtype == dtype
    known = {"F32": torch.float32}
    monkeypatch.setattr("flamingo_blocks.interop.checkpoint_files._DTYPES", known)
    with pytest.raises(CheckpointError, match=r"a in .*F8_E4M3\.safetensors is of dtype F8_E4M3, which is not read"):
        open_checkpoint(tmp_path / "F8_E4M3.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"index": ["../taken.json", "{}"]},
        {"index": ["/elsewhere/model.safetensors.index.json", "{}"]},
        {"index": ["config.json", "{}"]},
        {"shard": "../taken.safetensors"},
        {"shard": "/elsewhere/taken.bin"},
        {"shard": "..\\taken.bin"},
        {"shard": "script.py"},
        {"shard": ".."},
        {"dtype": "load"},
    ],
    ids=str,
)
def test_a_record_names_files_of_its_checkpoint_only(tmp_path, change):
    """`foreign.json` comes with a folder of someone else: it names no file elsewhere, nor one of another kind."""
    sharded(tmp_path / "theirs", {"a": "0.safetensors"}, {"a": torch.zeros(1)})
    opened = open_checkpoint(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    write_record(tmp_path / "ours", opened, family="otter", options={}, leave_out=(), kept=())
    path = tmp_path / "ours" / "foreign.json"
    assert read_record(tmp_path / "ours").like.index == opened.index
    record = json.loads(path.read_text())
    record |= {name: value for name, value in change.items() if name == "index"}
    record["tensors"]["a"] |= {name: value for name, value in change.items() if name != "index"}
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"foreign\.json is damaged"):
        read_record(tmp_path / "ours")


@pytest.mark.parametrize("name", ["../taken.safetensors", "script.py", "sub/part.bin"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    """Whatever an open checkpoint calls its shards and its index, files appear in the new folder or not at all."""
    facts = {"a": TensorFacts("a", (1,), torch.float32, name)}
    like = ForeignCheckpoint("x", facts, {})
    with pytest.raises(CheckpointError, match="a checkpoint has no file"):
        write_checkpoint({"a": torch.zeros(1)}, tmp_path / "out", like=like)
    facts = {"a": TensorFacts("a", (1,), torch.float32, "part.safetensors")}
    with pytest.raises(CheckpointError, match="a checkpoint has no file"):
        write_checkpoint(
            {"a": torch.zeros(1)}, tmp_path / "out", like=ForeignCheckpoint("x", facts, {}, index=(name, "{}"))
        )
    assert not list(tmp_path.iterdir())
