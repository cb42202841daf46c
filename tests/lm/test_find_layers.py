"""Finding the decoder layers, or saying which lists could be meant."""

import pytest
import torch
from torch import nn

from flamingo_blocks.errors import LayersNotFoundError
from flamingo_blocks.lm import find_decoder_layers
from tests.language_models import LAYER_LISTS, LAYERS, NAMES, PlainDecoder, make_language_model


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_of_each_model_are_found_by_themselves(name):
    """The list of decoder layers, and the module whose call runs them."""
    lm = make_language_model(name)
    found = find_decoder_layers(lm)
    assert found.name == LAYER_LISTS[name]
    assert len(found.layers) == LAYERS[name]
    assert found.decoder is (lm if name == "plain" else lm.get_submodule(LAYER_LISTS[name].rpartition(".")[0]))


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_can_be_named(name):
    """`layers=` finds what is found without it."""
    lm = make_language_model(name)
    assert find_decoder_layers(lm, LAYER_LISTS[name]) == find_decoder_layers(lm)


class TwoStacks(nn.Module):
    """An encoder beside a decoder: nothing tells which one is meant."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = PlainDecoder(), PlainDecoder()


def test_several_lists_are_an_error_that_names_each():
    """The message gives what to pass as `layers=`, and that then works."""
    model = TwoStacks()
    with pytest.raises(LayersNotFoundError, match="2 lists of modules in TwoStacks") as caught:
        find_decoder_layers(model)
    assert "'encoder.layers' (2 layers), 'decoder.layers' (2 layers)" in str(caught.value)
    assert find_decoder_layers(model, "decoder.layers").decoder is model.decoder


def test_a_model_without_layers_is_an_error():
    """A single layer is not a decoder."""
    with pytest.raises(LayersNotFoundError, match="no nn.ModuleList in Linear .*: none was found"):
        find_decoder_layers(nn.Linear(2, 2))


@pytest.mark.parametrize("layers", ["model.layer", "head", "layers.0"])
def test_a_name_of_no_list_is_an_error_that_names_the_lists(layers):
    """A misspelt name, or one of a module that holds no layers, is told beside the right one."""
    with pytest.raises(
        LayersNotFoundError, match=f"layers='{layers}' names no list .* lists found: 'layers' \\(2 layers\\)"
    ):
        find_decoder_layers(PlainDecoder(), layers)


def test_lists_inside_layers_are_no_candidates():
    """Experts, heads and the like stand inside a layer, so the outermost list is meant."""
    model = PlainDecoder()
    for layer in model.layers:
        layer.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    assert find_decoder_layers(model).name == "layers"


def test_the_number_of_layers_in_the_config_tells_lists_apart():
    """Where a config says how many layers there are, lists of another length are not meant."""
    lm = make_language_model("llama")
    lm.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
    assert find_decoder_layers(lm).name == "model.layers"
    lm.adapters = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    with pytest.raises(LayersNotFoundError, match="with 2 layers, as its config says"):
        find_decoder_layers(lm)


def test_layers_in_containers_belong_to_the_module_that_is_called():
    """A `ModuleDict` around the list is never called; the module around that is."""
    model = nn.Module()
    model.body = nn.ModuleDict({"stack": nn.ModuleList([nn.Linear(2, 2)])})
    found = find_decoder_layers(model)
    assert found.name == "body.stack" and found.decoder is model


def test_a_sequence_of_layers_can_be_named():
    """`nn.Sequential` is a list of layers too, but only on request: every feed-forward layer is one."""
    model = nn.Module()
    model.stack = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert len(find_decoder_layers(model, "stack").layers) == 2
    with pytest.raises(LayersNotFoundError, match=r"with the name of an nn.Sequential: 'stack' \(2 layers\)"):
        find_decoder_layers(model)


def test_nothing_is_computed_on_the_meta_device():
    """A model without storage is searched like any other."""
    with torch.device("meta"):
        assert find_decoder_layers(PlainDecoder()).name == "layers"
