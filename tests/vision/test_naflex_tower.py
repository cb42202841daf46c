"""SigLIP 2 of variable resolution, tiny and untrained: frames of different sizes in one batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.vision import NaFlexPreprocess, NaFlexTower, TransformersTower, VisionTower, encode_frames
from tests.strategies import seeds, tensor

transformers = pytest.importorskip("transformers")

SIDE, MOST = 4, 12


def tiny():
    """A small model with random norms, so that a norm too many or too few shows."""
    torch.manual_seed(0)
    config = transformers.Siglip2VisionConfig(
        patch_size=SIDE, num_patches=9, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=3
    )
    model = transformers.Siglip2VisionModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0)
    return model


MODEL = tiny()
TOWER = NaFlexTower(MODEL, max_num_patches=MOST)


def padded(frames, *, rows=0, columns=0):
    """Frames of different sizes as one batch, with more pads if asked for."""
    height = max(frame.shape[1] for frame in frames) + rows * SIDE
    width = max(frame.shape[2] for frame in frames) + columns * SIDE
    batch = torch.full((len(frames), 3, height, width), math.nan)
    for index, frame in enumerate(frames):
        batch[index, :, : frame.shape[1], : frame.shape[2]] = frame
    return batch


def run_by_hand(frame):
    """What the model itself gives for one frame, cut into patches by loops, in the order of the model's processor."""
    rows, columns = frame.shape[1] // SIDE, frame.shape[2] // SIDE
    patches = torch.zeros(1, MOST, 3 * SIDE * SIDE)
    for row in range(rows):
        for column in range(columns):
            patch = frame[:, SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)]
            patches[0, columns * row + column] = patch.permute(1, 2, 0).flatten()
    mask = (torch.arange(MOST) < rows * columns).long()[None]
    shape = torch.tensor([[rows, columns]])
    model = getattr(MODEL, "vision_model", MODEL)  # transformers 5.0 wraps it once more
    blocks, hidden = model.encoder.layers, []
    handles = [block.register_forward_hook(lambda _block, _inputs, output: hidden.append(output)) for block in blocks]
    last = model(patches, mask, shape).last_hidden_state
    for handle in handles:
        handle.remove()
    outputs = [output[0] if isinstance(output, tuple) else output for output in hidden]
    return last[:, : rows * columns], [output[:, : rows * columns] for output in outputs]


@st.composite
def frame_lists(draw):
    """One to four frames of 1 to 12 patches, of whole patches, and the pads beside the largest of them."""
    generator = torch.Generator().manual_seed(draw(seeds))
    sizes = st.tuples(st.integers(1, 6), st.integers(1, 6)).filter(lambda size: size[0] * size[1] <= MOST)
    frames = [
        tensor(generator, 3, rows * SIDE, columns * SIDE, dtype=torch.float32)
        for rows, columns in draw(st.lists(sizes, min_size=1, max_size=4))
    ]
    return frames, draw(st.integers(0, 2)), draw(st.integers(0, 2))


@given(frame_lists())
def test_frames_of_any_sizes_are_what_the_model_makes_of_each_alone(case):
    """Patches stand row by row at the front; pads and batch mates change nothing, and no NaN gets anywhere."""
    frames, rows, columns = case
    found = TOWER(padded(frames, rows=rows, columns=columns))
    assert found.tokens.shape == (len(frames), MOST, 16)
    assert found.tokens.isfinite().all()
    for index, frame in enumerate(frames):
        expected, _ = run_by_hand(frame)
        number = expected.shape[1]
        torch.testing.assert_close(found.tokens[index, :number], expected[0])
        assert found.valid[index].tolist() == [True] * number + [False] * (MOST - number)
        assert (found.tokens[index, number:] == 0).all()


@pytest.mark.parametrize("layer", [-1, -2, 0])
def test_layers_and_their_norm(layer):
    """Layers are counted as in a list; the norm is the model's final one, of the last layer alone by default."""
    frame = torch.randn(3, 2 * SIDE, 3 * SIDE)
    _, blocks = run_by_hand(frame)
    hidden = blocks[layer]
    norm = getattr(MODEL, "vision_model", MODEL).post_layernorm

    def tokens(**options):
        return NaFlexTower(MODEL, layer=layer, max_num_patches=MOST, **options)(frame[None]).tokens[:, :6]

    torch.testing.assert_close(tokens(final_norm=False), hidden)
    torch.testing.assert_close(tokens(final_norm=True), norm(hidden))
    torch.testing.assert_close(tokens(), norm(hidden) if layer == -1 else hidden)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_sizes_keep_the_aspect_ratio_and_the_number_of_patches(height, width, most):
    """A resized image has whole patches, at most as many as allowed, and too many if it were larger by one each way."""
    new_height, new_width = NaFlexPreprocess(patch_size=SIDE, max_num_patches=most).size_of(height, width)
    rows, columns = new_height / SIDE, new_width / SIDE
    assert rows == int(rows) >= 1 and columns == int(columns) >= 1
    assert rows * columns <= most < (rows + 1) * (columns + 1)
    # Each side is the scaled one, rounded up to whole patches: one scale explains both.
    assert max((rows - 1) / height, (columns - 1) / width) < min(rows / height, columns / width)


@pytest.mark.parametrize(
    ("image", "most", "size"),
    [((480, 640), 256, (224, 288)), ((1000, 1000), 256, (256, 256)), ((50, 200), 64, (64, 256))],
)  # fmt: skip
def test_sizes_are_those_of_transformers(image, most, size):
    """Sizes that transformers' processor gives, all the patches that are allowed included."""
    assert NaFlexPreprocess(patch_size=16, max_num_patches=most).size_of(*image) == size


def test_a_tower_with_its_own_preprocessing():
    """The tower carries its family's values, and says the grid of a square image."""
    assert isinstance(TOWER, VisionTower)
    assert (TOWER.dim, TOWER.grid) == (16, (3, 3))
    image = torch.randint(256, (3, 10, 50), dtype=torch.uint8)
    pixels = TOWER.preprocess(image)
    assert pixels.shape == (3, SIDE, 6 * SIDE) or pixels.shape[1] * pixels.shape[2] <= MOST * SIDE * SIDE
    assert pixels.min() >= -1.0 and pixels.max() <= 1.0
    assert NaFlexTower(MODEL).max_num_patches == 9


def test_encoding_a_pool():
    """A pool of clips and images of different sizes goes through the tower, with a mask of its patches."""
    small, large = torch.randn(2, 3, SIDE, 2 * SIDE), torch.randn(2, 3, 3 * SIDE, SIDE)
    pool = torch.full((2, 2, 3, 3 * SIDE, 2 * SIDE), math.nan)
    pool[0, :, :, :SIDE] = small
    pool[1, :, :, :, :SIDE] = large
    exists = torch.tensor([[True, True], [True, False]])
    features, valid = encode_frames(TOWER, pool, exists, max_frames_per_call=2)
    assert features.shape == (2, 2, MOST, 16)
    assert valid.sum(2).tolist() == [[2, 2], [3, 0]]
    assert torch.equal(features[1, 0], TOWER(large[:1]).tokens[0])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 3, 6, 8), r"frames of \[6, 8\], wanted multiples of 4"),
        (torch.zeros(1, 3, 16, 16), "frame 0 has 16 patches .* wanted a rectangle of 1 to 12"),
        (torch.full((1, 3, 8, 8), math.nan), "frame 0 has 0 patches"),
        (torch.zeros(1, 3, 8, 8).index_fill(3, torch.arange(4), math.nan), "0 in its first column and 1 in its first"),
    ],
)  # fmt: skip
def test_frames_that_are_none_are_refused(pixels, message):
    """The error names the frame, what it has and what is wanted."""
    with pytest.raises(ValueError, match=message):
        TOWER(pixels)


def test_each_model_has_its_tower():
    """The two towers of transformers models name one another."""
    with pytest.raises(ValueError, match=r"Siglip2Vision\w+, which takes images of any size; make it a NaFlexTower"):
        TransformersTower(MODEL)
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    with pytest.raises(ValueError, match="family 'vit', .* make it a TransformersTower"):
        NaFlexTower(transformers.ViTModel(config))
    with pytest.raises(ValueError, match="layer is 3, but the model has 3 blocks"):
        NaFlexTower(MODEL, layer=3)


def test_frozen_by_default_in_the_dtype_of_the_weights():
    """No gradient, eval mode through `.train()`; bfloat16 weights take float32 pixels; meta tensors have shapes."""
    tower = NaFlexTower(tiny().bfloat16())
    nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert tower(torch.zeros(1, 3, 8, 8)).tokens.dtype == torch.bfloat16
    shapes = NaFlexTower(tiny().to("meta"))(torch.zeros(2, 3, 8, 12, device="meta"))
    assert shapes.tokens.shape == (2, 9, 16) and shapes.tokens.is_meta


def test_loading_by_name_brings_the_stored_preprocessing(tmp_path):
    """`from_pretrained` reads the weights and the image processor's values from one folder."""
    MODEL.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "Siglip2ImageProcessor", "patch_size": 4, "max_num_patches": 10, "resample": 3,'
        ' "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 2.0]}'
    )
    tower = NaFlexTower.from_pretrained(str(tmp_path))
    assert tower.preprocess == NaFlexPreprocess(4, 10, (0.1, 0.2, 0.3), (1.0, 1.0, 2.0), "bicubic")
    assert tower.max_num_patches == 10
    frame = torch.randn(1, 3, 8, 12)
    assert torch.equal(tower(frame).tokens, NaFlexTower(MODEL, max_num_patches=10)(frame).tokens)
    assert NaFlexTower.from_pretrained(str(tmp_path), max_num_patches=20).preprocess.max_num_patches == 20


def test_stored_settings_that_are_not_done_are_refused(tmp_path):
    """Pixels that the image processor leaves between 0 and 255 are no silent default."""
    MODEL.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"patch_size": 4, "do_rescale": false}')
    with pytest.raises(ValueError, match="do_rescale is False, wanted"):
        NaFlexTower.from_pretrained(str(tmp_path))
