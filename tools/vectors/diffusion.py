"""Records what transformers and diffusers compute, for the tests of internal/diffusion.

    python tools/vectors/diffusion.py tokenizer=<folder of a CLIP tokenizer> [out=internal/diffusion/testdata]

Writes into the folder `out`:
  tokenizer.json        prompts and the ids of transformers' CLIPTokenizer
  tiny/                 a random Stable Diffusion pipeline as ONNX in the Diffusers layout,
                        with the given tokenizer
  tiny.json             pictures that PyTorch and diffusers make of the tiny pipeline

Needs torch, diffusers, transformers, onnx. Byte strings in the JSON are base64;
float arrays are little-endian float32.
"""
import base64
import json
import os
import shutil
import sys
import tempfile
import warnings

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

torch.set_num_threads(1)
warnings.filterwarnings("ignore")

TOKENIZER_FILES = ["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"]


def floats(a):
    return base64.b64encode(np.ascontiguousarray(a, dtype="<f4").tobytes()).decode()


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, indent=1)
        f.write("\n")


# --- tokenizer ---------------------------------------------------------------

PROMPTS = [
    "", " ", "a photo of a dog", "A High-Quality Image of the AIRPLANE", "  extra   spaces\tand\nlines  ",
    "it's we're I'LL can't'd they've I'm '' ' 's", "route 66, 3.14159 and 1,000,000", "½ ² Ⅻ ٣ 一二三",
    "café naïve Zürich", "cafe\u0301 x\u0301 A\u030a \u212b", "İstanbul straße ΑΣ ﬁ Ǆ ẞ", "日本語の写真 と 猫", "한국어 사진",
    "🐶🐱 a dog👍🏽", "👨‍👩‍👧‍👦 family", "🇩🇪", "!!'s?? ...", "a<b>c|d", "<|endoftext|> x", "a <|startoftext|>b",
    "<|ENDOFTEXT|> upper", "a photo! of! a!! dog!", "a\u00a0b\u2003c\u200bd\u3000e\u0085f\ufeffg", "e=mc^2; x_1 := y/z #tag @me",
    "supercalifragilisticexpialidocious", "x" * 300, "a photo of the pickup truck in front of a red house with a long, long garden and a dog",
    "\u0000null and \u0007bell", "\u0344 \u1fbc \uac00\u11a8", "Ω ω µ μ K Å", "ǅ ᾳ ﬀ", "\u0e01\u0e33 \u0e49", "עברית العربية",
]
VARIANTS = {  # changes of the two configuration files
    "as given": ({}, {}),
    "pad token in the map": ({"added_tokens_decoder": None}, {"pad_token": "!"}),
    "pad token in the configuration": ({"pad_token": "!"}, {}),
    "no map": ({"added_tokens_decoder": None}, None),
    "length 77": ({"model_max_length": 77}, {}),
}


def record_tokenizer(src, out):
    cases = []
    for name, (config, special) in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            for f in TOKENIZER_FILES:
                shutil.copyfile(os.path.join(src, f), os.path.join(folder, f))
            change(os.path.join(folder, "tokenizer_config.json"), config)
            if special is None:
                os.remove(os.path.join(folder, "special_tokens_map.json"))
            else:
                change(os.path.join(folder, "special_tokens_map.json"), special)
            tok = CLIPTokenizer.from_pretrained(folder)
            with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as f:
                written = json.load(f)
            ids = [tok(p, padding="max_length", max_length=tok.model_max_length, truncation=True).input_ids for p in PROMPTS]
            cases.append({"name": name, "config": written, "special": special, "length": tok.model_max_length,
                          "ids": ids})
    write(os.path.join(out, "tokenizer.json"), {"prompts": PROMPTS, "cases": [
        {**c, "ids": [" ".join(map(str, i)) for i in c["ids"]]} for c in cases]})


def change(path, changes):
    with open(path, encoding="utf-8") as f:
        value = json.load(f)
    for k, v in changes.items():
        if v is None:
            value.pop(k, None)
        else:
            value[k] = v
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)


BASE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


# --- a tiny pipeline -----------------------------------------------------------

def tiny_models(tok):
    torch.manual_seed(11)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=tok.model_max_length, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id, attn_implementation="eager")).eval()
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 24), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4).eval()
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        scaling_factor=0.5).eval()
    with torch.no_grad():  # random weights hardly react to the prompt: make them
        text.get_input_embeddings().weight.mul_(15)
        for n, p in unet.named_parameters():
            if "attn2" in n and "weight" in n:
                p.mul_(4)
        unet.conv_out.weight.mul_(1.5)
    return text, unet, vae


class Text(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, input_ids):
        out = self.m(input_ids=input_ids)
        return out.last_hidden_state, out.pooler_output


class UNet(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.m(sample, timestep, encoder_hidden_states).sample


class Decoder(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, latent_sample):
        return self.m.decode(latent_sample).sample


def export(module, args, path, inputs, outputs, axes):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.onnx.export(module, args, path, input_names=inputs, output_names=outputs, dynamic_axes=axes,
                      opset_version=17, dynamo=False, do_constant_folding=True)


def export_tiny(tok_dir, folder, text, unet, vae, scheduler):
    shutil.rmtree(folder, ignore_errors=True)
    b = {0: "batch_size"}
    ids = torch.zeros(2, text.config.max_position_embeddings, dtype=torch.long)
    with torch.no_grad():
        export(Text(text), (ids,), f"{folder}/text_encoder/model.onnx", ["input_ids"], ["last_hidden_state", "pooler_output"],
               {"input_ids": {**b, 1: "sequence_length"}, "last_hidden_state": {**b, 1: "sequence_length"}, "pooler_output": b})
        export(UNet(unet), (torch.zeros(2, 4, 8, 8), torch.tensor([1]), torch.zeros(2, ids.shape[1], 32)),
               f"{folder}/unet/model.onnx", ["sample", "timestep", "encoder_hidden_states"], ["out_sample"],
               {"sample": b, "encoder_hidden_states": {**b, 1: "sequence_length"}, "out_sample": b})
        export(Decoder(vae), (torch.zeros(2, 4, 8, 8),), f"{folder}/vae_decoder/model.onnx", ["latent_sample"], ["sample"],
               {"latent_sample": b, "sample": b})
    for name, m in (("text_encoder", text), ("unet", unet), ("vae_decoder", vae)):
        config = json.loads(m.config.to_json_string() if name == "text_encoder" else m.to_json_string())
        write(f"{folder}/{name}/config.json", {k: v for k, v in config.items() if not k.startswith("_")})
    scheduler.save_pretrained(f"{folder}/scheduler")
    os.makedirs(f"{folder}/tokenizer")
    for f in TOKENIZER_FILES:
        shutil.copyfile(os.path.join(tok_dir, f), os.path.join(folder, "tokenizer", f))
    write(f"{folder}/model_index.json", {
        "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae_decoder": ["diffusers", "AutoencoderKL"]})


def encode(tok, text, prompt, word="", rows=None):
    """last_hidden_state of a prompt in which the rows of a word's tokens are replaced."""
    table = text.get_input_embeddings().weight
    kept = table.detach().clone()
    with torch.no_grad():
        if word:
            ids = tok(word, add_special_tokens=False).input_ids
            for i, row in zip(ids, rows, strict=True):
                table[i] = torch.from_numpy(row)
        ids = tok(prompt, padding="max_length", max_length=tok.model_max_length, truncation=True, return_tensors="pt").input_ids
        out = text(ids).last_hidden_state
        table.copy_(kept)
    return out


def render(tok, text, unet, vae, scheduler, steps, guidance, items):
    """The loop of StableDiffusionPipeline, with token overrides."""
    cond = torch.cat([encode(tok, text, i["prompt"], i["token"], i["rows"]) for i in items])
    uncond = torch.cat([encode(tok, text, i["negative"]) for i in items])
    guided = guidance > 1
    states = torch.cat([uncond, cond]) if guided else cond
    scheduler.set_timesteps(steps)
    latents = torch.from_numpy(np.stack([i["noise"] for i in items])) * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = torch.cat([latents] * 2) if guided else latents
            noise = unet(scheduler.scale_model_input(x, t), t, encoder_hidden_states=states).sample
            if guided:
                u, c = noise.chunk(2)
                noise = u + guidance * (c - u)
            latents = scheduler.step(noise, t, latents).prev_sample
        image = vae.decode(latents / vae.config.scaling_factor).sample
    processor = VaeImageProcessor(vae_scale_factor=2)
    pictures = processor.postprocess(image, output_type="pil", do_denormalize=[True] * len(items))
    return latents.numpy(), np.stack([np.asarray(p) for p in pictures])


def record_pipeline(tok_dir, out):
    tok = CLIPTokenizer.from_pretrained(tok_dir)
    text, unet, vae = tiny_models(tok)
    ddim = DDIMScheduler(**BASE, set_alpha_to_one=False, clip_sample=False)
    export_tiny(tok_dir, os.path.join(out, "tiny"), text, unet, vae, ddim)
    rng = np.random.default_rng(5)
    normal = lambda *shape: rng.standard_normal(shape).astype("f")
    scale = float(text.get_input_embeddings().weight.std())
    items = [
        {"prompt": "a photo of a dog", "token": "", "rows": [], "negative": "", "noise": normal(4, 8, 8)},
        {"prompt": "a photo of the truck", "token": "truck", "rows": [scale * normal(32)], "negative": "blurry", "noise": normal(4, 8, 8)},
        {"prompt": "a photo of the truck", "token": "truck", "rows": [scale * normal(32)], "negative": "", "noise": normal(4, 8, 8)},
        {"prompt": "a ship and a ship", "token": "ship", "rows": list(scale * normal(len(tok("ship", add_special_tokens=False).input_ids), 32)),
         "negative": "", "noise": normal(4, 8, 8)},
    ]
    cases = []
    pndm = PNDMScheduler.from_config({**ddim.config, "skip_prk_steps": True})
    for name, scheduler, steps, guidance in (("ddim", ddim, 10, 5.0), ("pndm", pndm, 10, 5.0), ("ddim", ddim, 10, 1.0)):
        latents, pictures = render(tok, text, unet, vae, scheduler, steps, guidance, items)
        print(name, steps, guidance, "latents std", latents.std(), "picture mean", pictures.mean(), "std", pictures.std())
        cases.append({"scheduler": name, "steps": steps, "guidance": guidance, "latents": floats(latents),
                      "pictures": base64.b64encode(pictures.tobytes()).decode()})
    dog = tok("dog", add_special_tokens=False).input_ids
    assert len(dog) == 1
    write(os.path.join(out, "tiny.json"), {
        "items": [{**i, "rows": floats(np.concatenate(i["rows"]) if len(i["rows"]) else []), "noise": floats(i["noise"])} for i in items],
        "cases": cases, "dog": floats(text.get_input_embeddings().weight[dog[0]].detach().numpy()),
        "states": floats(torch.cat([encode(tok, text, i["prompt"], i["token"], i["rows"]) for i in items]).numpy())})


def main():
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    src, out = args["tokenizer"], args.get("out", "internal/diffusion/testdata")
    os.makedirs(out, exist_ok=True)
    record_tokenizer(src, out)
    record_pipeline(src, out)


if __name__ == "__main__":
    main()
