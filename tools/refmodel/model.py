"""The parts of the reference model: codec, text encoder, U-Net, noise schedule, DDIM sampling."""
import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import world

STEPS = 1000
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS) ** 2
ALPHA_BAR = torch.cumprod(1 - BETAS, 0)
SCHEDULER = dict(
    _class_name="DDIMScheduler", num_train_timesteps=STEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading",
)


class Codec(nn.Module):
    """4×4 patches on their first principal components: a strided convolution and its transpose.

    encode: pictures [N, 3, 32, 32] in [−1, 1] → latents [N, C, 8, 8] of unit deviation; decode: the way back.
    The variances are damped (power 0.3), so that the fine components are not lost in the diffusion's noise.
    """

    def __init__(self, channels=12):
        super().__init__()
        self.enc = nn.Conv2d(3, channels, 4, 4)
        self.dec = nn.ConvTranspose2d(channels, 3, 4, 4)

    @torch.no_grad()
    def fit(self, x):
        c = self.enc.out_channels
        p = F.unfold(x, 4, stride=4).permute(0, 2, 1).reshape(-1, 48)
        mu = p.mean(0)
        u, s, _ = torch.linalg.svd((p - mu).T @ (p - mu) / len(p))
        scale = s[:c].pow(-0.35)
        scale = scale / ((p - mu) @ u[:, :c] * scale).std()
        self.set(u[:, :c], mu, scale)

    @torch.no_grad()
    def set(self, w, mu, scale):
        c = self.enc.out_channels
        self.enc.weight.copy_((w * scale).T.reshape(c, 3, 4, 4))
        self.enc.bias.copy_(-(mu @ w) * scale)
        self.dec.weight.copy_((w / scale).T.reshape(c, 3, 4, 4))
        # the mean of a patch is not constant over it, only nearly: keep it exact by a constant channel in `mean`
        self.register_buffer("mean", mu.reshape(1, 3, 4, 4).repeat(1, 1, 8, 8))
        self.dec.bias.zero_()

    def encode(self, x):
        return self.enc(x)

    def decode(self, z):
        return self.dec(z) + self.mean


class Refine(nn.Module):
    """What a linear codec cannot see: a small convolutional network on the latents and the linear picture, added to it.

    forward: pictures [N, 3, 32, 32] of the linear codec, latents [N, C, 8, 8] → pictures. Its last layer starts at zero,
    so an untrained one changes nothing. It takes the borders of the 4×4 patches away; see decoder.py.
    """

    def __init__(self, channels=12, deep=96, wide=24):
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(channels, deep, 3, padding=1), nn.SiLU(), nn.Conv2d(deep, deep, 3, padding=1), nn.SiLU(),
                                  nn.Conv2d(deep, 16 * wide, 1), nn.PixelShuffle(4))
        self.wide = nn.Sequential(nn.Conv2d(wide + 3, wide, 3, padding=1), nn.SiLU(), nn.Conv2d(wide, wide, 3, padding=1), nn.SiLU(),
                                  nn.Conv2d(wide, 3, 3, padding=1))
        nn.init.zeros_(self.wide[-1].weight)
        nn.init.zeros_(self.wide[-1].bias)

    def forward(self, x, z):
        return x + self.wide(torch.cat([x, self.deep(z)], 1))


def build(channels, hidden, vocab_size, widths, heads=4):
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=vocab_size, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=world.MAX_LENGTH, bos_token_id=vocab_size - 2, eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1, projection_dim=hidden))
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=channels, block_out_channels=widths, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(widths), up_block_types=("CrossAttnUpBlock2D",) * len(widths),
        cross_attention_dim=hidden, attention_head_dim=heads, norm_num_groups=16)
    return text, unet


class Model:
    """Text encoder with replaceable token embeddings, U-Net and codec, as one object to train, sample and save."""

    def __init__(self, tokenizer_folder, channels=12, hidden=256, widths=(112, 208)):
        self.words = world.Words(tokenizer_folder)
        self.cfg = dict(channels=channels, hidden=hidden, widths=list(widths))
        self.text, self.unet = build(channels, hidden, len(self.words.vocab), widths)
        self.codec = Codec(channels)
        self.codec.register_buffer("mean", torch.zeros(1, 3, 32, 32))
        self.refine = Refine(channels)
        self._override = None
        self.table = next(m for n, m in self.text.named_modules() if n.endswith("token_embedding"))
        self.table.register_forward_hook(self._replace)

    def _replace(self, module, args, out):
        if self._override is None:
            return out
        mask, emb = self._override
        return torch.where(mask.unsqueeze(-1), emb.unsqueeze(1).to(out.dtype), out)

    def encode(self, ids, mask=None, emb=None):
        """ids [B, L] → hidden states [B, L, H]; rows of the token table at mask [B, L] are replaced by emb [B, H]."""
        self._override = None if mask is None else (mask, emb)
        try:
            return self.text(input_ids=ids).last_hidden_state
        finally:
            self._override = None

    def decode(self, z):
        """Latents [N, C, 8, 8] → pictures [N, 3, 32, 32], about [−1, 1]."""
        return self.refine(self.codec.decode(z), z)

    def params(self):
        return list(self.unet.parameters()) + list(self.text.parameters())

    def anchors(self, classes):
        """The token-embedding rows that stand for classes, [C, H]."""
        return self.table.weight[torch.tensor([self.words.word(c) for c in classes])]

    @torch.no_grad()
    def sample(self, ids, mask=None, emb=None, steps=20, guidance=3.0, noise=None, seed=0):
        """Deterministic DDIM. Returns pictures [N, 3, 32, 32] in [−1, 1]."""
        n, c = len(ids), self.cfg["channels"]
        if noise is None:
            noise = torch.randn(n, c, 8, 8, generator=torch.Generator().manual_seed(seed))
        cond = self.encode(ids, mask, emb)
        null = self.encode(torch.tensor([self.words.ids("")])).expand(n, -1, -1)
        ts = (torch.arange(steps) * (STEPS // steps)).flip(0) + 1
        z = noise
        for i, t in enumerate(ts):
            v = self.unet(torch.cat([z, z]), t, encoder_hidden_states=torch.cat([null, cond])).sample
            vu, vc = v.chunk(2)
            v = vu + guidance * (vc - vu)
            a = ALPHA_BAR[t]
            x0, e = a.sqrt() * z - (1 - a).sqrt() * v, (1 - a).sqrt() * z + a.sqrt() * v
            prev = int(t) - STEPS // steps
            a = ALPHA_BAR[prev] if prev >= 0 else ALPHA_BAR[0]
            z = a.sqrt() * x0 + (1 - a).sqrt() * e
        return self.decode(z).clamp(-1, 1)

    def state(self):
        return {"unet": self.unet.state_dict(), "text": self.text.state_dict(), "codec": self.codec.state_dict(), "refine": self.refine.state_dict()}

    def load(self, state):
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        self.codec.load_state_dict(state["codec"])
        if "refine" in state:
            self.refine.load_state_dict(state["refine"])


@torch.no_grad()
def warm_start(model, folder):
    """Start from weights of an earlier model of the same sizes (another vocabulary is mapped word by word)."""
    model.unet.load_state_dict({k: v.float() for k, v in load_file(f"{folder}/unet/diffusion_pytorch_model.safetensors").items()})
    old = {k: v.float() for k, v in load_file(f"{folder}/text_encoder/model.safetensors").items()}
    new = model.text.state_dict()
    strip = lambda k: k.removeprefix("text_model.")
    old = {strip(k): v for k, v in old.items()}
    vocab = json.load(open(f"{folder}/tokenizer/vocab.json"))
    taken = 0
    for k in new:
        o = old[strip(k)] if strip(k) in old else None
        if k.endswith("token_embedding.weight"):
            for token, i in model.words.vocab.items():
                if token in vocab:
                    new[k][i] = o[vocab[token]]
                    taken += 1
        elif o is not None:
            new[k].copy_(o)
    model.text.load_state_dict(new)
    c = load_file(f"{folder}/codec.safetensors")
    model.codec.set(c["W"].float(), c["mu"].float(), c["sc"].float())
    return taken


def load_ema(model, path):
    """Puts the averaged weights of a checkpoint into model; returns its step and loss history."""
    s = torch.load(path, weights_only=False, map_location="cpu")
    model.load(s["model"])
    table = [model.table.weight]
    for q, e in zip([q for q in model.params() if q is not table[0]] + table, s["ema"]):
        q.data.copy_(e)
    model.unet.eval()
    model.text.eval()
    return s["step"], s["history"]
