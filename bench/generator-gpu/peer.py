"""The peer of the GPU bench: diffusers with PyTorch, the U-Net compiled. Reads batch sizes from its input, a line each, and
answers each with a line of JSON: the seconds of every repetition, after two that are not counted.

    python peer.py --model OUT/torch --dtype float16 --steps 50 --guidance 7.5 --repeat 5
"""
import argparse
import json
import sys
import time

import torch
from diffusers import StableDiffusionPipeline


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--dtype", default="float16")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--guidance", type=float, default=7.5)
    p.add_argument("--repeat", type=int, default=5)
    p.add_argument("--compile", default="max-autotune", help="mode of torch.compile; none for eager")
    a = p.parse_args()
    cuda = torch.cuda.is_available()
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=getattr(torch, a.dtype), safety_checker=None, requires_safety_checker=False)
    pipe.vae.to(torch.float32)  # as on the other side
    pipe.set_progress_bar_config(disable=True)
    if cuda:
        pipe.to("cuda")
        pipe.unet.to(memory_format=torch.channels_last)
    if a.compile != "none":
        pipe.unet = torch.compile(pipe.unet, mode=a.compile, fullgraph=True)

    def render(batch):
        latents = pipe(["a photo of the dog"] * batch, negative_prompt=[""] * batch, num_inference_steps=a.steps,
                       guidance_scale=a.guidance, output_type="latent").images
        with torch.no_grad():
            pictures = pipe.vae.decode(latents.float() / pipe.vae.config.scaling_factor, return_dict=False)[0]
        return ((pictures / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()

    print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name() if cuda else "cpu"}), flush=True)
    for line in sys.stdin:
        batch, seconds = int(line), []
        try:
            for i in range(a.repeat + 2):
                began = time.perf_counter()
                assert len(render(batch)) == batch
                if i >= 2:
                    seconds.append(time.perf_counter() - began)
            print(json.dumps({"seconds": seconds}), flush=True)
        except torch.cuda.OutOfMemoryError as e:
            print(json.dumps({"error": str(e).splitlines()[0]}), flush=True)


if __name__ == "__main__":
    main()
