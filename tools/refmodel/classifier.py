"""A judge for generated pictures: a CIFAR-10 classifier that is trained on real pictures only.

ResNet-9 (after D. Page's DAWNBench entry, 2018), width 32: bf16 autocast, SGD with Nesterov momentum, one cycle of
the learning rate, random crops and mirror images. It never sees a generated picture. Writes OUT/classifier.pt with the
test accuracy in it.

    python classifier.py --data DATA --out OUT --epochs 8 --threads 1
"""
import argparse
import io
import math
import os
import time
import zipfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

import world

WIDTH = 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training pictures
SMOOTHING = 0.1


class Block(nn.Sequential):
    """3×3 convolution, halved by max-pooling where asked, batch norm, ReLU."""

    def __init__(self, i, o, pool=False):
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.MaxPool2d(2) if pool else nn.Identity(),
                         nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(Block(width, width), Block(width, width))

    def forward(self, x):
        return x + self.body(x)


class ResNet9(nn.Module):
    """Pictures float32 [N, 3, 32, 32] in [0, 1] → logits [N, 10]; features() gives the penultimate layer [N, 8 width]."""

    def __init__(self, width=WIDTH, classes=10):
        super().__init__()
        w = width
        self.body = nn.Sequential(Block(3, w), Block(w, 2 * w, pool=True), Residual(2 * w), Block(2 * w, 4 * w, pool=True),
                                  Block(4 * w, 8 * w, pool=True), Residual(8 * w))
        self.head = nn.Linear(8 * w, classes)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def features(self, x):
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.body(x).amax((2, 3))

    def forward(self, x):
        return 0.125 * self.head(self.features(x))


def read_zip(path, labels=world.CLASSES):
    """The archive's test/<class>/<name> pictures: uint8 [N, 32, 32, 3] and class index int64 [N], as they lie in it."""
    xs, ys = [], []
    with zipfile.ZipFile(path) as z:
        for entry in z.infolist():
            if not entry.is_dir():
                xs.append(np.asarray(Image.open(io.BytesIO(z.read(entry))).convert("RGB")))
                ys.append(labels.index(entry.filename.split("/")[-2]))
    return np.stack(xs), np.array(ys, np.int64)


def to_float(x):
    """uint8 [N, H, W, 3] → float32 [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def judge(net, x, batch=500):
    """x float32 [N, 3, 32, 32] in [0, 1] → probabilities [N, 10] and features [N, 8 width], both float32 and in fp32."""
    net.eval()
    fs = torch.cat([net.features(x[k : k + batch]) for k in range(0, len(x), batch)])
    return F.softmax(0.125 * net.head(fs), 1), fs


def load(path):
    """The classifier of a checkpoint, ready to judge, and its test accuracy."""
    s = torch.load(path, weights_only=True, map_location="cpu")
    net = ResNet9(s["width"])
    net.load_state_dict(s["net"])
    return net.eval().to(memory_format=torch.channels_last), s["test_accuracy"]


def augment(x, gen):
    """Random mirror images and shifts of up to 4 px (reflected borders) of float32 [N, 3, 32, 32]."""
    n = len(x)
    flip = torch.rand(n, generator=gen) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    x = F.pad(x, (4, 4, 4, 4), mode="reflect")
    at = torch.randint(0, 9, (n, 2), generator=gen)
    rows = (at[:, 0, None] + torch.arange(32))[:, None, :, None]
    cols = (at[:, 1, None] + torch.arange(32))[:, None, None, :]
    return x[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, cols]


def one_cycle(done, peak):
    """The learning rate when the share `done` of all steps is over: up for a fifth, then a cosine to 0."""
    return peak * (done / 0.2 if done < 0.2 else 0.5 * (1 + math.cos(math.pi * (done - 0.2) / 0.8)))


def fit(net, x, y, epochs, batch, peak, gen, log):
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    opt = torch.optim.SGD([dict(params=decay, weight_decay=5e-4), dict(params=rest, weight_decay=0)], lr=peak,
                          momentum=0.9, nesterov=True)
    per, begin = len(x) // batch, time.time()
    for epoch in range(epochs):
        net.train()
        order, total = torch.randperm(len(x), generator=gen), 0.0
        for k in range(per):
            for group in opt.param_groups:
                group["lr"] = one_cycle((epoch * per + k) / (epochs * per), peak)
            rows = order[k * batch : (k + 1) * batch]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = net(augment(to_float(x[rows.numpy()]), gen))
            loss = F.cross_entropy(out.float(), y[rows], label_smoothing=SMOOTHING)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            total += loss.item()
        log(f"epoch {epoch + 1} loss {total / per:.4f} {(epoch + 1) * per * batch / (time.time() - begin):.0f} img/s")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--data", required=True, help="folder with cifar10_train_q92.tar.gz and cifar10_test.zip")
    p.add_argument("--out", required=True, help="folder of the training tool; its pictures.npz is used where it is there")
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=0.2, help="peak of the one cycle")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    x, y = world.load_pictures(a.data, a.out)
    own = y < 10
    x, y = x[own], torch.from_numpy(y[own])
    net = ResNet9().to(memory_format=torch.channels_last)
    fit(net, x, y, a.epochs, a.batch, a.lr, gen, lambda line: print(line, flush=True))
    tx, ty = read_zip(os.path.join(a.data, "cifar10_test.zip"))
    probs, _ = judge(net, to_float(tx))
    hit = (probs.argmax(1).numpy() == ty)
    accuracy = float(hit.mean())
    per_class = {world.CIFAR10[k]: float(hit[ty == k].mean()) for k in range(10)}
    path = os.path.join(a.out, "classifier.pt")
    torch.save(dict(net=net.state_dict(), width=WIDTH, epochs=a.epochs, test_accuracy=accuracy, per_class=per_class), path + ".tmp")
    os.replace(path + ".tmp", path)
    print(f"test accuracy {accuracy:.4f}", {k: round(v, 3) for k, v in per_class.items()})


if __name__ == "__main__":
    main()
