"""Make a random Stable Diffusion pipeline of 18 M parameters (U-Net) at 256 px, for `make bench-generator`.

    python model.py --tokenizer models/reference/tokenizer --out .cache/bench-generator/sd18m

Writes OUT/torch, which diffusers loads, and OUT/onnx, exported by Optimum. Its pictures are noise: only time is measured
with it. The same seed gives the same weights.
"""
import argparse
import os
import shutil
import sys

from optimum.exporters.onnx import main_export

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peer"))
from random_sd import pipeline  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    if os.path.exists(os.path.join(a.out, "onnx", "model_index.json")):
        return
    shutil.rmtree(a.out, ignore_errors=True)
    made = pipeline("sd18m", a.tokenizer)
    made.save_pretrained(os.path.join(a.out, "torch"))
    part = os.path.join(a.out, "part")
    main_export(os.path.join(a.out, "torch"), output=part, task="text-to-image", do_validation=False)
    os.replace(part, os.path.join(a.out, "onnx"))
    print("U-Net of %.1f M parameters in %s" % (made.unet.num_parameters() / 1e6, a.out))


if __name__ == "__main__":
    main()
