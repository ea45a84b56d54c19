"""Measure a checkpoint of the reference model, with its averaged weights: does it draw the classes, and does it respond
to its token embeddings?

    python classifier.py --data DATA --out OUT
    python evaluate.py --data DATA --out OUT --checkpoint decayed.pt --report ../../models/reference/evaluation.json
    python evaluate.py --data DATA --out OUT --shipped ../../models/reference --report ../../models/reference/evaluation.json

The last form needs no checkpoint: it measures the ONNX files as they were shipped.
Writes the report (JSON, read by card.py) and the sheets of pictures. Each part is written when it is done, and kept when
another part is measured later for the same checkpoint (--parts). All sampling is DDIM in float32.
"""
import argparse
import json
import math
import os
import re
import time

import numpy as np
import torch
import torch.nn.functional as F

import classifier
import decoder
import judge as j
import model as m
import pictures
import reload
import train
import world

PROMPT = "A high-quality image of the {}"
STEPS, BATCH, NOISES = 20, 100, 400
EXTRAS = ["rose", "orange", "mountain", "palm_tree", "bus", "wolf"]
COLUMNS, STRIPS, STRIP_NOISES = 10, ["ship", "automobile", "horse", "cat"], 6
COSINES = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
PAIRS = [("ship", "automobile"), ("horse", "cat"), ("airplane", "frog"), ("dog", "truck"), ("bird", "deer")]
GRID_GUIDANCE = 3.0  # of the sheets and the curves: the product's default
LIMIT = 400_000  # bytes of a sheet
# pictures: per class and guidance; more at GRID_GUIDANCE (for the FCD); per class and cosine; per pair and step; outliers
BUDGETS = {"quick": dict(count=10, more=16, curve=6, path=4, outliers=60), "full": dict(count=40, more=100, curve=8, path=8, outliers=100)}
PARTS = ["shares", "curve", "path", "outliers", "codec"]


class OnnxUnet:
    """The exported U-Net with the call of the PyTorch one."""

    def __init__(self, folder, threads):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(os.path.join(folder, "unet/model.onnx"), options, ["CPUExecutionProvider"])

    def __call__(self, sample, t, encoder_hidden_states):
        feed = dict(sample=sample.numpy(), timestep=np.array(float(t), np.float32), encoder_hidden_states=encoder_hidden_states.numpy())
        self.sample = torch.from_numpy(self.session.run(None, feed)[0])
        return self

    def check(self, unet, channels, hidden):
        """Refuses an export of other weights: fp16 weights may change a prediction by little, another step by much."""
        g = torch.Generator().manual_seed(0)
        z, cond = torch.randn(2, channels, 8, 8, generator=g), torch.randn(2, world.MAX_LENGTH, hidden, generator=g)
        want = unet(z, torch.tensor(500), encoder_hidden_states=cond).sample
        error = float((self(z, 500, cond).sample - want).abs().max() / want.abs().max())
        if error > 0.01:
            raise SystemExit(f"--onnx: its U-Net is not an export of this checkpoint (relative difference {error:.3f}): run export.py first")


class Sampler:
    """Draws pictures of classes of the world, under their words or under embeddings in the words' places."""

    def __init__(self, model):
        self.model, self.drawn = model, 0
        self.anchors = model.anchors(world.CLASSES).detach()
        self.unit = F.normalize(self.anchors, dim=1)
        self.noise = {}

    def noises(self, cls, n):
        """The first n starting noises of a class: the same in every part, so that curves compare like with like."""
        if cls not in self.noise:
            g = torch.Generator().manual_seed(100 + cls)
            self.noise[cls] = torch.randn(NOISES, self.model.cfg["channels"], 8, 8, generator=g)
        return self.noise[cls][:n]

    def draw(self, own, noise, guidance, embeddings=None):
        """Classes [N], noise [N, C, 8, 8], embeddings [N, H] or None → pictures [N, 3, 32, 32] in [−1, 1]."""
        words, out = self.model.words, []
        ids = torch.tensor([words.ids(PROMPT.format(world.name(world.CLASSES[k]))) for k in own])
        mask = ids == torch.tensor([words.word(world.CLASSES[k]) for k in own])[:, None]
        for k in range(0, len(own), BATCH):
            part = slice(k, k + BATCH)
            override = (None, None) if embeddings is None else (mask[part], embeddings[part])
            out.append(self.model.sample(ids[part], *override, steps=STEPS, guidance=guidance, noise=noise[part]))
        self.drawn += len(own)
        return torch.cat(out)

    def classes(self, classes, n, guidance):
        """n pictures of each class, class by class, and their classes."""
        own = np.repeat(classes, n)
        return self.draw(own, torch.cat([self.noises(k, n) for k in classes]), guidance), own


def rounded(value, digits=4):
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    return round(value, digits) if isinstance(value, float) else value


def shares(s, judge, a):
    """Of the pictures drawn for a class, the share that the classifier gives to it; the FCD; grid.png."""
    out = {}
    for guidance in a.guidance:
        n = a.more if guidance == GRID_GUIDANCE else a.count
        drawn, own = s.classes(range(10), n, guidance)
        probs, features = judge.look(drawn)
        per = {world.CIFAR10[k]: j.summary(probs[own == k], own[own == k]) for k in range(10)}
        taken = probs.argmax(1)
        table = [[int((taken[own == k] == i).sum()) for i in range(10)] for k in range(10)]
        out[f"{guidance:g}"] = {**j.summary(probs, own), "per_class": per, "confusion": table,
                                "fcd_classes": judge.fcd(features, "classes"), "fcd_world": judge.fcd(features, "world")}
        print(f"guidance {guidance:g}: share {out[f'{guidance:g}']['share']:.3f}", {c: round(v["share"], 2) for c, v in per.items()}, flush=True)
        if guidance == GRID_GUIDANCE:
            grid(s, a, pictures.to_uint8(drawn).reshape(10, n, 32, 32, 3))
    return out


def grid(s, a, ten):
    columns = min(COLUMNS, ten.shape[1])
    more, _ = s.classes([world.CLASSES.index(c) for c in EXTRAS], columns, GRID_GUIDANCE)
    rows = np.concatenate([ten[:, :columns], pictures.to_uint8(more).reshape(len(EXTRAS), columns, 32, 32, 3)])
    page = pictures.sheet(rows, [world.name(c) for c in world.CIFAR10 + EXTRAS], gaps=(10,))
    print("grid.png, bits per channel:", pictures.write_png(os.path.join(a.pictures, "grid.png"), page, LIMIT), flush=True)


def directions(s, own, seed):
    """Random unit directions [N, H], orthogonal to the anchors of the classes own [N]."""
    v = torch.randn(len(own), s.unit.shape[1], generator=torch.Generator().manual_seed(seed))
    anchor = s.unit[own]
    return F.normalize(v - (v * anchor).sum(1, keepdim=True) * anchor, dim=1)


def curve(s, judge, a):
    """The response to embeddings that leave a class's anchor in random directions; response.png."""
    n, out, kept = max(a.curve, STRIP_NOISES), [], []
    own = np.repeat(np.arange(10), n)
    noise, u = torch.cat([s.noises(k, n) for k in range(10)]), directions(s, own, 1)
    strips = [np.flatnonzero(own == world.CIFAR10.index(c))[:STRIP_NOISES] for c in STRIPS]
    for c in COSINES:
        e = train.ANCHOR_NORM * (c * s.unit[own] + math.sqrt(1 - c * c) * u)
        drawn = s.draw(own, noise, GRID_GUIDANCE, e)
        probs, features = judge.look(drawn)
        row = {"cosine": c, **j.summary(probs, own), "fcd_classes": judge.fcd(features, "classes"),
               "fcd_world": judge.fcd(features, "world"), "intended": judge.intended(e, own, s.anchors),
               "per_class": {world.CIFAR10[k]: float((probs[own == k].argmax(1) == k).mean()) for k in range(10)}}
        out.append(row)
        kept.append(pictures.to_uint8(drawn))
        print(f"cosine {c:.1f}: share {row['share']:.3f} (asked for {row['intended']['share']:.3f}) confidence {row['confidence']:.3f} sure {row['sure']:.3f} "
              f"fcd to classes {row['fcd_classes']['fcd']:.1f}, to the world {row['fcd_world']['fcd']:.1f}", flush=True)
    rows = [np.stack([k[i] for k in kept]) for strip in strips for i in strip]
    labels = [c if i == 0 else "" for c in STRIPS for i in range(STRIP_NOISES)]
    page = pictures.sheet(rows, labels, [f"{c:.1f}" for c in COSINES], range(STRIP_NOISES, len(rows), STRIP_NOISES))
    print("response.png, bits per channel:", pictures.write_png(os.path.join(a.pictures, "response.png"), page, LIMIT), flush=True)
    return out


def path(s, judge, a):
    """The way from one class's anchor to another's, along the great circle: first, second, another class, unsure."""
    out = []
    pairs = [(world.CIFAR10.index(p), world.CIFAR10.index(q)) for p, q in PAIRS]
    first, second = np.repeat([p for p, _ in pairs], a.path), np.repeat([q for _, q in pairs], a.path)
    noise = torch.cat([s.noises(p, a.path) for p, _ in pairs])
    angle = torch.acos((s.unit[first] * s.unit[second]).sum(1, keepdim=True))
    for t in np.linspace(0, 1, 11):
        e = (torch.sin((1 - t) * angle) * s.unit[first] + torch.sin(t * angle) * s.unit[second]) / torch.sin(angle)
        probs, _ = judge.look(s.draw(first, noise, GRID_GUIDANCE, train.ANCHOR_NORM * e))
        sure, taken = probs.max(1) >= j.SURE, probs.argmax(1)
        one, two = float((sure & (taken == first)).mean()), float((sure & (taken == second)).mean())
        cosines = [float((e * s.unit[k]).sum(1).mean()) for k in (first, second)]
        out.append({"t": round(float(t), 1), "cosine_first": cosines[0], "cosine_second": cosines[1], "first": one, "second": two,
                    "another": float(sure.mean()) - one - two, "unsure": float(1 - sure.mean()), "n": len(first)})
        print(f"way {t:.1f}: first {one:.2f} second {two:.2f} another {out[-1]['another']:.2f} unsure {out[-1]['unsure']:.2f}", flush=True)
    return {"pairs": PAIRS, "points": out}


def outliers(s, judge, a):
    """The sampler's own outliers: embeddings float32 [10, N, H], classes in the order of CIFAR-10."""
    e = np.load(a.outliers)
    if e.ndim != 3 or e.shape[0] != 10 or e.shape[2] != s.unit.shape[1]:
        raise SystemExit(f"--outliers {a.outliers}: shape {e.shape}, wanted [10, N, {s.unit.shape[1]}] (write it with `dreamood demo`)")
    n = min(e.shape[1], math.ceil(a.outlier_count / 10))
    own = np.repeat(np.arange(10), n)
    e = torch.from_numpy(e[:, :n].reshape(-1, e.shape[2]).astype(np.float32))
    cosine = F.cosine_similarity(e, s.unit[own], dim=1)
    probs, features = judge.look(s.draw(own, torch.cat([s.noises(k, n) for k in range(10)]), GRID_GUIDANCE, e))
    other = (F.normalize(e, dim=1) @ s.unit.T).scatter(1, torch.from_numpy(own)[:, None], -1).max(1).values
    row = {**j.summary(probs, own), "cosine": float(cosine.mean()), "cosine_min": float(cosine.min()), "cosine_max": float(cosine.max()),
           "cosine_other": float(other.mean()), "intended": judge.intended(e, own, s.anchors),
           "fcd_classes": judge.fcd(features, "classes"), "fcd_world": judge.fcd(features, "world")}
    print("outliers:", {k: rounded(v, 3) for k, v in row.items()}, flush=True)
    return row


def codec(s, judge, a):
    """What is lost in the latents alone: PSNR of 2,000 test pictures, every fifth of each class."""
    x, y = classifier.read_zip(os.path.join(a.data, "cifar10_test.zip"))
    x = classifier.to_float(x[np.concatenate([np.flatnonzero(y == k)[::5] for k in range(10)])]) * 2 - 1
    back = ((s.model.decode(s.model.codec.encode(x)).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    error = (back - x).pow(2).mean((1, 2, 3))
    own = np.repeat(np.arange(10), 200)
    probs, _ = judge.look(back)
    return {"psnr": 10 * math.log10(4 / float(error.mean())), "psnr_of_pictures": float((10 * torch.log10(4 / error)).mean()),
            "accuracy": j.summary(probs, own)["share"], "accuracy_without": j.summary(judge.look(x)[0], own)["share"], "n": 2000}


def anchors(s):
    """The cosines between the classes' words: a class whose word lies near another's is not apart from it."""
    cos = s.unit @ s.unit.T - 2 * torch.eye(len(s.unit))
    ten = [(float(cos[p, q]), world.CIFAR10[p], world.CIFAR10[q]) for p in range(10) for q in range(p)]
    near = [[c, world.CLASSES[int(cos[k].argmax())], float(cos[k].max())] for k, c in enumerate(world.CIFAR10)]
    return {"norm": train.ANCHOR_NORM, "mean_norm": float(s.anchors.norm(dim=1).mean()), "mean_cosine": float(np.mean([t[0] for t in ten])),
            "closest_pairs": [[p, q, round(v, 3)] for v, p, q in sorted(ten)[:-6:-1]], "nearest": [[c, o, round(v, 3)] for c, o, v in near]}


def write(path, report):
    text = json.dumps(rounded(report), indent=1)
    text = re.sub(r"\[[^\[\]{}]+\]", lambda flat: re.sub(r"\s+", " ", flat[0]), text)  # a list of plain values on one line
    with open(path + ".tmp", "w") as f:
        f.write(text + "\n")
    os.replace(path + ".tmp", path)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder of the CIFAR archives")
    p.add_argument("--out", required=True, help="the training tool's folder: checkpoints, tokenizer, classifier.pt")
    p.add_argument("--checkpoint", default="train.pt", help="file in OUT")
    p.add_argument("--report", required=True, help="JSON to write")
    p.add_argument("--pictures", help="folder of the sheets (pictures/ beside the report)")
    p.add_argument("--budget", choices=BUDGETS, default="full")
    p.add_argument("--guidance", default="1.5,3,5,7.5", type=lambda text: [float(g) for g in text.split(",")])
    p.add_argument("--count", type=int, help="pictures per class at every guidance, instead of the budget's")
    p.add_argument("--outliers", help="embeddings.npy of a demo, [10, N, H]")
    p.add_argument("--shipped", help="folder of an exported model: measure its files, not a checkpoint; the report keeps its training's history")
    p.add_argument("--onnx", help="folder of the exported model: run its U-Net with onnxruntime")
    p.add_argument("--parts", default=PARTS, type=lambda text: text.split(","), help="of " + ",".join(PARTS))
    p.add_argument("--continues", action="store_true", help="the training started from the model that the report is about")
    p.add_argument("--widths", default="112,208")
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    if set(a.parts) - set(PARTS):
        p.error(f"--parts: {','.join(sorted(set(a.parts) - set(PARTS)))} not among {','.join(PARTS)}")
    budget = BUDGETS[a.budget]
    a.more, a.count = a.count or budget["more"], a.count or budget["count"]
    if a.more > NOISES or a.count > NOISES:
        p.error(f"--count: at most {NOISES}")
    a.curve, a.path, a.outlier_count = budget["curve"], budget["path"], budget["outliers"]
    a.pictures = a.pictures or os.path.join(os.path.dirname(os.path.abspath(a.report)), "pictures")
    return a


def opened(a):
    """The model with the weights that are to be measured, their training step and its loss history."""
    widths = tuple(int(w) for w in a.widths.split(","))
    if not a.shipped:
        model = m.Model(os.path.join(a.out, "tokenizer"), widths=widths)
        step, history = m.load_ema(model, os.path.join(a.out, a.checkpoint))
        decoder.load(model, a.out)
        return model, step, history
    model = m.Model(os.path.join(a.shipped, "tokenizer"), widths=widths)
    reload.load(model, a.shipped)
    for part in (model.unet, model.text):
        part.eval()
    with open(a.report) as f:
        old = json.load(f)
    a.onnx = a.shipped
    return model, old["checkpoint"]["step"], old["history"]


def described(a, step):
    """What was measured; of shipped files, the checkpoint that they were exported from."""
    if a.shipped:
        with open(a.report) as f:
            return json.load(f)["checkpoint"]
    return {"file": a.checkpoint, "sha256": j.sha256(os.path.join(a.out, a.checkpoint)), "step": step}


@torch.no_grad()
def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    os.makedirs(a.pictures, exist_ok=True)
    model, step, history = opened(a)
    judge, sampler = j.Judge(os.path.join(a.out, "classifier.pt"), a.data, a.out), Sampler(model)
    parameters = {part: sum(q.numel() for q in getattr(model, part).parameters()) for part in ("unet", "text", "codec", "refine")}
    report = {"checkpoint": described(a, step), "parameters": parameters,
              "config": {**model.cfg, "length": world.MAX_LENGTH, "vocabulary": len(model.words.vocab), "layers": model.text.config.num_hidden_layers},
              "history": history[:: max(1, len(history) // 100)], "sampling": {"prompt": PROMPT, "steps": STEPS, "scheduler": "DDIM", "guidance": GRID_GUIDANCE}}
    if os.path.exists(a.report):
        with open(a.report) as f:
            old = json.load(f)
        if old["checkpoint"] == report["checkpoint"] and old["classifier"]["sha256"] == judge.sha:
            report |= {k: old[k] for k in PARTS + ["seconds", "earlier"] if k in old}
        elif a.shipped:
            report |= {k: old[k] for k in ["earlier"] if k in old}
        elif a.continues:
            report["earlier"] = old.get("earlier", []) + [{"step": old["checkpoint"]["step"], "history": old["history"]}]
    report["classifier"] = {"test_accuracy": judge.accuracy, "sha256": judge.sha, "components": j.COMPONENTS, "variance_kept": judge.kept,
                            "sure": judge.sure, "fcd_classes_world": judge.scale}
    report["anchors"] = anchors(sampler)
    if a.onnx:
        exported = OnnxUnet(a.onnx, a.threads)
        exported.check(model.unet, model.cfg["channels"], model.cfg["hidden"])
        model.unet = exported
        report["sampling"]["unet_sha256"] = j.sha256(os.path.join(a.onnx, "unet/model.onnx"))
    write(a.report, report)
    for part in a.parts:
        if part == "outliers" and not a.outliers:
            continue
        begin, drawn = time.time(), sampler.drawn
        report[part] = globals()[part](sampler, judge, a)
        report.setdefault("seconds", {})[part] = {"seconds": round(time.time() - begin, 1), "pictures": sampler.drawn - drawn}
        write(a.report, report)


if __name__ == "__main__":
    main()
