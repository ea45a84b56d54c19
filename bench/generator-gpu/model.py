"""Make a random Stable Diffusion 1.5 (or a tiny one) for the GPU bench: its pictures are noise, only time is measured.

    python model.py --size sd15 --dtype float16 --tokenizer models/reference/tokenizer --out .cache/bench-generator-gpu/sd15

Writes OUT/torch, which diffusers loads, OUT/onnx in the stock Diffusers layout, and OUT/flops.json: the floating-point
operations of one evaluation of the U-Net. The same seed gives the same weights. The text encoder, which runs once for a
prompt, and the VAE stay in float32: in float16 the decoding of more than one picture has been wrong (ONNX Runtime issue
17536).
"""
import argparse
import json
import os
import shutil
import sys
import warnings

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peer"))
from random_sd import LENGTH, SIZES, pipeline  # noqa: E402


class Text(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids).last_hidden_state


class UNet(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample):
        return self.vae.decode(latent_sample, return_dict=False)[0]


def export(module, args, names, out, path):
    os.makedirs(os.path.dirname(path))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {name: {0: "batch"} for name in names + [out] if name != "timestep"}
        torch.onnx.export(module, args, path, input_names=names, output_names=[out], dynamic_axes=axes, opset_version=17, dynamo=False)


def write_onnx(made, folder, dtype, device):
    u, hidden = made.unet.config, made.text_encoder.config.hidden_size
    latent = torch.zeros(2, 4, u.sample_size, u.sample_size, device=device)
    states = torch.zeros(2, LENGTH, hidden, device=device, dtype=dtype)
    export(Text(made.text_encoder), (torch.zeros(2, LENGTH, dtype=torch.int64, device=device),), ["input_ids"], "last_hidden_state",
           os.path.join(folder, "text_encoder", "model.onnx"))
    export(UNet(made.unet), (latent.to(dtype), torch.tensor(1, dtype=torch.int64, device=device), states),
           ["sample", "timestep", "encoder_hidden_states"], "out_sample", os.path.join(folder, "unet", "model.onnx"))
    export(Decoder(made.vae), (latent.float(),), ["latent_sample"], "sample", os.path.join(folder, "vae_decoder", "model.onnx"))
    for part, module in {"text_encoder": made.text_encoder, "unet": made.unet, "vae_decoder": made.vae}.items():
        with open(os.path.join(folder, part, "config.json"), "w") as f:
            f.write(module.config.to_json_string() if part == "text_encoder" else module.to_json_string())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", choices=SIZES, default="sd15")
    p.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    if os.path.exists(os.path.join(a.out, "flops.json")):
        return
    shutil.rmtree(a.out, ignore_errors=True)
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, a.dtype)
    made = pipeline(a.size, a.tokenizer)
    made.save_pretrained(os.path.join(a.out, "torch"))
    made.to(device)
    made.unet.to(dtype)
    onnx = os.path.join(a.out, "onnx")
    write_onnx(made, onnx, dtype, device)
    shutil.copytree(os.path.join(a.out, "torch", "scheduler"), os.path.join(onnx, "scheduler"))
    shutil.copy(os.path.join(a.out, "torch", "model_index.json"), onnx)
    shutil.copytree(a.tokenizer, os.path.join(onnx, "tokenizer"))
    with open(os.path.join(onnx, "tokenizer", "tokenizer_config.json"), "r+") as f:
        config = dict(json.load(f), model_max_length=LENGTH)
        f.seek(0)
        f.truncate()
        json.dump(config, f)
    u = made.unet.config
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        made.unet(torch.zeros(1, 4, u.sample_size, u.sample_size, device=device, dtype=dtype), 1,
                  torch.zeros(1, LENGTH, made.text_encoder.config.hidden_size, device=device, dtype=dtype))
    with open(os.path.join(a.out, "flops.json"), "w") as f:
        json.dump({"unet": counter.get_total_flops(), "parameters": made.unet.num_parameters()}, f)
    print("U-Net of %.1f M parameters, %.3g GFLOP an evaluation, in %s" % (made.unet.num_parameters() / 1e6, counter.get_total_flops() / 1e9, a.out))


if __name__ == "__main__":
    main()
