"""A plain torch decoder needs nothing but torch: neither transformers nor safetensors is imported."""

import subprocess
import sys

CODE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("transformers", "safetensors", "xformers", "PIL", "numpy_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import torch
from torch import nn
from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, MediaLayout, MediaState, PerceiverResampler, attach
from flamingo_blocks.models import build_tiny_flamingo

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 50)

    def forward(self, input_ids):
        mask = nn.Transformer.generate_square_subsequent_mask(input_ids.shape[1])
        return self.head(self.encoder(self.embedding(input_ids), mask=mask, is_causal=True))

lm = Decoder().eval()
ids = torch.tensor([[3, 49, 4, 5]])
bare = lm(ids)
attachment = attach(lm, {0: GatedCrossAttentionBlock(32, vision_dim=16, num_heads=4)})
state = MediaState(media=torch.randn(1, 3, 16), layout=MediaLayout.from_tokens(ids == 49))
with attachment.media(state):
    assert torch.equal(lm(ids), bare)
    with torch.no_grad():
        attachment.blocks["0"].attention_gate.gate.fill_(1.0)
    assert not torch.allclose(lm(ids), bare)
assert torch.equal(attachment.detach()(ids), bare)

resampler = PerceiverResampler(vision_dim=16, dim=16, num_latents=3, depth=1, num_heads=2, head_dim=8)
flamingo = Flamingo(lm=lm, blocks=dict(attachment.blocks.items()) and {0: attachment.blocks["0"]}, resampler=resampler,
                    media_token_id=50, num_new_tokens=2, end_token_id=51)
ids = torch.tensor([[3, 50, 4, 5]])
given = dict(features=torch.randn(1, 1, 4, 16))
flamingo(ids, labels=ids, **given).loss.backward()
out, prompt = flamingo.generate(ids, max_new_tokens=2, return_prompt=True, **given)
flamingo.score(torch.tensor([[6]]), [[7], [8, 9]], prompt=prompt)
tiny = build_tiny_flamingo()
tiny.generate(torch.tensor([[1, 32]]), pixels=torch.zeros(1, 1, 3, 8, 8), max_new_tokens=1)
try:
    tiny.save_pretrained("nowhere")
except ImportError as error:
    assert "Flamingo.save_pretrained needs the package 'safetensors" in str(error), error
else:
    raise AssertionError
assert not {"transformers", "safetensors"} & {name.partition(".")[0] for name in sys.modules}
print("fine")
"""


def test_a_plain_decoder_runs_without_transformers():
    """Attach, train, generate, score and detach on torch's own layers, with transformers barred from being imported."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, check=False)
    assert result.stdout == "fine\n", result.stderr
