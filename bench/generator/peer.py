"""The peers of bench-generator: diffusers on PyTorch and Optimum's ONNX pipeline, on the CPU.

Reads commands as JSON lines and answers each with one line, so that all sides take turns in one run:
  {"op": "load", "kind": "diffusers" | "optimum", "model": FOLDER, "dtype": "float32" | "bfloat16", "channels_last", "threads"}
  {"op": "render", "kind" and the rest as loaded, "batch", "steps", "guidance", "prompt"} → {"seconds"}
A folder with torch/ and onnx/ is the random model of model.py; another is the reference model. That has random weights
in PyTorch: time does not depend on them.
"""
import io
import json
import os
import shutil
import sys
import tempfile
import time
import warnings

import torch

warnings.filterwarnings("ignore")
os.environ["TQDM_DISABLE"] = "1"
loaded = {}


def reference(folder):
    """The reference model as a pipeline of diffusers: its codec in the place of the VAE."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.modeling_utils import ModelMixin
    from transformers import CLIPTokenizer

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "refmodel"))
    import model as m

    class Codec(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, scaling_factor=1.0, block_out_channels=(1, 1, 1)):
            super().__init__()

        def decode(self, z, return_dict=True, generator=None):
            return (self.refine(self.codec.decode(z), z),)

    made = m.Model(os.path.join(folder, "tokenizer"))
    vae = Codec()
    vae.codec, vae.refine = made.codec, made.refine
    scheduler = DDIMScheduler.from_pretrained(os.path.join(folder, "scheduler"))
    return StableDiffusionPipeline(
        vae=vae, text_encoder=made.text, tokenizer=CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer")), unet=made.unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def diffusers(q):
    from diffusers import StableDiffusionPipeline
    folder = os.path.join(q["model"], "torch")
    pipe = StableDiffusionPipeline.from_pretrained(folder) if os.path.exists(folder) else reference(q["model"])
    dtype = getattr(torch, q["dtype"])
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval().to(dtype)
    if q.get("channels_last"):
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def optimum(q):
    import onnxruntime
    from optimum.onnxruntime import ORTStableDiffusionPipeline
    folder = os.path.join(q["model"], "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = q["threads"]
    if os.path.exists(folder):
        return ORTStableDiffusionPipeline.from_pretrained(folder, session_options=options)
    with tempfile.TemporaryDirectory() as copy:  # Optimum wants the VAE's widths, which the codec does not have
        copy = os.path.join(copy, "model")
        shutil.copytree(q["model"], copy)
        for part in ("vae_decoder", "vae_encoder"):
            path = os.path.join(copy, part, "config.json")
            with open(path) as f:
                config = json.load(f)
            config["block_out_channels"] = [1, 1, 1]
            with open(path, "w") as f:
                json.dump(config, f)
        return ORTStableDiffusionPipeline.from_pretrained(copy, session_options=options)


def key(q):
    return q["kind"], q["model"], q.get("dtype"), q.get("channels_last")


def load(q):
    torch.set_num_threads(q["threads"])
    pipe = (diffusers if q["kind"] == "diffusers" else optimum)(q)
    pipe.set_progress_bar_config(disable=True)
    loaded[key(q)] = pipe
    return {"seconds": 0}


def render(q):
    pipe = loaded[key(q)]
    size = {}
    if pipe.unet.config.sample_size == 8:  # diffusers takes 512 px for small ones otherwise
        size = dict(height=32, width=32)
    begin = time.perf_counter()
    with torch.inference_mode():
        out = pipe([q["prompt"]] * q["batch"], num_inference_steps=q["steps"], guidance_scale=q["guidance"], output_type="pil", **size)
    for image in out.images:  # a file, as the other side makes one
        image.save(io.BytesIO(), "png")
    assert len(out.images) == q["batch"]
    return {"seconds": time.perf_counter() - begin, "size": out.images[0].size[0]}


def main():
    ops = {"load": load, "render": render}
    stdout = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        q = json.loads(line)
        try:
            a = ops[q.pop("op")](q)
        except Exception as e:  # what a peer cannot do is part of the result
            a = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(a), file=stdout, flush=True)


if __name__ == "__main__":
    main()
