"""The model card: README.md of the exported model, from the report of evaluate.py and the files as they are.

    python card.py --model ../../models/reference

Every figure comes from evaluation.json or is counted here. What a person saw in the sheets stands in notes.md, for the
checkpoint that it names in its first line; it is left out of the card of another checkpoint.
"""
import argparse
import json
import os

import chart
import conditioning as c
import judge as j
import train
import world

BATCH = 128
PILOT_STEPS = 3994  # of the pilot, whose weights the training starts from
EARLIER_SHARE = 0.4  # of exact words in the batches of the runs before the last one (train.EXACT)
SKIP = {"README.md", "evaluation.json"}


def percent(x):
    return f"{100 * x:.0f} %" if x >= 0.0995 or x == 0 else f"{100 * x:.1f} %"


def table(head, rows):
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)] + rows
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def opening(r):
    at, used = r["shares"][default(r)], default(r)
    more = ", ".join(f"{percent(q['share'])} at {g}" for g, q in sorted(r["shares"].items(), key=lambda p: float(p[0])) if g != used)
    return f"""# reference: a small text-conditioned latent diffusion model for 32-px pictures

All the parts of Stable Diffusion in the stock Diffusers layout (tokenizer, CLIP text encoder, U-Net with cross-attention, codec in the VAE's place, scheduler), small enough to train and run on two CPU cores. dreamood uses it for the demo, the tests and the experiments that need no GPU. Its world, the 110 classes of CIFAR-10 and CIFAR-100, is wider than the ten ID classes.

- A classifier that was trained on real pictures only ({percent_exact(r['classifier']['test_accuracy'])} on CIFAR-10's test pictures) gives **{percent(at['share'])}** of the pictures to the class they were drawn for (guidance {used}, the default; {at['n']} pictures; {more}).
- The pictures follow their token embeddings: {percent(row(r, 0.9)['share'])} of the class at a cosine of 0.9 to the word, {percent(row(r, 0.6)['share'])} at 0.6, {percent(row(r, 0.3)['share'])} at 0.3.

![Generated pictures, one row per class](pictures/grid.png)

*DDIM, {r['sampling']['steps']} steps, guidance {used}, prompt “{r['sampling']['prompt'].format('…')}”. The first ten rows are the classes of CIFAR-10, the last six are from CIFAR-100. The first noises of a fixed seed, not chosen.*
"""


def default(r):
    """The guidance of the sheets and curves."""
    return f"{r['sampling']['guidance']:g}"


def percent_exact(x):
    return f"{100 * x:.1f} %"


def row(r, cosine):
    return next(p for p in r["curve"] if p["cosine"] == cosine)


def facts(r, sizes, decay):
    n, k = r["parameters"], r["config"]
    step = r["checkpoint"]["step"]
    seen = lambda steps: f"{steps * BATCH:,} pictures"
    earlier = sum(e["step"] for e in r.get("earlier", []))
    before = f"{earlier:,} steps ({seen(earlier)}) with the conditioning below and {percent(EARLIER_SHARE)} exact words, then " if earlier else ""
    decay_text = f", the last {decay} with the learning rate going down to 0" if decay else ""
    rows = [
        ["Tokenizer", f"byte-level BPE as CLIP's, {k['vocabulary']} tokens; every word of the prompts and class names is one token; {k['length']} positions"],
        ["Text encoder", f"CLIPTextModel, {k['layers']} layers of {k['hidden']}, {n['text'] / 1e6:.2f} M parameters"],
        ["U-Net", f"UNet2DConditionModel, widths {' and '.join(map(str, k['widths']))}, one block per level, cross-attention at each, {n['unet'] / 1e6:.2f} M parameters"],
        ["Codec", f"linear: 4×4 patches on their first {k['channels']} principal components, a strided convolution and its transpose; latents {k['channels']}×8×8; {n['codec']:,} parameters. After the linear decoder a small convolutional network ({n['refine'] / 1e3:.0f} k parameters, trained on real pictures) takes the patches' borders away"],
        ["Diffusion", "1,000 steps, scaled-linear β 0.00085 to 0.012, v-prediction, min-SNR-5 weights; sampled with DDIM or PNDM and classifier-free guidance"],
        ["Files", f"ONNX, {sum(sizes.values()) / 1e6:.1f} MB in all; large weights are stored as float16 and computed with as float32"],
        ["Training", f"started from the pilot's weights ({PILOT_STEPS:,} steps of {BATCH}, {seen(PILOT_STEPS)}, same data, with noise on the embeddings), then {before}{step:,} steps ({seen(step)}) as told below{decay_text}; AdamW, bfloat16 on two CPU cores, averaged weights"],
        ["Data", "training sets of CIFAR-10 (50,000) and CIFAR-100 (50,000), stored as JPEG of quality 92, and their mirror images; 60 % of the chosen classes are CIFAR-10's"],
        ["Prompts", f"{len(world.TEMPLATES)} templates: " + ", ".join(f"“{t}”" for t in world.TEMPLATES) + f"; empty in {percent(train.NULL)} of the cases, for guidance"],
    ]
    return "## What it is\n\n" + table(["part", "as trained"], rows).replace("--:", "---") + "\n![Loss over steps](pictures/loss.svg)\n\n*Weighted v-prediction loss since the pilot, a running mean over about 50 steps that starts anew where a session was resumed (the jumps). It hardly falls, because most of it is noise that no model can predict, and because a mixture of classes is asked for under a far embedding. Judge by the pictures.*\n"


def meaning():
    return f"""## What a token embedding means

The pilot of this model was trained with noise on the token embeddings and learned to ignore them: down to a cosine of 0.3 to the word its pictures hardly changed. Outliers from such a model are ID pictures under a wrong label. Here the meaning is laid down for the whole space (`tools/refmodel/conditioning.py`). With the unit anchors a_k, one per class of the world, a unit embedding e shows a picture of class k with probability

    p(k | e) = (n_k + q_k) / (1 + Σ_j n_j)
    n_k = exp({c.S:g} (cos(e, a_k) − {c.C0:g}))       near an anchor: its class
    q = softmax({c.R:g} t(cos(e, a_k)))             elsewhere: the words that the direction leans to
    t(x) = x for x ≤ {c.M:g}, max({2 * c.M:g} − x, 0) above   but not the word at whose border it lies

{percent(1 - train.NULL - train.EXACT)} of each batch are embeddings around the anchors (cosines from 0.05 to 1, in random directions or leaning to another word) with pictures drawn from this distribution, {percent(train.EXACT)} exact words and {percent(train.NULL)} empty prompts. The rows that stand for classes are kept at the norm {train.ANCHOR_NORM:g}: only the direction says something. The rule is put in by hand; a large model has to have learned the like.
"""


def response(r):
    rows = [[f"{p['cosine']:.1f}", percent(p["share"]), percent(p["confidence"]), percent(p["intended"]["share"]), percent(p["sure"]),
             f"{p['fcd_classes']['fcd']:.1f}", f"{p['fcd_world']['fcd']:.1f}"] for p in r["curve"]]
    one = r["curve"][0]
    head = ["cosine", "given to the class", "mean confidence in it", "asked for", "over 0.5 for any class", "FCD to the classes", "FCD to the world"]
    text = f"""## Response curve

![Share of the class over the cosine](pictures/response.svg)

Embedding = {r['anchors']['norm']:g} · (c·a + √(1−c²)·u) in the place of the class's word, u a random direction orthogonal to the anchor a; ten classes, {one['n']} pictures at each cosine, the same noises and directions at all of them, guidance {default(r)}.

"""
    sure = r["classifier"]["sure"]
    text += table(head, rows) + f"""
“Asked for” is what the classifier would give to the class if the pictures were real ones drawn from p(k | e): it has ten answers for 110 classes, so some pictures of other things count for the class at any cosine. Guidance makes the likeliest class likelier than p. The classifier is over 0.5 for one of its ten classes on {percent(sure['cifar100'])} of real CIFAR-100 pictures ({percent(sure['classes'])} of CIFAR-10's), so a high value far from the anchor does not mean that a picture shows such a class. FCD: see below; real pictures get {one['fcd_classes']['floor']:.1f} and {one['fcd_world']['floor']:.1f} at this number.

![Pictures along the curve](pictures/response.png)

*Columns: cosine to the word. Each row is one noise and one direction.*
"""
    return text + outliers(r) + way(r)


def outliers(r):
    o = r.get("outliers")
    if not o:
        return ""
    return f"""
**The sampler's own outliers** ({o['n']} embeddings of a `dreamood demo`, k-NN boundary and low likelihood): their cosine to the word is {o['cosine']:.2f} on average ({o['cosine_min']:.2f} to {o['cosine_max']:.2f}), to the nearest other word {o['cosine_other']:.2f}. The classifier gives {percent(o['share'])} of their pictures to the class they come from (mean confidence {percent(o['confidence'])}; asked for {percent(o['intended']['share'])}) and is over 0.5 for one of the ten in {percent(o['sure'])}. FCD to the world {o['fcd_world']['fcd']:.1f} (real pictures: {o['fcd_world']['floor']:.1f}), to the classes {o['fcd_classes']['fcd']:.1f} ({o['fcd_classes']['floor']:.1f}).
"""


def way(r):
    w = r.get("path")
    if not w:
        return ""
    rows = [[f"{p['t']:.1f}", f"{p['cosine_first']:.2f}", f"{p['cosine_second']:.2f}", percent(p["first"]), percent(p["second"]),
             percent(p["another"]), percent(p["unsure"])] for p in w["points"]]
    pairs = ", ".join(f"{p} to {q}" for p, q in w["pairs"])
    return f"""
**From one word to another** along the great circle ({pairs}; {w['points'][0]['n']} pictures at each point; a picture counts for a class when the confidence is at least 0.5, else as unsure):

""" + table(["way", "cosine to first", "cosine to second", "first", "second", "another", "unsure"], rows)


def classes(r):
    levels = list(r["shares"])
    rows = [[name] + [percent(r["shares"][g]["per_class"][name]["share"]) for g in levels] for name in world.CIFAR10]
    rows.append(["**all**"] + [f"**{percent(r['shares'][g]['share'])}**" for g in levels])
    rows.append(["pictures"] + [r["shares"][g]["n"] for g in levels])
    rows.append(["FCD to the classes (real)"] + [f"{r['shares'][g]['fcd_classes']['fcd']:.1f} ({r['shares'][g]['fcd_classes']['floor']:.1f})" for g in levels])
    a, k = r["anchors"], r["classifier"]
    close = ", ".join(f"{p} and {q} {v:.2f}" for p, q, v in a["closest_pairs"][:3])
    near = ", ".join(f"{p} {q} {v:.2f}" for p, q, v in a["nearest"] if v >= 0.6)
    return "## Class shares\n\n" + table(["given to their class"] + [f"guidance {g}" for g in levels], rows) + f"""
The judge is a ResNet-9 trained on CIFAR-10's real training pictures (`tools/refmodel/classifier.py`; {percent_exact(k['test_accuracy'])} on the test set). **FCD** is the Fréchet distance in the features of this CIFAR-10 classifier (penultimate layer, on the {j.COMPONENTS} leading principal components, {percent(k['variance_kept'])} of the variance) between generated and real test pictures; it is **not comparable with FID**. In brackets: as many real pictures against the same reference. For the scale: CIFAR-10's real pictures are {k['fcd_classes_world']:.0f} away from the real pictures of all 110 classes.

Words that lie close: {close}; the nearest words in the world at a cosine of 0.6 or more: {near or 'none'}. Between such words a class has no border of its own: their outliers may show the neighbour.
"""


def codec(r):
    q = r["codec"]
    return f"""## Codec

{q['psnr']:.1f} dB PSNR over {q['n']:,} test pictures of CIFAR-10 (mean of the pictures' own values {q['psnr_of_pictures']:.1f} dB). The classifier is right on {percent_exact(q['accuracy'])} of them after the codec and on {percent_exact(q['accuracy_without'])} before.
"""


def use():
    return """## Use and limits

Made for developing, demonstrating and testing outlier imagination at 32 px. A result with it shows that the pipeline works, not how well Dream-OOD works with Stable Diffusion: the world is small, and how the pictures fade around a word was put in by hand.

- Pictures are 32 px wide and look like CIFAR's, at best. Details are missing; many animals are recognised by colour and stance. No use beyond such research: no likeness, no people (the classes baby, boy, girl, man and woman are there and are drawn as badly as the rest).
- It knows the words of its 110 classes and of its templates. Other words become bytes that it was never trained on.
- A class of two words (palm tree, pickup truck) stands in the token table with its first word only.
- It has seen CIFAR-100's training pictures. An OOD figure on CIFAR-100 must say so.
- The classifier that measures it is itself wrong on some real pictures and always says one of ten.

## Data and terms

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, technical report, University of Toronto, 2009 (CIFAR-10, CIFAR-100). The authors ask for citation; no licence is stated. The pictures come from the 80 Million Tiny Images collection, which its authors withdrew in 2020 for offensive labels and pictures (CIFAR was not withdrawn). What that means for weights that were trained on them is not settled: use them for research and tests.
"""


def reproduce(r, decay):
    steps = r["checkpoint"]["step"] - decay
    last = f"    python train.py --data DATA --out OUT --decay {decay}\n" if decay else ""
    return f"""## Make it again

In `tools/refmodel` (packages in `requirements.txt`); DATA holds the archives, OUT the checkpoints:

    python train.py --data DATA --out OUT --steps {steps} --compile     # --init PILOT starts from the pilot's weights
{last}    python decoder.py --data DATA --out OUT
    python classifier.py --data DATA --out OUT
    python export.py --out OUT --checkpoint {r['checkpoint']['file']} --model ../../models/reference --fp16
    python evaluate.py --data DATA --out OUT --checkpoint {r['checkpoint']['file']} --report ../../models/reference/evaluation.json --outliers ../../out/demo/embeddings.npy
    python card.py --model ../../models/reference{f" --decay {decay}" if decay else ""}

Without `--init` the training starts from nothing and needs the pilot's {PILOT_STEPS:,} steps more. Figures vary with the machine's arithmetic; seeds are fixed.
"""


def hashes(model, names):
    lines = [f"{j.sha256(os.path.join(model, name))}  {name}" for name in names]
    return "## Files (SHA-256)\n\n```\n" + "\n".join(lines) + "\n```\n"


def notes(r, path):
    if not os.path.exists(path):
        return ""
    with open(path) as f:
        first, _, text = f.read().partition("\n")
    if first.strip() != f"step {r['checkpoint']['step']}":
        print(f"{path} is about {first.strip()}, the report about step {r['checkpoint']['step']}: left out; look at the sheets and write it anew")
        return ""
    return "## What one sees\n\n" + text.strip() + "\n"


def plots(r, folder):
    os.makedirs(folder, exist_ok=True)
    points = lambda get: [(p["cosine"], get(p)) for p in r["curve"]]
    mark = (r["outliers"]["cosine"], "the sampler's outliers") if "outliers" in r else None
    response = chart.lines([("given to the class", points(lambda p: p["share"]), False), ("mean confidence", points(lambda p: p["confidence"]), False),
                            ("asked for in training", points(lambda p: p["intended"]["share"]), True)],
                           "cosine of the embedding to the class's word", "share of pictures", (0, 1), reverse=True, mark=mark)
    at, points = 0, []
    for part in [*r.get("earlier", []), {"step": 0, "history": r["history"]}]:
        points += [(at + step, value) for step, value in part["history"]]
        at += part["step"]
    loss = chart.lines([("loss", points, False)], "step", "loss")
    for name, text in (("response.svg", response), ("loss.svg", loss)):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)


def files(model):
    """The model's own files, by path below its folder."""
    found = []
    for folder, _, names in os.walk(model):
        relative = os.path.relpath(folder, model)
        if relative.split(os.sep)[0] != "pictures":
            found += [os.path.normpath(os.path.join(relative, name)) for name in names]
    return sorted(name for name in found if name not in SKIP and not name.endswith(".tmp"))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--model", required=True, help="folder of the exported model; the card becomes its README.md")
    p.add_argument("--report", help="evaluation.json (the model folder's)")
    p.add_argument("--decay", type=int, default=0, help="how many of the checkpoint's steps were decay (train.py --decay)")
    p.add_argument("--notes", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "notes.md"))
    a = p.parse_args()
    with open(a.report or os.path.join(a.model, "evaluation.json")) as f:
        r = json.load(f)
    missing = [part for part in ("shares", "curve", "codec") if part not in r]
    if missing or default(r) not in r.get("shares", {}):
        raise SystemExit(f"the report lacks {', '.join(missing) or 'guidance ' + default(r)}: run evaluate.py --parts {','.join(missing or ['shares'])}")
    names = files(a.model)
    used = r["sampling"].get("unet_sha256")
    if used and "unet/model.onnx" in names and used != j.sha256(os.path.join(a.model, "unet/model.onnx")):
        print("unet/model.onnx is not the one that was measured: run export.py and evaluate.py for the same checkpoint")
    plots(r, os.path.join(a.model, "pictures"))
    sizes = {name: os.path.getsize(os.path.join(a.model, name)) for name in names}
    parts = [opening(r), notes(r, a.notes), facts(r, sizes, a.decay), meaning(), response(r), classes(r), codec(r), use(), reproduce(r, a.decay), hashes(a.model, names)]
    with open(os.path.join(a.model, "README.md"), "w") as f:
        f.write("\n".join(part for part in parts if part))
    print(f"README.md: step {r['checkpoint']['step']}, {len(names)} files, {sum(sizes.values()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
