"""What the attention says about what it cannot compute with."""

import pytest
import torch

from flamingo_blocks import MediaLayout
from flamingo_blocks.ops import available_backends, media_attention

pytestmark = pytest.mark.usefixtures("without_shape_checks")
LAYOUT = MediaLayout.from_tokens(torch.tensor([[True, False]]))


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"dtype": "float32"}, TypeError, "dtype is 'float32', wanted a dtype of torch, such as torch.float32"),
        ({"dtype": torch.int64}, ValueError, "dtype is torch.int64, wanted one of floats"),
        ({"num_heads": 8, "num_kv_heads": 3}, ValueError, "num_kv_heads is 3, wanted a divisor of num_heads 8"),
        ({"num_kv_heads": 0}, ValueError, "num_kv_heads is 0"),
        ({"head_dim": 0}, ValueError, "head_dim and num_heads are 0 and 8, wanted 1 or more"),
        ({"layout": torch.ones(1, 2)}, TypeError, "layout is a Tensor, wanted a MediaLayout"),
    ],
)
def test_backends_are_asked_about_calls_that_there_may_be(asked, error, message):
    """None of them can run such a call."""
    with pytest.raises(error, match=message):
        available_backends(**{"device": "cpu", "dtype": torch.float32, **asked})


@pytest.mark.parametrize(("kind", "module"), [("mps", torch.backends.mps), ("cuda", torch.cuda), ("xpu", torch.xpu)])
def test_no_backend_runs_on_a_device_that_is_not_there(kind, module, monkeypatch):
    """Each says that torch sees none."""
    monkeypatch.setattr(module, "is_available", lambda: False)
    found = available_backends(kind, torch.float32)
    assert set(found.values()) == {f"torch sees no {kind.upper()} device here"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_some_backend_runs_where_no_device_is_needed(device):
    """The reference, at least."""
    assert available_backends(device, torch.float32)["reference"] == "ok"


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_integers_are_refused(name):
    """By the name of the tensor."""
    given = {"query": torch.zeros(1, 2, 1, 4), "key": torch.zeros(1, 3, 1, 4), "value": torch.zeros(1, 3, 1, 4)}
    with pytest.raises(ValueError, match=f"{name} is torch.int64 of shape .* wanted floats"):
        media_attention(**{**given, name: given[name].long()}, layout=LAYOUT)
    with pytest.raises(TypeError, match=f"{name} is a list, wanted a tensor of floats"):
        media_attention(**{**given, name: given[name].tolist()}, layout=LAYOUT)


def test_flex_takes_weights_without_gradients(assert_close):
    """Under `no_grad` no backward pass follows, whatever the tensors say."""
    query = torch.randn(1, 2, 1, 4, requires_grad=True)
    media = torch.randn(1, 3, 1, 4, requires_grad=True)
    with torch.no_grad():
        out = media_attention(query, media, media, LAYOUT, backend="flex")
        assert_close(out, media_attention(query, media, media, LAYOUT, backend="reference"))
    assert not out.requires_grad
