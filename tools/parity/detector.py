"""Scores pictures with a detector as anybody would: onnxruntime's Python package, NumPy and Pillow.

    detector.py FOLDER SAMPLES

FOLDER holds detector.onnx and expected.json, which `make parity` has the mesh write: what it says of every test
picture over gRPC. SAMPLES is the folder of the zip archives that expected.json names. Fails when a class or a decision
differs, or a probability or any score of the file by more than 1e-4 of itself, or of 1 where it is smaller.
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

    meta = session.get_modelmeta().custom_metadata_map
    decides, names = meta["dreamood.score"], [s["name"] for s in json.loads(meta["dreamood.scores"])]
    threshold = float(meta["dreamood.threshold." + decides])
    if decides != expected["decides"]:
        print(f"{decides} decides in the file, {expected['decides']} in the mesh", file=sys.stderr)
        return 1

    archives = {p["archive"] for p in expected["pictures"]}
    opened = {a: zipfile.ZipFile(samples / a) for a in archives}
    got = {name: [] for name in ["logits", *names]}
    for at in range(0, len(expected["pictures"]), BATCH):
        part = expected["pictures"][at : at + BATCH]
        x = np.stack([image(opened[p["archive"]].read(p["file"])) for p in part])
        for name, values in zip(got, session.run(list(got), {entry.name: x})):
            got[name].append(values)
    got = {name: np.concatenate(values).astype(np.float64) for name, values in got.items()}
    logits = got.pop("logits")

    want = {k: np.array([p[k] for p in expected["pictures"]]) for k in ("score", "probability", "class", "out")}
    all_scores = {k: np.array([p["scores"][k] for p in expected["pictures"]]) for k in expected["pictures"][0]["scores"]}
    if set(all_scores) != set(names):
        print(f"scores {sorted(names)} in the file, {sorted(all_scores)} in the mesh", file=sys.stderr)
        return 1
    pairs = {
        "probability": (softmax(logits).max(1), want["probability"]),
        "the score that decides": (got[decides], want["score"]),
        # And the file agrees with itself: the energy is logsumexp of the logits.
        "energy - logsumexp(logits)": (got["energy"], np.log(np.exp(logits).sum(1))),
    } | {name: (got[name], all_scores[name]) for name in names}
    wrong = int((np.array(classes)[logits.argmax(1)] != want["class"]).sum())
    other = int(((got[decides] < threshold) != want["out"]).sum())
    print(f"{len(logits)} pictures, onnxruntime {onnxruntime.__version__}, {decides} decides at {threshold:.4f}")
    print(f"{'':28s} {'smallest':>10s} {'largest':>10s}   max |difference|, and relative to max(1, |score|)")
    good = wrong == 0 and other == 0
    for name, (ours, theirs) in pairs.items():
        off = np.abs(ours - theirs)
        relative = (off / np.maximum(1, np.abs(theirs))).max()
        good = good and relative <= TOLERANCE  # false for NaN, too
        print(f"{name:28s} {ours.min():10.3f} {ours.max():10.3f}   {off.max():.1e}   {relative:.1e}")
    print(f"other class: {wrong}, other decision: {other}")
    return 0 if good and len(logits) > 0 else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
