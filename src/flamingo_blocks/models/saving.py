"""A Flamingo on disk: what was trained, and the frozen parts or a reference to them."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks._version import __version__
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models.describe_module import build_module, describe_module, reading_part
from flamingo_blocks.models.training_modules import training_modules

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo

FORMAT_VERSION = 1
CONFIG, TRAINED, FROZEN = "flamingo_config.json", "model.safetensors", "frozen.safetensors"
# Plain arguments of `Flamingo`: what is saved of a model beside its parts.
ARGUMENTS = (
    "media_token_id", "end_token_id", "scope", "layers", "embedding", "head", "num_new_tokens", "predict_new_tokens",
    "document_end_id",
)  # fmt: skip
_FROZEN_PARTS = ("lm", "vision")
_KEYS = {"frozen", "arguments", "trained", "blocks", "resampler", "projection", "lm", "vision"}


def save_pretrained(
    self: "Flamingo", directory: str | os.PathLike[str], *, frozen: Literal["reference", "include"] = "reference"
) -> None:
    """Save the model.

    Args:
        directory: Made if it is missing. Each file is written beside its name and then renamed.
        frozen: `"reference"`: only what was trained, be it of tower or language model, with class, config and sha256
            of what is frozen of them; `"include"`: their frozen weights too.

    Raises:
        ValueError: If `frozen` is another word.
        MissingDependencyError: If safetensors is not installed.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.models import Flamingo, build_tiny_flamingo
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     build_tiny_flamingo().save_pretrained(directory, frozen="reference")
        ...     sorted(path.name for path in Path(directory).iterdir())
        ['flamingo_config.json', 'model.safetensors']
    """
    if frozen not in ("reference", "include"):
        raise ValueError(f'frozen is {frozen!r}, wanted "reference" or "include"')
    write_saved(self, Path(directory), frozen, *split_tensors(self))


def write_saved(
    model: "Flamingo", folder: Path, frozen: str, own: dict[str, Tensor], others: dict[str, Tensor]
) -> None:
    """Write what `split_tensors` gave, or the same gathered from shards, as `save_pretrained` does.

    Args:
        model: Whose tensors they are.
        folder: As in `save_pretrained`.
        frozen: As in `save_pretrained`.
        own: What is ours or was trained.
        others: The rest.
    """
    safetensors = require("safetensors.torch", used_by="Flamingo.save_pretrained", extra="hf")
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(model, frozen, others)
    _replace(folder / TRAINED, lambda path: safetensors.save_file(own, path))
    if frozen == "include":
        _replace(folder / FROZEN, lambda path: safetensors.save_file(others, path))
    elif (folder / FROZEN).exists():
        (folder / FROZEN).unlink()  # an older save of another kind must not be taken for this one's
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    _replace(folder / CONFIG, lambda path: path.write_text(text))


def from_pretrained(
    cls: type["Flamingo"],
    directory: str | os.PathLike[str],
    *,
    lm: nn.Module | None = None,
    vision: nn.Module | None = None,
    resampler: nn.Module | None = None,
    projection: nn.Module | None = None,
    blocks: Mapping[int, nn.Module] | None = None,
) -> "Flamingo":
    """Load a model that `save_pretrained` wrote.

    Args:
        directory: Where it is.
        lm: The language model; needed when its frozen weights were not included, and then compared by sha256. When they
            were, the saved ones are loaded into it. With adapters of PEFT, if the saved one had such.
        vision: The tower, likewise; a `CallableTower` has to be passed in any case.
        resampler: One of your own that cannot be built from plain values; its weights are loaded.
        projection: Likewise.
        blocks: Likewise, all of them by layer index.

    Returns:
        The model in eval mode, with the same logits bit for bit.

    Raises:
        CheckpointError: If a file is missing or of another format version, a frozen part is needed or is not the one
            that was saved, or names or shapes of tensors differ.
        MissingDependencyError: If safetensors is not installed.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.models import Flamingo, build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, 5, 6]])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     flamingo.save_pretrained(directory, frozen="include")
        ...     loaded = Flamingo.from_pretrained(directory, vision=flamingo.vision)  # a `CallableTower` is passed in
        >>> torch.equal(loaded(ids).logits, flamingo.eval()(ids).logits)
        True
    """
    safetensors = require("safetensors.torch", used_by="Flamingo.from_pretrained", extra="hf")
    folder = Path(directory)
    config = read_config(folder)
    if lm is None:
        lm = _frozen_part(config, "lm")
    if vision is None and config["vision"] is not None:
        vision = _frozen_part(config, "vision")
    if resampler is None and config["resampler"] is not None:
        resampler = build_module(config["resampler"], argument="resampler")
    if projection is None and config["projection"] is not None:
        projection = build_module(config["projection"], argument="projection")
    if blocks is None:
        blocks = {int(index): build_module(block, argument="blocks") for index, block in config["blocks"].items()}
    flags = [
        (weight, weight.requires_grad) for part in (lm, vision) if part is not None for weight in part.parameters()
    ]
    modes = [(module, module.training) for part in (lm, vision) if part is not None for module in part.modules()]
    with reading_part("the model of these parts"):
        model = cls(
            lm=lm, vision=vision, resampler=resampler, projection=projection, blocks=blocks, **config["arguments"]  # type: ignore[arg-type]
        )  # fmt: skip
    try:
        _load(model, _all_tensors(safetensors, folder, config, model), config)
    except Exception:  # give the parts back as they came, to be used with another folder
        model.detach()
        for weight, flag in flags:
            weight.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode
        raise
    return model.eval()


def _all_tensors(safetensors: Any, folder: Path, config: dict[str, Any], model: "Flamingo") -> dict[str, Tensor]:
    """What the files hold, and the frozen weights that are there already where the files only refer to them."""
    tensors = _read_tensors(safetensors, folder / TRAINED)
    if config["frozen"] == "include":
        return tensors | _read_tensors(safetensors, folder / FROZEN)
    _, others = split_tensors(model)
    there = {name: tensor for name, tensor in others.items() if name not in tensors}
    _compare_hashes(config, there)
    return tensors | there


def split_tensors(model: "Flamingo") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors that are ours or were trained, buffers with them, and those of frozen parts; tied ones stand once."""
    own: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    known, training = set(), training_modules(model)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        trains = tensor.requires_grad or (not isinstance(tensor, nn.Parameter) and name.rpartition(".")[0] in training)
        frozen = name.partition(".")[0] in _FROZEN_PARTS and not trains
        (others if frozen else own)[name] = tensor.detach().contiguous()
    return own, others


def _config(model: "Flamingo", frozen: str, others: dict[str, Tensor]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "flamingo_blocks": __version__,
        "frozen": frozen,
        "arguments": {name: getattr(model, name) for name in ARGUMENTS},
        "trained": sorted(model.trained_parameters()),
        "blocks": {index: describe_module(block) for index, block in model.blocks.items()},
    }
    for name in ("resampler", "projection", "lm", "vision"):
        module = getattr(model, name)
        config[name] = None if module is None else describe_module(module)
    for name in _FROZEN_PARTS:
        if config[name] is not None:
            config[name]["sha256"] = _sha256(_of_part(others, name))
    return config


def _sha256(tensors: dict[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _of_part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] == part}


def _compare_hashes(config: dict[str, Any], others: dict[str, Tensor]) -> None:
    for name in _FROZEN_PARTS:
        if config[name] is None:
            continue
        found, wanted = _sha256(_of_part(others, name)), config[name]["sha256"]
        if found != wanted:
            raise CheckpointError(
                f"{name} is not the one this model was trained with: sha256 of its weights is {found[:16]}..., "
                f"saved was {wanted[:16]}... ({config[name]['class']}); pass the same weights as {name}="
                f"{_about_adapters(config)}"
            )


def _about_adapters(config: dict[str, Any]) -> str:
    """What to do about adapters that a saved model had; nothing where it had none."""
    if not any(word.startswith("lora_") for name in config["trained"] for word in name.split(".")):
        return ""
    return "; it had adapters: put such into the language model by PEFT, and pass that as lm="


def _frozen_part(config: dict[str, Any], name: str) -> nn.Module:
    if config["frozen"] != "include" and config[name]["sha256"] != _sha256({}):  # of nothing, where all of it trained
        raise CheckpointError(
            f"the weights of {config[name]['class']} were not saved (frozen='reference'); load them and pass {name}="
        )
    return build_module(config[name], argument=name)


def read_config(folder: Path) -> dict[str, Any]:
    """The config that `save_pretrained` wrote into a folder.

    Raises:
        CheckpointError: If it is missing, damaged, or of another format version.
    """
    path = folder / CONFIG
    if not path.is_file():
        hint = ""
        if is_of_transformers(folder):
            hint = (
                "; this one is in transformers' form: import flamingo_blocks.hf, then "
                "AutoModelForImageTextToText.from_pretrained(folder), whose .flamingo is the model"
            )
        raise CheckpointError(f"{path} is missing; wanted a folder written by Flamingo.save_pretrained{hint}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:  # no text, or no JSON
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: it holds a {type(config).__name__}, wanted a mapping")
    if "format_version" not in config:
        raise CheckpointError(f"{path} is damaged: it lacks ['format_version'], which each save has")
    if config["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {config['format_version']!r}, this library reads {FORMAT_VERSION}; "
            f"it was written by flamingo_blocks {config.get('flamingo_blocks')}"
        )
    if missing := _KEYS - config.keys():
        raise CheckpointError(f"{path} is damaged: it lacks {sorted(missing)}")
    _check_kinds(path, config)
    return config


def is_of_transformers(folder: Path) -> bool:
    """Whether `FlamingoForConditionalGeneration.save_pretrained` wrote a folder.

    Args:
        folder: The folder, or a path that is none.
    """
    try:
        values = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):  # none, no text, or no JSON
        return False
    return isinstance(values, dict) and values.get("model_type") == "flamingo_blocks"


def _check_kinds(path: Path, config: dict[str, Any]) -> None:
    """Whether the values are of the kinds that are read: mappings of names, and a class for each part."""
    for name, kind in (("arguments", dict), ("blocks", dict), ("trained", list)):
        if not isinstance(config[name], kind):
            raise CheckpointError(f"{path} is damaged: {name} is {config[name]!r}, wanted a {kind.__name__}")
    if unknown := config["arguments"].keys() - set(ARGUMENTS):
        raise CheckpointError(f"{path} is damaged: arguments has {sorted(unknown)}, wanted of {ARGUMENTS}")
    if wrong := [index for index in config["blocks"] if not index.isdecimal()]:
        raise CheckpointError(f"{path} is damaged: blocks has {wrong}, wanted indices of layers")
    parts = {f"block {index}": block for index, block in config["blocks"].items()}
    parts |= {name: config[name] for name in ("resampler", "projection", "vision") if config[name] is not None}
    for name, part in {**parts, "lm": config["lm"]}.items():
        wanted = ("class", "sha256") if name in _FROZEN_PARTS else ("class",)
        if not isinstance(part, dict) or not all(isinstance(part.get(key), str) for key in wanted):
            raise CheckpointError(f"{path} is damaged: {name} is {part!r}, wanted {' and '.join(wanted)} in it")


def _read_tensors(safetensors: Any, path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the folder was not saved to its end, or a file was lost")
    try:
        tensors: dict[str, Tensor] = safetensors.load_file(path)
    except Exception as error:  # safetensors raises classes of its own, and OSError
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return tensors


def _load(model: "Flamingo", tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Copy every tensor, in the dtype that was saved; nothing may be left on either side."""
    own, others = split_tensors(model)
    state = model.state_dict(keep_vars=True)
    places = {name: state[name] for name in (*own, *others)}
    missing, unknown = sorted(places.keys() - tensors.keys()), sorted(tensors.keys() - places.keys())
    if missing or unknown:
        raise CheckpointError(
            f"saved tensors and model differ: missing {missing[:5]}, unknown {unknown[:5]}{_about_adapters(config)}"
        )
    for name, tensor in tensors.items():  # all of them before the first is written
        place = places[name]
        if place.shape != tensor.shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensor.shape)} in the file, {tuple(place.shape)} in the model"
            )
    for name, tensor in tensors.items():
        place = places[name]
        if place.data_ptr() != tensor.data_ptr():
            place.data = tensor.to(place.device).clone()
    trained = set(config["trained"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    model.train(model.training)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its name, then rename it, so that no reader meets half of one.

    It gets the mode of any new file: safetensors writes for its owner alone, and folders are shared.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        beside.touch()
        mode = beside.stat().st_mode
        write(beside)
        beside.chmod(mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
