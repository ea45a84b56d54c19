"""Export a checkpoint of the reference model to ONNX in the stock Diffusers/Optimum layout.

    python export.py --out OUT [--checkpoint decayed.pt] --model ../../models/reference [--fp16]

Weights are stored as float16 with --fp16 (cast to float32 when the graph is loaded: arithmetic stays float32).
"""
import argparse
import json
import os
import shutil

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import decoder
import model as m


class Text(torch.nn.Module):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def forward(self, input_ids):
        out = self.text(input_ids=input_ids)
        return out.last_hidden_state, out.pooler_output


class Unet(torch.nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states=encoder_hidden_states).sample


class Decode(torch.nn.Module):
    def __init__(self, codec, refine):
        super().__init__()
        self.codec, self.refine = codec, refine

    def forward(self, latent_sample):
        return self.refine(self.codec.decode(latent_sample), latent_sample)


class Encode(torch.nn.Module):
    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, sample):
        return self.codec.encode(sample)


def export(module, args, names, outputs, dynamic, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.onnx.export(module.eval(), args, path, input_names=names, output_names=outputs, dynamic_axes=dynamic,
                      opset_version=17, dynamo=False, do_constant_folding=True)
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.doc_string = ""
    onnx.save(graph, path)


def to_half(path):
    """Stores the large float32 initialisers as float16 and casts them back at the top of the graph."""
    graph = onnx.load(path)
    casts = []
    for init in graph.graph.initializer:
        if init.data_type != TensorProto.FLOAT or np.prod(init.dims) < 1024:
            continue
        value = numpy_helper.to_array(init).astype(np.float16)
        name = init.name
        init.CopyFrom(numpy_helper.from_array(value, name + "_fp16"))
        casts.append(helper.make_node("Cast", [name + "_fp16"], [name], to=TensorProto.FLOAT, name="cast_" + name))
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend(casts + nodes)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def export_parts(model, folder):
    """Writes the four graphs of model into folder/<part>/model.onnx, weights as float32."""
    c, h, length = model.cfg["channels"], model.cfg["hidden"], m.world.MAX_LENGTH
    ids = torch.tensor([model.words.ids("a photo of a cat")] * 2)
    with torch.no_grad():
        export(Text(model.text), (ids,), ["input_ids"], ["last_hidden_state", "pooler_output"],
               {"input_ids": {0: "batch_size", 1: "sequence_length"}, "last_hidden_state": {0: "batch_size", 1: "sequence_length"},
                "pooler_output": {0: "batch_size"}}, os.path.join(folder, "text_encoder/model.onnx"))
        export(Unet(model.unet), (torch.randn(2, c, 8, 8), torch.tensor(500.0), torch.randn(2, length, h)),
               ["sample", "timestep", "encoder_hidden_states"], ["out_sample"],
               {"sample": {0: "batch_size"}, "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"}, "out_sample": {0: "batch_size"}},
               os.path.join(folder, "unet/model.onnx"))
        export(Decode(model.codec, model.refine), (torch.randn(2, c, 8, 8),), ["latent_sample"], ["sample"],
               {"latent_sample": {0: "batch_size"}, "sample": {0: "batch_size"}}, os.path.join(folder, "vae_decoder/model.onnx"))
        export(Encode(model.codec), (torch.randn(2, 3, 32, 32),), ["sample"], ["latent_sample"],
               {"sample": {0: "batch_size"}, "latent_sample": {0: "batch_size"}}, os.path.join(folder, "vae_encoder/model.onnx"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--checkpoint", default="train.pt")
    p.add_argument("--model", required=True)
    p.add_argument("--widths", default="112,208")
    p.add_argument("--fp16", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(2)
    model = m.Model(os.path.join(a.out, "tokenizer"), widths=tuple(int(w) for w in a.widths.split(",")))
    step, _ = m.load_ema(model, os.path.join(a.out, a.checkpoint))
    decoder.load(model, a.out)
    export_parts(model, a.model)
    if a.fp16:
        for part in ("text_encoder", "unet"):
            to_half(os.path.join(a.model, part, "model.onnx"))
    write_json(os.path.join(a.model, "unet/config.json"), {k: v for k, v in dict(model.unet.config).items() if not k.startswith("_name")})
    text_config = model.text.config.to_dict()
    write_json(os.path.join(a.model, "text_encoder/config.json"), {k: v for k, v in text_config.items() if not k.startswith("_")})
    vae = dict(_class_name="PatchCodec", in_channels=3, out_channels=3, latent_channels=model.cfg["channels"], scaling_factor=1.0, sample_size=32)
    write_json(os.path.join(a.model, "vae_decoder/config.json"), vae)
    write_json(os.path.join(a.model, "vae_encoder/config.json"), vae)
    write_json(os.path.join(a.model, "scheduler/scheduler_config.json"), m.SCHEDULER)
    write_json(os.path.join(a.model, "model_index.json"), {
        "_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae_decoder": ["dreamood", "PatchCodec"], "vae_encoder": ["dreamood", "PatchCodec"],
        "scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [None, None]})
    shutil.copytree(os.path.join(a.out, "tokenizer"), os.path.join(a.model, "tokenizer"), dirs_exist_ok=True)
    print("step", step, {f: os.path.getsize(os.path.join(a.model, f, "model.onnx")) for f in ("text_encoder", "unet", "vae_decoder")})


if __name__ == "__main__":
    main()
