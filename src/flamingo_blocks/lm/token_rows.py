"""Trained rows for new tokens, beside a frozen embedding table and head that keep their size."""

import threading
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.ops._host_reads import on_host


def attach_token_rows(
    lm: nn.Module,
    num_tokens: int,
    *,
    embedding: str | None = None,
    head: str | None = None,
    init: Float[Tensor, "tokens dim"] | None = None,
    predicted: bool = True,
) -> "TokenRows":
    """Give a language model new tokens without resizing its table or head.

    The new ids follow the table: `vocab`, `vocab + 1`, ... Their rows are parameters of their own, so that they train
    while the table stays frozen, and logits grow by as many columns. Nothing of the model is changed; hooks look up and
    append.

    Args:
        lm: Any decoder language model.
        num_tokens: How many new tokens.
        embedding: Dotted name of the token embedding; asked from the model, or found, by default.
        head: Dotted name of the output projection, likewise.
        init: First values of the input rows; the mean of the table by default.
        predicted: Whether the head gets rows too. Without, the model reads the new tokens and never writes them, and
            its logits keep their number (Llama 3.2 Vision's image token).

    Returns:
        The rows, a module to be trained and saved beside the blocks.

    Raises:
        ValueError: If embedding or head cannot be found, their sizes differ, rows are attached already, or `init` has
            another shape.

    Example:
        >>> lm = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
        >>> rows = attach_token_rows(lm, 2)
        >>> lm(torch.tensor([[9, 10, 11]])).shape
        torch.Size([1, 3, 12])

    Source:
        Flamingo (arXiv 2204.14198), first version, section 3.2.1: `<EOC>` is a new entry whose embedding is learnt.
    """
    if num_tokens < 1:
        raise ValueError(f"num_tokens is {num_tokens}, wanted 1 or more")
    table, output = find_pair(lm, embedding, head)
    if any(isinstance(hook, _LookUp) for hook in table._forward_hooks.values()):
        raise ValueError("the embedding has token rows already; call detach() on them first")
    rows = TokenRows(table.weight, output.weight if predicted else None, num_tokens)
    if init is not None:
        if init.shape != rows.input.shape:
            raise ShapeError(
                f"init has shape {tuple(init.shape)}, wanted {tuple(rows.input.shape)}: a row as wide as the embedding "
                "for each new token"
            )
        with torch.no_grad():
            rows.input.copy_(init)
    clamp = _Clamp(rows)
    rows._handles = [
        table.register_forward_pre_hook(clamp, with_kwargs=True),
        table.register_forward_hook(_LookUp(rows, clamp), with_kwargs=True),
    ]
    if predicted:
        rows._handles.append(output.register_forward_hook(_Append(rows), with_kwargs=True))
    return rows


class TokenRows(nn.Module):
    """Rows for new tokens; made by `attach_token_rows`.

    Args:
        table: The embedding table.
        head: The weight of the output projection; the same tensor as `table` when the model ties them, and then one
            parameter serves both here too. `None` for tokens that are never predicted.
        num_tokens: How many new tokens.

    Example:
        >>> table = torch.randn(10, 4)
        >>> TokenRows(table, table, 2).token_ids
        [10, 11]
    """

    def __init__(
        self,
        table: Float[Tensor, "vocab dim"],
        head: Float[Tensor, "vocab dim"] | None,
        num_tokens: int,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens = table.shape[0], num_tokens
        self.input = nn.Parameter(_mean_rows(table, num_tokens))
        self.output: nn.Parameter | None = self.input if head is table else None
        if head is not None and head is not table:
            self.output = nn.Parameter(_mean_rows(head, num_tokens))
        self._handles: list[Any] = []

    @property
    def num_predicted(self) -> int:
        """How many columns the logits grow by."""
        return 0 if self.output is None else self.num_tokens

    @property
    def token_ids(self) -> list[int]:
        """Ids of the new tokens."""
        return list(range(self.vocab_size, self.vocab_size + self.num_tokens))

    def embed(
        self, ids: Int[Tensor, "*lead"], known: Float[Tensor, "*lead dim"], *, scale: float | Tensor = 1.0
    ) -> Float[Tensor, "*lead dim"]:
        """Replace the embeddings of new ids by their rows, times the factor of the model's own embedding (Gemma)."""
        is_new = ids >= self.vocab_size
        rows = F.embedding((ids - self.vocab_size).clamp(min=0), self.input) * scale
        return torch.where(is_new[..., None], rows.to(known.dtype), known)

    def logits(self, hidden: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead tokens"]:
        """Logits of the new tokens, if they are predicted."""
        if self.output is None:
            return hidden[..., :0]
        return F.linear(hidden, self.output.to(hidden.dtype))

    def detach(self) -> None:
        """Take the rows off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Given(threading.local):
    """The ids of a look-up that goes on; several threads may run one model at once."""

    ids: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Given, ()  # a copy of a model is in no look-up


class _Clamp:
    """Shows the table only ids that it has, and keeps the others for the look-up that follows at once."""

    def __init__(self, rows: TokenRows) -> None:
        self.rows = rows
        self.given = _Given()

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = _entering(args, kwargs)
        self._check(ids)
        self.given.ids = ids
        known = ids.masked_fill(ids >= self.rows.vocab_size, 0)
        return ((known, *args[1:]), kwargs) if args else (args, {**kwargs, "input": known})

    def _check(self, ids: Tensor) -> None:
        """The table can no longer tell an id that does not exist; on the CPU, where it would have, this does."""
        if ids.device.type == "cpu" and not torch.compiler.is_compiling() and ids.numel():
            limit, (least, largest) = self.rows.vocab_size + self.rows.num_tokens, (on_host(torch.stack(ids.aminmax())))
            if least < 0 or largest >= limit:
                raise IndexError(
                    f"token id {least if least < 0 else largest} is out of range: the model knows ids 0 to {limit - 1}"
                )


class _LookUp:
    def __init__(self, rows: TokenRows, clamp: _Clamp) -> None:
        self.rows, self.clamp = rows, clamp

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        ids, self.clamp.given.ids = self.clamp.given.ids, None
        assert ids is not None
        return self.rows.embed(ids, output, scale=getattr(module, "embed_scale", 1.0))


class _Append:
    def __init__(self, rows: TokenRows) -> None:
        self.rows = rows

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        return torch.cat([output, self.rows.logits(_entering(args, kwargs))], dim=-1)


def _entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What enters an embedding or a linear layer: its only argument, which both call `input`."""
    entering: Tensor = args[0] if args else kwargs["input"]
    return entering


def _mean_rows(table: Tensor, num_tokens: int) -> Tensor:
    table = table.detach()
    if type(table) is not Tensor and not hasattr(table, "device_mesh"):
        table = table.dequantize()  # torchao's tensors know products, and no mean
    wide = table.to(torch.promote_types(table.dtype, torch.float32))  # rows train in float32 at least
    return wide.mean(0, keepdim=True).repeat(num_tokens, 1)


def find_head(
    lm: nn.Module, embedding: str | None = None, head: str | None = None
) -> tuple[str, nn.Module] | tuple[None, None]:
    """The output projection of a model, as `attach_token_rows` finds it, and where it was found.

    Args:
        lm: Any decoder language model.
        embedding: Dotted name of the token embedding, which tells heads of the same size.
        head: Dotted name of the output projection.

    Returns:
        The name of the module, or of the getter that gave it, and the module; `None` twice where it cannot be told.

    Example:
        >>> find_head(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)))
        ('1', Linear(in_features=4, out_features=10, bias=False))
    """
    try:
        heads = _candidates(lm, head, "head", "get_output_embeddings", nn.Linear)
        found = next(iter(heads.values())) if len(heads) == 1 else find_pair(lm, embedding, head)[1]
    except ValueError:
        return None, None
    return next((name, module) for name, module in heads.items() if module is found)


def find_pair(lm: nn.Module, embedding: str | None, head: str | None) -> tuple[Any, Any]:
    """The token embedding and the head: named, or given by the model, or the only two with as many rows."""
    tables = _candidates(lm, embedding, "embedding", "get_input_embeddings", nn.Embedding)
    heads = _candidates(lm, head, "head", "get_output_embeddings", nn.Linear)
    pairs = [(t, h) for t in tables for h in heads if len(tables[t].weight) == len(heads[h].weight)]
    if len(pairs) == 1:
        return tables[pairs[0][0]], heads[pairs[0][1]]
    if len(tables) == len(heads) == 1:
        (table,), (output,) = tables.values(), heads.values()
        raise ShapeError(
            f"the head has {len(output.weight)} rows, the embedding {len(table.weight)}; new ids need both alike"
        )
    # Positions are embeddings too, and any layer may be as wide as the vocabulary: only the caller can tell then.
    found = {"embedding": tables, "head": heads}
    if pairs:
        found = {"embedding": {t: tables[t] for t, _ in pairs}, "head": {h: heads[h] for _, h in pairs}}
    argument = next(name for name, modules in found.items() if len(modules) != 1)
    raise ValueError(
        f"{type(lm).__name__} has {len(found[argument])} modules that could be its {argument}: "
        f"{list(found[argument])}; pass {argument}="
    )


def _candidates(lm: nn.Module, name: str | None, argument: str, getter: str, kind: type[nn.Module]) -> dict[str, Any]:
    """A named module, or the one the model gives, or all of its kind."""
    if name is not None:
        try:
            return {name: lm.get_submodule(name)}
        except AttributeError:
            raise ValueError(f"{argument}={name!r} names no module of {type(lm).__name__}") from None
    if callable(get := getattr(lm, getter, None)) and (module := get()) is not None:
        return {getter: module}
    return {path: module for path, module in lm.named_modules() if isinstance(module, kind)}
