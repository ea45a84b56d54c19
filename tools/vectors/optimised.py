"""Records what ONNX Runtime's own optimiser for diffusion models makes of the tiny pipeline, for internal/diffusion.

    python tools/vectors/optimised.py [model=internal/diffusion/testdata/tiny] [out=internal/diffusion/testdata/optimised]

Writes text_encoder.onnx, whose operators of com.microsoft the CPU provider has, and vae_decoder.onnx, with operators
that only CUDA has (GroupNorm, SkipGroupNorm, NhwcConv). Needs onnx and onnxruntime.
"""
import collections
import os
import sys

import onnx
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model


def main():
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    model = args.get("model", "internal/diffusion/testdata/tiny")
    out = args.get("out", "internal/diffusion/testdata/optimised")
    os.makedirs(out, exist_ok=True)
    for part, kind in (("text_encoder", "clip"), ("vae_decoder", "vae")):
        m = optimize_model(os.path.join(model, part, "model.onnx"), model_type=kind, num_heads=0, hidden_size=0, opt_level=0,
                           optimization_options=FusionOptions(kind), use_gpu=True)
        onnx.save(m.model, os.path.join(out, part + ".onnx"))
        print(part, collections.Counter(n.op_type for n in m.model.graph.node if n.domain))


if __name__ == "__main__":
    main()
