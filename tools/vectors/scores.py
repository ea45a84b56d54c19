"""Records what pytorch-ood and NumPy say of OOD scores on features of a real detector, for internal/score/method.

    pip install -r tools/vectors/scores.txt
    python tools/vectors/scores.py DETECTOR.onnx sample

DETECTOR.onnx is a plain detector of the mesh (`dreamood train plain … --width 8 --onnx DETECTOR.onnx`), sample the
folder of the pictures that ship with the project. Scores are computed twice: in float64 with NumPy, from the papers'
formulas, and with pytorch-ood, most of which casts to float32. The differences between the two are printed.
"""

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from PIL import Image
from pytorch_ood import detector as po
from safetensors.numpy import save_file
from scipy.special import logsumexp, softmax

OUT = Path(__file__).resolve().parents[2] / "internal" / "score" / "method" / "testdata"
TRAIN, TEST = 600, 60  # ID training pictures; test pictures of each set


def pictures(files):
    return np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("RGB"), np.float32).transpose(2, 0, 1) / 255 for f in files])


def zipped(path, n):
    z = zipfile.ZipFile(path)
    names = sorted(i.filename for i in z.infolist() if not i.is_dir())
    return pictures([z.read(names[k]) for k in np.linspace(0, len(names) - 1, n).astype(int)])


def train(path, n):
    with tarfile.open(path) as t:
        members = [m for m in t.getmembers() if m.isfile()]
        members.sort(key=lambda m: m.name)
        members = [members[k] for k in np.linspace(0, len(members) - 1, n).astype(int)]
        classes = sorted({Path(m.name).parent.name for m in members})
        return pictures([t.extractfile(m).read() for m in members]), np.array([classes.index(Path(m.name).parent.name) for m in members])


def reference(zt, y, z, w, b):
    """The scores of rows z [M, D] in float64, with the defaults of internal/score/method; higher is more ID."""
    f, ft = z @ w.T + b, zt @ w.T + b
    c, d = w.shape
    lse = lambda x: logsumexp(x, axis=1)
    p = softmax(f, axis=1)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    out = {"msp": p.max(1), "maxlogit": f.max(1), "energy": lse(f), "gen": -(p**0.1 * (1 - p) ** 0.1).sum(1)}

    out["react"] = lse(np.minimum(z, np.percentile(zt, 90)) @ w.T + b)
    def top(percentile):
        k = d - int(np.round(d * percentile / 100))
        at = np.argsort(-z, axis=1, kind="stable")[:, :k]
        keep = np.zeros_like(z)
        np.put_along_axis(keep, at, np.take_along_axis(z, at, 1), 1)
        return keep, np.exp(z.sum(1) / keep.sum(1))[:, None]
    keep, factor = top(90)
    out["ash-s"] = lse((keep * factor) @ w.T + b)
    out["scale"] = lse((z * top(85)[1]) @ w.T + b)

    dist = np.sort(np.linalg.norm(unit(z)[:, None] - unit(zt)[None], axis=2), axis=1)
    out["knn"] = -dist[:, 49]
    bank = unit(zt) * lse(ft)[:, None]
    out["nnguide"] = lse(f) * np.sort(unit(z) @ bank.T, axis=1)[:, -min(100, len(zt) // 10) :].mean(1)

    mu = np.stack([zt[y == k].mean(0) for k in range(c)])
    inverse = lambda dev: np.linalg.pinv(dev.T @ dev / len(dev), rcond=1e-9, hermitian=True)
    within, whole = inverse(zt - mu[y]), inverse(zt - zt.mean(0))
    maha = lambda v, prec: np.einsum("...i,ij,...j->...", v, prec, v)
    classes = maha(z[:, None] - mu[None], within)
    out["mds"] = -classes.min(1)
    out["rmds"] = maha(z - zt.mean(0), whole) - classes.min(1)

    u = -np.linalg.pinv(w) @ b
    vectors = np.linalg.eigh((zt - u).T @ (zt - u) / len(zt))[1][:, : d - d // 2]
    residual = lambda x: np.linalg.norm((x - u) @ vectors, axis=1)
    out["vim"] = lse(f) - ft.max(1).mean() / residual(zt).mean() * residual(z)

    best, dev = f.argmax(1), z - zt.mean(0)
    between = np.linalg.norm(w[:, None] - w[None], axis=2) + np.eye(c)
    out["fdbd"] = ((f.max(1)[:, None] - f) / between[best]).sum(1) / (c - 1) / np.linalg.norm(dev, axis=1)
    out["nci"] = (w[best] * dev).sum(1) / np.linalg.norm(dev, axis=1) + 1e-4 * np.abs(z).sum(1)
    return out


def peers(zt, y, z, w, b):
    """The same from pytorch-ood, in its own types, with its constants set to ours and its sign turned."""
    t = lambda x: torch.tensor(x, dtype=torch.float64)
    c, d = w.shape
    torch.set_default_dtype(torch.float64)  # of the sums that it allocates itself
    head32 = torch.nn.Linear(d, c).float()
    head32.weight.data, head32.bias.data = t(w).float(), t(b).float()
    head64 = torch.nn.Linear(d, c)
    head64.weight.data, head64.bias.data = t(w), t(b)
    maps = lambda x: t(x)[:, :, None, None]
    flat = lambda x: head64(x.flatten(1))
    zt64, z64, yt, f = t(zt), t(z), torch.tensor(y), t(z @ w.T + b)
    fitted = lambda det: (det.fit_features(zt64, yt), det.predict_features(z64))[1]
    fitted32 = lambda det: (det.fit_features(zt64.float(), yt), det.predict_features(z64.float()))[1]
    react = po.ReAct(None, flat, percentile=0.9)
    react.fit_feature_maps(maps(zt), yt)
    n = len(zt)
    with torch.no_grad():
        out = {
            "msp": po.MaxSoftmax.score(f), "maxlogit": po.MaxLogit.score(f), "energy": po.EnergyBased.score(f),
            "gen": po.GEN.score(f, gamma=0.1) * c,  # a mean there, a sum in the paper
            "react": react.predict_feature_maps(maps(z)),
            "ash-s": po.ASH(None, flat, percentile=0.9).predict_feature_maps(maps(z)),
            "scale": po.SCALE(None, flat, percentile=0.85).predict_feature_maps(maps(z)),
            "knn": fitted(po.KNN(None, k=50)), "nnguide": fitted32(po.NNGuide(None, head32, k=min(100, n // 10))),
            # It sums the outer products where the paper takes their mean, and halves the squared distance in MDS.
            "mds": fitted(po.Mahalanobis(None)) * 2 * n, "rmds": fitted(po.RMD(None)) * n,
            "vim": fitted32(po.ViM(None, d // 2, t(w), t(b))),
            "fdbd": fitted32(po.fDBD(None, head32)), "nci": fitted32(po.NCI(None, head32, alpha=1e-4)),
        }
    return {k: -v.detach().double().numpy() for k, v in out.items()}


def main(model, sample):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    stored = {i.name: numpy_helper.to_array(i) for i in onnx.load(model).graph.initializer}
    w32, b32 = stored["fc.weight"], stored["fc.bias"]
    x, y = train(sample / "cifar10_train.tar.gz", TRAIN)
    tests = [zipped(sample / f, TEST) for f in ("cifar10_test.zip", "ood_textures.zip")]
    features = lambda a: session.run(["features"], {"image": a})[0]
    zt32, z32 = features(x), features(np.concatenate(tests))
    zt, z, w, b = (a.astype(np.float64) for a in (zt32, z32, w32, b32))
    print(f"features {zt.shape}, {(zt.max(0) == 0).sum()} always zero, {(zt == 0).mean():.1%} of the values are zero")
    ours, theirs = reference(zt, y, z, w, b), peers(zt, y, z, w, b)
    for name in ours:
        print(f"{name:9s} {ours[name].min():10.4f} to {ours[name].max():9.4f}   NumPy - pytorch-ood: {np.abs(ours[name] - theirs[name]).max():.1e}")
    OUT.mkdir(exist_ok=True)
    save_file(dict(train=zt32, test=z32, weight=w32, bias=b32), OUT / "features.safetensors")
    text = dict(labels=y.tolist(), numpy={k: v.tolist() for k, v in ours.items()}, pytorch_ood={k: v.tolist() for k, v in theirs.items()})
    (OUT / "scores.json").write_text(json.dumps(text) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.manual_seed(0)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
