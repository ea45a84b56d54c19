"""Reads the weights of an exported reference model back into PyTorch, so that training goes on from what was shipped.

The exporter renames and transposes weights. A twin model with random weights is exported by the same code; each of its
initialisers is found again among its parameters, and the shipped initialiser of the same name is put in that place.
"""
import os
import tempfile

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import export
import model as m

PARTS = {"text_encoder": ["text"], "unet": ["unet"], "vae_decoder": ["codec", "refine"], "vae_encoder": ["codec"]}
ATTRS = ["text", "unet", "codec", "refine"]


def initialisers(path):
    """Name → float32 array, float16 storage undone."""
    graph = onnx.load(path).graph
    return {i.name.removesuffix("_fp16"): numpy_helper.to_array(i) for i in graph.initializer}


@torch.no_grad()
def scramble(model):
    gen = torch.Generator().manual_seed(1)
    for attr in ATTRS:
        for q in getattr(model, attr).state_dict().values():
            if q.is_floating_point():
                q.copy_(torch.randn(q.shape, generator=gen))


def place(state, value):
    """The state's tensor that holds value, as it is, reshaped or transposed; → (name, transposed) or None."""
    for name, q in state.items():
        if q.numel() == value.size and q.is_floating_point():
            if np.array_equal(q.numpy().ravel(), value.ravel()):
                return name, False
            if value.ndim == 2 and q.ndim == 2 and np.array_equal(q.numpy().T, value):
                return name, True
    return None


@torch.no_grad()
def load(model, folder):
    """Copies the weights of the ONNX folder into model (of the same sizes); returns how many tensors were taken over."""
    twin = m.Model(os.path.join(folder, "tokenizer"), **{**model.cfg, "widths": tuple(model.cfg["widths"])})
    scramble(twin)
    taken = set()
    with tempfile.TemporaryDirectory() as tmp:
        export.export_parts(twin, tmp)
        for part, attrs in PARTS.items():
            state = {(attr, k): q for attr in attrs for k, q in getattr(twin, attr).state_dict().items()}
            target = {(attr, k): q for attr in attrs for k, q in getattr(model, attr).state_dict().items()}
            shipped = initialisers(os.path.join(folder, part, "model.onnx"))
            for name, value in initialisers(os.path.join(tmp, part, "model.onnx")).items():
                found = place(state, value) if value.dtype == np.float32 else None
                if found is None:
                    continue
                key, transposed = found
                new = torch.from_numpy(shipped[name].astype(np.float32))
                target[key].copy_((new.T if transposed else new).reshape(target[key].shape))
                taken.add(key)
    missing = [(attr, k) for attr in ATTRS for k, q in getattr(model, attr).state_dict().items()
               if q.is_floating_point() and (attr, k) not in taken]
    if missing:
        raise ValueError(f"{folder}: no weights found for {missing}")
    return len(taken)
