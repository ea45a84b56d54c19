"""Scores pictures with a detector as anybody would: onnxruntime's Python package, NumPy and Pillow.

    detector.py FOLDER SAMPLES

FOLDER holds detector.onnx and expected.json, which `make parity` has the mesh write: what it says of every test
picture over gRPC. SAMPLES is the folder of the zip archives that expected.json names. Fails when a class differs, or
an energy or a probability by more than 1e-4.
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

TOLERANCE = 1e-4
BATCH = 100


def image(data: bytes) -> np.ndarray:
    """[3, S, S] float32 in [0, 1], as the metadata "dreamood.preprocessing" says; the sample has the right size."""
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    return rgb.transpose(2, 0, 1) / 255


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def main(folder: Path, samples: Path) -> int:
    expected = json.loads((folder / "expected.json").read_text())
    session = onnxruntime.InferenceSession(folder / "detector.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    classes = session.get_modelmeta().custom_metadata_map["dreamood.classes"].split(",")
    if classes != expected["classes"]:
        print(f"classes {classes} in the file, {expected['classes']} in the mesh", file=sys.stderr)
        return 1

    archives = {p["archive"] for p in expected["pictures"]}
    opened = {a: zipfile.ZipFile(samples / a) for a in archives}
    energies, logits = [], []
    for at in range(0, len(expected["pictures"]), BATCH):
        part = expected["pictures"][at : at + BATCH]
        x = np.stack([image(opened[p["archive"]].read(p["file"])) for p in part])
        batch_logits, batch_energy = session.run(["logits", "energy"], {entry.name: x})
        logits.append(batch_logits)
        energies.append(batch_energy)
    logits, energy = np.concatenate(logits).astype(np.float64), np.concatenate(energies).astype(np.float64)

    want = {k: np.array([p[k] for p in expected["pictures"]]) for k in ("energy", "probability", "class")}
    figures = {
        "energy": np.abs(energy - want["energy"]).max(),
        "probability": np.abs(softmax(logits).max(1) - want["probability"]).max(),
        # And the file agrees with itself: the energy is logsumexp of the logits.
        "energy - logsumexp(logits)": np.abs(energy - np.log(np.exp(logits).sum(1))).max(),
    }
    wrong = int((np.array(classes)[logits.argmax(1)] != want["class"]).sum())
    print(f"{len(energy)} pictures, onnxruntime {onnxruntime.__version__}, energies {energy.min():.2f} to {energy.max():.2f}")
    for name, figure in figures.items():
        print(f"max |difference| of {name}: {figure:.2e} (at most {TOLERANCE:.0e})")
    print(f"other class: {wrong}")
    good = wrong == 0 and all(f <= TOLERANCE for f in figures.values())  # false for NaN, too
    return 0 if good and len(energy) > 0 else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
