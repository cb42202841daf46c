"""A config that contradicts the tensors beside it is an error: no model is made of half of each."""

import json

import pytest

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import idefics_parts, load_foreign, mllama_parts
from tests.interop.test_command_errors import refused
from tests.interop.transformers_peers import tiny_idefics, tiny_mllama


def changed(folder, part, **values):
    """The config of a saved model with other values, in a part of it or at its top."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config if part is None else config[part]).update(values)
    path.write_text(json.dumps(config))


CASES = {
    "heads of an IDEFICS": (
        "idefics", None, {"num_attention_heads": 2},
        r"\.0\.cross_attn\.q_layer_norm\.weight is of width 4, so 4 heads make 16; num_heads is 2, of the config",
    ),
    "heads of its resampler": (
        "idefics", "perceiver_config", {"resampler_n_heads": 1},
        r"q_layer_norm\.weight is of width 5, so 2 heads make 10; resampler_num_heads is 1, of the config",
    ),
    "heads of a Mllama": (
        "mllama", "text_config", {"num_attention_heads": 2, "num_key_value_heads": 1},
        r"num_heads is 2 in the config of lm, but the norms .* are of width 4, which makes 4; take the config of",
    ),
    "layers of a Mllama": (
        "mllama", "text_config", {"cross_attention_layers": [0, 3]},
        r"cross_attention_layers is \[0, 3\], of the config .* has cross-attention in layers \[1, 3\]; correct it",
    ),
    "their number": (
        "mllama", "text_config", {"cross_attention_layers": [1]},
        r"has 5 layers, 2 of them of cross-attention; lm has 4, wanted 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_config_and_tensors_tell_is_compared(tmp_path, capsys, case):
    """In Python and by both commands; nothing is written."""
    family, part, values, message = CASES[case]
    folder = tmp_path / "theirs"
    model = tiny_idefics(norms=True) if family == "idefics" else tiny_mllama()
    model.save_pretrained(folder)
    parts = {"idefics": idefics_parts, "mllama": mllama_parts}[family]
    load_foreign(folder, **parts(folder))
    changed(folder, part, **values)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_foreign(folder, **parts(folder))
    assert refused(capsys, folder, tmp_path, "convert", folder, "--out", tmp_path / "ours") == str(raised.value)
    assert refused(capsys, folder, tmp_path, "inspect", folder) == str(raised.value)


@pytest.mark.parametrize("family", ["idefics", "mllama"])
@pytest.mark.parametrize("content", [b'{"hidden_size": ', b"", b"\xff\xfe\x00", b"[1, 2]"])
def test_a_config_that_is_no_config_is_one_line(tmp_path, capsys, family, content):
    """Cut off, empty, no text or a list: the file is named, in Python and by both commands."""
    folder = tmp_path / "theirs"
    (tiny_idefics() if family == "idefics" else tiny_mllama()).save_pretrained(folder)
    (folder / "config.json").write_bytes(content)
    message = f"{folder / 'config.json'} is damaged: it holds no mapping in JSON; get it again, for it tells the parts"
    for command in (["convert", folder, "--out", tmp_path / "ours"], ["inspect", folder]):
        assert refused(capsys, folder, tmp_path, *command).startswith(message)
