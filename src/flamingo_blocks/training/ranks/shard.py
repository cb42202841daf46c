"""Spread a model over many processes: what trains is sharded, what is frozen is whole on each or sharded as well."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import distributed, nn

from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.training.ranks.check_shardable import (
    check_groups,
    check_setting,
    check_word,
    fully_shard_of_torch,
)

Model = TypeVar("Model", bound=nn.Module)

_METHODS = ("encode_media", "prefill", "generate", "score", "look_at_language_model")
_WITHOUT_GRADIENTS = ("generate", "score", "look_at_language_model")


def shard(
    model: Model,
    mesh: Any | None = None,
    *,
    frozen: Literal["replicate", "shard"] = "replicate",
    hybrid: bool = False,
    mixed_precision: bool = True,
    reshard_after_forward: bool = True,
) -> Model:
    """Shard a model over the ranks by FSDP2, in place; everything that ran before runs as before.

    Call it in every process, on a model that is on its device, after `prepare_precision`, `checkpoint_activations` and
    `compile_regions`, and before the optimiser is made: torch puts new parameters in the place of the old ones, and an
    optimiser that holds the old ones would train nothing. All ranks start from the trained weights of the first.

    Each gated block, the resampler and each layer of the language model that has something to shard is gathered by
    itself; token rows, projection and all others are gathered together for the whole step. All ranks must make the same
    calls in the same order. A batch without media is such a call: it runs resampler and blocks on nothing.

    Args:
        model: A `Flamingo`, or any module in which blocks and resampler are found by their types.
        mesh: A `DeviceMesh` of one axis, or of two: replicas, and ranks that share one (HSDP). All ranks by default.
        frozen: `"replicate"`: frozen weights are whole on each rank, the fastest where they fit; `"shard"`: those of
            the language model are sharded too. The tower's are whole in any case.
        hybrid: Without a mesh: shard within each machine, as torchrun tells them apart, and replicate over machines.
        mixed_precision: Compute what trains in bfloat16, and reduce its gradients in float32. Weights, gradients and
            the optimiser's state are float32.
        reshard_after_forward: Gather weights again for the backward pass; `False` keeps them, for speed.

    Returns:
        The same model.

    Raises:
        RuntimeError: If there is no process group, or torch is built without FSDP2.
        ValueError: If the model is sharded already, trains nothing, or has parameters that cannot be sharded so: of
            several dtypes, without an axis, quantised, or shared by two groups.

    Example:
        >>> shard(nn.Linear(2, 1))
        Traceback (most recent call last):
        RuntimeError: shard needs the process group of torch: start the script by torchrun, and call torch.distributed.init_process_group() in it first

    Source:
        Zhao et al., PyTorch FSDP (arXiv 2304.11277). Flamingo (arXiv 2204.14198, appendix B.1.2) splits each layer over
        16 devices and shards the optimiser's state alone; its vision tower is whole on each, as here.
    """  # noqa: E501
    check_word(frozen, ("replicate", "shard"))
    fully_shard = fully_shard_of_torch()
    check_setting(model)
    modules = dict(_modules(model))
    whole = _kept_whole(model, all_frozen=frozen == "replicate")
    groups = _parameters_of(model, modules, whole)
    check_groups(groups, mixed_precision=mixed_precision)
    mesh = _make_mesh(model, hybrid=hybrid) if mesh is None else _checked(mesh, hybrid=hybrid)
    _start_alike(model, mesh)
    for name, module in reversed(modules.items()):  # what is inside of another first
        if groups[name]:
            fully_shard(
                module, mesh=mesh, ignored_params=whole, reshard_after_forward=reshard_after_forward,
                mp_policy=_policy(groups[name], mixed_precision=mixed_precision),
            )  # fmt: skip
    # The outermost is not resharded after its forward pass: the loss made there is no place to gather it from.
    fully_shard(model, mesh=mesh, ignored_params=whole, mp_policy=_policy(groups[""], mixed_precision=mixed_precision))
    _hook(model, modules.values())
    return model


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What is gathered by itself, by name: blocks, resampler and the layers of the language model."""
    flamingo = model if isinstance(model, Flamingo) else None
    blocks = [] if flamingo is None else list(flamingo.blocks.values())
    layers = [] if flamingo is None else list(find_decoder_layers(flamingo.lm, flamingo.layers).layers)
    for name, module in model.named_modules():
        ours = isinstance(module, GatedCrossAttentionBlock | PerceiverResampler)
        if module is not model and (ours or any(module is other for other in (*blocks, *layers))):
            yield name, module


def _kept_whole(model: nn.Module, *, all_frozen: bool) -> set[nn.Parameter]:
    """Frozen parameters that stay as they are: a tower is small beside a language model, and runs where images are."""
    tower = getattr(model, "vision", None)
    in_tower = set(tower.parameters()) if isinstance(tower, nn.Module) else set()
    frozen = (parameter for parameter in model.parameters() if not parameter.requires_grad)
    return {parameter for parameter in frozen if all_frozen or parameter.ndim == 0 or parameter in in_tower}


def _parameters_of(
    model: nn.Module, modules: dict[str, nn.Module], whole: set[nn.Parameter]
) -> dict[str, dict[str, nn.Parameter]]:
    """The parameters of each group by name; what no module gathers is the outermost's, under the name `""`."""
    groups: dict[str, dict[str, nn.Parameter]] = {name: {} for name in (*modules, "")}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter not in whole:
            around = [group for group in modules if name.startswith(group + ".")]
            groups[max(around, key=len, default="")][name] = parameter
    return groups


def _policy(parameters: dict[str, nn.Parameter], *, mixed_precision: bool) -> Any:
    """Blocks take text in its own dtype and give it back so, and frozen weights compute in theirs: nothing is cast."""
    from torch.distributed.fsdp import MixedPrecisionPolicy  # noqa: PLC0415 - builds without distributed lack it

    if mixed_precision and any(parameter.requires_grad for parameter in parameters.values()):
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    return MixedPrecisionPolicy(cast_forward_inputs=False)


def _checked(mesh: Any, *, hybrid: bool) -> Any:
    if hybrid:
        raise ValueError("hybrid is True beside a mesh; a mesh of two axes says it: replicas, and ranks that share one")
    if mesh.ndim not in (1, 2) or (mesh.ndim == 2 and not mesh.mesh_dim_names):
        raise ValueError(
            f"mesh has {mesh.ndim} axes named {mesh.mesh_dim_names}, wanted one, or two with names: "
            'init_device_mesh(device, (replicas, ranks), mesh_dim_names=("replicate", "shard"))'
        )
    if mesh.size() != distributed.get_world_size():
        raise ValueError(
            f"mesh has {mesh.size()} ranks, wanted all {distributed.get_world_size()} of the process group"
        )
    return mesh


def _make_mesh(model: nn.Module, *, hybrid: bool) -> Any:
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - as above

    device, ranks = next(model.parameters()).device.type, distributed.get_world_size()
    if not hybrid:
        return init_device_mesh(device, (ranks,), mesh_dim_names=("shard",))
    told = os.environ.get("LOCAL_WORLD_SIZE")
    if told is None or not told.isdecimal() or not int(told) or ranks % int(told):
        raise ValueError(
            f"hybrid is True, but LOCAL_WORLD_SIZE is {told} of {ranks} ranks; wanted a divisor of them, the processes "
            "of one machine, which torchrun sets. Else pass a mesh of two axes"
        )
    return init_device_mesh(device, (ranks // int(told), int(told)), mesh_dim_names=("replicate", "shard"))


def _start_alike(model: nn.Module, mesh: Any) -> None:
    """Give all ranks the trained weights of the first: shards of models that were drawn differently are no model."""
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.is_meta:
            for axis in range(mesh.ndim):
                distributed.broadcast(parameter.data, group=mesh.get_group(axis), group_src=0)


def _hook(model: nn.Module, modules: Any) -> None:
    """Make all ways into the model gather its weights, and put our hooks in front of FSDP's."""
    from torch.distributed.fsdp import register_fsdp_forward_method  # noqa: PLC0415 - as above

    for module in modules:
        if hasattr(module, "project_media"):
            register_fsdp_forward_method(module, "project_media")
        for part in module.modules():
            # By this mark of FSDP's the compiler takes sizes that modules hold for unknown ones; without, it compiles
            # what runs between FSDP's hooks as it does in one process.
            vars(part).pop("_is_fsdp_managed_module", None)
    model.register_forward_hook(_after_forward, always_call=True)
    if isinstance(model, Flamingo):
        for name in _METHODS:
            register_fsdp_forward_method(model, name)
            setattr(model, name, _let_go_after(model, getattr(model, name), always=name in _WITHOUT_GRADIENTS))
        # A block before the layer's weights are gathered, so that less is gathered at once.
        model.attachment.move_to_front()


def _let_go_after(model: nn.Module, method: Callable[..., Any], *, always: bool) -> Callable[..., Any]:
    """A method after which nothing is left gathered, unless a backward pass is to come."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            result = method(*args, **kwargs)
        except Exception:
            _start_anew(model)
            raise
        if always or not torch.is_grad_enabled():
            _let_go(model)
        return result

    return run


def _after_forward(model: nn.Module, _: tuple[Any, ...], output: Any) -> None:
    if output is None:  # it raised
        _start_anew(model)
    elif not torch.is_grad_enabled():
        _let_go(model)


def _let_go(model: nn.Module) -> None:
    """Keep nothing gathered: the optimiser would step beside such weights, and the next call would find them."""
    modules: Iterator[Any] = model.modules()
    for module in modules:
        if hasattr(module, "set_requires_gradient_sync"):
            module.reshard()


def _start_anew(model: Any) -> None:
    """Forget a call that raised, where torch can: the next one finds the model as it was."""
    if hasattr(model, "reset_iter_state"):
        model.reset_iter_state()
