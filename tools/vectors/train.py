"""Records what PyTorch computes, for the tests of internal/train.

    python tools/vectors/train.py            # writes the testdata folders

Everything is computed in float64 and stored as float32 safetensors. Operators are
recorded whole; networks take their parameters and pictures from a formula that
the Go test repeats (`noise`), so only samples of gradients and results are stored.
"""
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import save_file

from networks import WRN, ResNet9, ResNet18

ROOT = Path(__file__).resolve().parents[2] / "internal" / "train"
torch.set_num_threads(1)


def noise(name, shape):
    """Values in [-1, 1) from 16 bits of a hash of name and index: exact in float32."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    x = (i * 2654435761 + zlib.crc32(name.encode())) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    x = (x ^ (x >> 16)) & 0xFFFF
    return ((x.astype(np.float64) - 32768) / 32768).reshape(shape)


# ---- operators ---------------------------------------------------------------

def conv(stride):
    return lambda x, w: F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2)


def cross_entropy(logits, targets, weights=None):
    rows = -(F.log_softmax(logits, 1) * targets).sum(1)
    return (rows.mean() if weights is None else (rows * weights).sum() / weights.sum()).reshape(1)


def operators():
    """name -> (function, {input: array}, inputs without gradient)"""
    n, p = noise, lambda name, s: (noise(name, s) + 1) / 2 + 0.01
    ties = lambda s: np.round(noise("ties", s) * 1.5)
    soft = p("t", (6, 5)) / p("t", (6, 5)).sum(1, keepdims=True)
    return {
        "conv3_stacks": (conv(1), {"x": n("x", (3, 5, 6, 8)), "w": n("w", (4, 5, 3, 3))}, ()),
        "conv3_unrolled": (conv(1), {"x": n("x", (3, 2, 6, 8)), "w": n("w", (12, 2, 3, 3))}, ()),
        "conv3_small_maps": (conv(1), {"x": n("x", (3, 10, 2, 2)), "w": n("w", (8, 10, 3, 3))}, ()),
        "conv3_stride2": (conv(2), {"x": n("x", (2, 4, 6, 8)), "w": n("w", (5, 4, 3, 3))}, ()),
        "conv7_stride2": (conv(2), {"x": n("x", (2, 3, 8, 12)), "w": n("w", (5, 3, 7, 7))}, ("x",)),
        "conv1": (conv(1), {"x": n("x", (2, 4, 6, 8)), "w": n("w", (5, 4, 1, 1))}, ()),
        "conv1_stride2": (conv(2), {"x": n("x", (2, 4, 6, 8)), "w": n("w", (5, 4, 1, 1))}, ()),
        "conv1_small_maps": (conv(1), {"x": n("x", (2, 24, 2, 2)), "w": n("w", (24, 24, 1, 1))}, ()),
        "relu": (F.relu, {"x": ties((2, 3, 4, 4))}, ()),
        "add": (torch.add, {"x": n("x", (2, 3)), "z": n("z", (2, 3))}, ()),
        "add_itself": (lambda x: x + x, {"x": n("x", (2, 3))}, ()),
        "scale": (lambda x: x * 0.125, {"x": n("x", (2, 3))}, ()),
        "standardize": (lambda x: (x - torch.tensor([.5, .4, .3]).double().view(1, 3, 1, 1)) / torch.tensor([.2, .25, .5]).double().view(1, 3, 1, 1),
                        {"x": n("x", (2, 3, 4, 4))}, ()),
        "maxpool": (lambda x: F.max_pool2d(x, 2), {"x": n("x", (2, 3, 4, 6))}, ()),
        "maxpool_ties": (lambda x: F.max_pool2d(x, 2), {"x": ties((2, 8, 8, 6))}, ()),
        "maxpool3": (lambda x: F.max_pool2d(x, 3, 2, 1), {"x": n("x", (2, 3, 4, 6)) - 2}, ()),
        "maxpool3_ties": (lambda x: F.max_pool2d(x, 3, 2, 1), {"x": ties((2, 8, 8, 6))}, ()),
        "average": (lambda x: F.avg_pool2d(x, 2), {"x": n("x", (2, 3, 4, 6))}, ()),
        "global_average": (lambda x: x.mean((2, 3)), {"x": n("x", (2, 3, 4, 6))}, ()),
        "global_max": (lambda x: x.amax((2, 3)), {"x": n("x", (2, 3, 4, 6))}, ()),
        "global_max_ties": (lambda x: x.amax((2, 3)), {"x": ties((2, 8, 4, 2))}, ()),
        "linear": (F.linear, {"x": n("x", (4, 6)), "w": n("w", (5, 6)), "b": n("b", (5,))}, ()),
        "linear_no_bias": (F.linear, {"x": n("x", (4, 6)), "w": n("w", (5, 6))}, ()),
        "normalize": (lambda x: F.normalize(x, dim=1), {"x": n("x", (4, 6))}, ()),
        "rows": (lambda x: x[1:4], {"x": n("x", (6, 5))}, ()),
        "logsumexp": (lambda x: torch.logsumexp(x, 1, keepdim=True), {"x": 20 * n("x", (6, 5))}, ()),
        "cross_entropy": (cross_entropy, {"x": 3 * n("x", (6, 5)), "t": soft}, ("t",)),
        "cross_entropy_weights": (cross_entropy, {"x": 3 * n("x", (6, 5)), "t": soft, "w": p("w", (6,))}, ("t", "w")),
        "columns": (lambda x, z: torch.cat([x, z], 1), {"x": n("x", (4, 3)), "z": n("z", (4, 2))}, ()),
        "times": (torch.mul, {"x": n("x", (4, 3)), "f": n("f", (1,))}, ("f",)),
        "ratio": (lambda x, z: (x / z).reshape(1), {"x": n("x", (1, 1)) + 2, "z": n("z", (1, 1)) + 3}, ()),
        "weighted_logsumexp": (lambda x, w: torch.log((F.relu(w) * torch.exp(x)).sum(1, keepdim=True)),
                               {"x": 20 * n("x", (6, 5)), "w": n("w", (1, 5))}, ()),
        "batchnorm": (None, {"x": n("x", (4, 3, 4, 6)) + 10, "bn.weight": n("g", (3,)), "bn.bias": n("b", (3,))}, ()),
    }


def record_operators():
    out = {}
    for name, (f, inputs, fixed) in operators().items():
        t = {k: torch.from_numpy(v.astype(np.float32)).double().requires_grad_(k not in fixed) for k, v in inputs.items()}
        if name == "batchnorm":
            mean, var = torch.zeros(3).double(), torch.ones(3).double()
            y = F.batch_norm(t["x"], mean, var, t["bn.weight"], t["bn.bias"], training=True)
            out |= {f"{name}/next/bn.running_mean": mean, f"{name}/next/bn.running_var": var}
        else:
            y = f(*t.values())
        dy = torch.from_numpy(noise("dy " + name, y.shape))
        y.backward(dy)
        out |= {f"{name}/in/{k}": v.detach() for k, v in t.items()} | {f"{name}/dy": dy, f"{name}/y": y.detach()}
        out |= {f"{name}/grad/{k}": v.grad for k, v in t.items() if k not in fixed}
    save(ROOT / "graph" / "testdata" / "operators.safetensors", out)


# ---- networks ----------------------------------------------------------------

class Model(nn.Module):
    """A network with a head, as train.Spec describes it."""

    def __init__(self, net, features, out, scale=1.0, phi=None, anchors=None, extra=False):
        super().__init__()
        for name, child in net.named_children():
            setattr(self, name, child)
        self.net, self.scale, self.anchors = [net], scale, anchors
        self.fc = nn.Linear(features, out)
        if phi is not None:
            self.phi = phi
        if extra:
            self.extra = nn.Linear(features, 1)

    def forward(self, image):
        mean, std = (torch.tensor(v, dtype=image.dtype) for v in ([.5, .4, .3], [.2, .25, .5]))
        f = self.net[0]((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)) * self.scale
        if self.anchors is not None:
            z = F.normalize(self.fc(f), dim=1)
            return {"embedding": z, "logits": z @ F.normalize(self.anchors, dim=1).T / 0.1}
        r = {"features": f, "logits": self.fc(f)}
        r["energy"] = torch.logsumexp(r["logits"], 1)
        if hasattr(self, "phi"):
            r["phi"] = self.phi(r["energy"].unsqueeze(1))
            r["ood_score"] = r["phi"][:, 1] - r["phi"][:, 0]
        if hasattr(self, "extra"):
            r["trained"] = torch.cat([r["logits"], self.extra(f)], 1)
            r["ood_score"] = r["energy"] - r["trained"][:, -1]
        return r


def settings():
    """name -> (model, batch, outliers, loss of the outliers, its weight, clip, penalty, its weight)"""
    mlp = nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 2))
    return {
        "classifier": (Model(ResNet9(2), 16, 5, 0.125), 12, 0, None, 0.0, 0.0, None, 0.0),
        "energy": (Model(ResNet9(2), 16, 5, phi=nn.Linear(1, 2)), 8, 4, energy, 2.5, 0.0, None, 0.0),
        "resnet18": (Model(ResNet18(2), 16, 5, phi=mlp), 8, 8, energy, 1.0, 0.5, None, 0.0),
        "cosine": (Model(ResNet9(2), 16, 7, anchors=torch.from_numpy(noise("anchors", (5, 7)))), 12, 0, None, 0.0, 0.0, None, 0.0),
        "uniform": (Model(ResNet9(2), 16, 5), 8, 4, uniform, 0.5, 0.0, None, 0.0),
        "extra": (Model(ResNet9(2), 16, 5, extra=True), 8, 4, extra_class, 1.0, 0.0, None, 0.0),
        "fever": (Model(ResNet9(2), 16, 5, phi=nn.Linear(1, 2)), 8, 4, energy, 2.5, 0.0, lambda s: 1 / s[-1], 0.1),
        "resnet34": (Model(ResNet18(2, (3, 4, 6, 3)), 16, 5), 12, 0, None, 0.0, 0.0, None, 0.0),
        "imagenet": (Model(ResNet18(2, imagenet=True), 16, 5), 12, 0, None, 0.0, 0.0, None, 0.0),
        "wrn": (Model(WRN(16, 2, 2), 16, 5), 12, 0, None, 0.0, 0.0, None, 0.0),
        "adamw": (Model(ResNet9(2), 16, 5), 12, 0, None, 0.0, 0.0, None, 0.0),
        "adamw_clipped": (Model(ResNet9(2), 16, 5), 12, 0, None, 0.0, 0.5, None, 0.0),
        "condition": (Model(ResNet9(2), 16, 5), 12, 0, None, 0.0, 0.0, lambda s: s[0] / s[-1], 0.02),
    }


SMOOTHING = {"wrn": 0.1, "adamw": 0.1}
SIZE = {"imagenet": 32, "resnet34": 32}


def optimizer(name, decay, rest):
    if name == "adamw":
        return torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=0.01)
    if name == "adamw_clipped":
        return torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    return torch.optim.SGD([{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}], lr=0.01, momentum=0.9, nesterov=True)


def average(a, w, n):
    """Moving average of decay 0.99 whose decay grows from 2/11; n counts the updates before this one."""
    share = 1 - min(0.99, (n + 2) / (n + 11))
    return a + (w - a) * share if a.is_floating_point() else w


def energy(r, batch):
    return F.cross_entropy(r["phi"], (torch.arange(len(r["phi"])) < batch).long())


def uniform(r, batch):
    x = r["logits"][batch:]
    return -(x.mean(1) - torch.logsumexp(x, 1)).mean()


def extra_class(r, batch):
    x = r["trained"][batch:]
    return F.cross_entropy(x, torch.full((len(x),), x.shape[1] - 1))


def fill(model):
    """Values of the formula, scaled so that signals keep their size."""
    state = model.state_dict()
    for name, v in state.items():
        if v.ndim == 4:
            state[name] = torch.from_numpy(noise(name, v.shape) * float(np.float32((6 / v[0].numel()) ** 0.5)))
        elif "running" not in name and v.ndim > 0:
            one = v.ndim == 1 and name.endswith("weight")
            state[name] = torch.from_numpy(noise(name, v.shape) * 0.5 + (1.0 if one else 0.0))
    model.double().load_state_dict({k: v.float().double() if v.is_floating_point() else v for k, v in state.items()})


def sample(v):
    """At most 64 elements, evenly spread."""
    flat = v.detach().clone().reshape(-1)
    return flat[:: max(1, -(-flat.numel() // 64))]


def record_networks():
    out = {}
    for name in settings():
        exact = train(name, torch.float64)
        rough = train(name, torch.float32)
        out |= {f"{name}/{k}": v for k, v in exact.items()}
        out[f"{name}/float32"] = torch.tensor(errors(rough, exact))
    save(ROOT / "testdata" / "networks.safetensors", out)


def errors(got, want):
    """What PyTorch's own float32 is off by: gradients together, the worst one, losses, parameters (largest difference), outputs."""
    def relative(a, b):
        return float((a.double() - b).norm() / (b.norm() + 1e-30))

    def keys(kind):
        return [k for k in want if k.startswith(kind + "/")]

    grads = keys("grad")
    return [
        relative(torch.cat([got[k] for k in grads]), torch.cat([want[k] for k in grads])),
        max(relative(got[k], want[k]) for k in grads),
        max(relative(got[k], want[k]) for k in keys("losses")),
        max(float((got[k].double() - want[k]).abs().max()) for k in keys("state")),
        max(relative(got[k], want[k]) for k in keys("eval")),
    ]


def train(name, dtype):
    torch.set_default_dtype(dtype)
    try:
        return train_in(name, dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def train_in(name, dtype):
    m, batch, outliers, outlier_loss, beta, clip, penalty, weight = settings()[name]
    fill(m)
    m.to(dtype).train()
    if m.anchors is not None:
        m.anchors = m.anchors.to(dtype)
    decay = [p for n, p in m.named_parameters() if p.ndim > 1]
    rest = [p for n, p in m.named_parameters() if p.ndim <= 1]
    opt, size, out = optimizer(name, decay, rest), SIZE.get(name, 16), {}
    mean = {k: v.clone() for k, v in m.state_dict().items()}
    labels = torch.arange(batch) * 3 % 5
    for step in range(3):
        x = torch.from_numpy((noise(f"image {step}", (batch + outliers, 3, size, size)) + 1) / 2).to(dtype)
        r = m(x)
        ce = F.cross_entropy(r.get("trained", r["logits"])[:batch], labels, label_smoothing=SMOOTHING.get(name, 0.0))
        ood = outlier_loss(r, batch) if beta else torch.zeros(())
        further = penalty(torch.linalg.svdvals(m.fc.weight)) if weight else torch.zeros(())
        total = ce + beta * ood + weight * further
        opt.zero_grad()
        total.backward()
        if step == 0:
            out |= {f"grad/{n}": sample(p.grad) for n, p in m.named_parameters()}
        norm = nn.utils.clip_grad_norm_(m.parameters(), clip) if clip else torch.zeros(())
        opt.step()
        mean = {k: average(mean[k], v, step) for k, v in m.state_dict().items()}
        out[f"losses/{step}"] = torch.stack([total, ce, ood, norm, further]).detach()
    out |= {f"state/{n}": sample(v) for n, v in m.state_dict().items() if v.is_floating_point()}
    if name == "adamw":
        out |= {f"state/average/{n}": sample(v) for n, v in mean.items() if v.is_floating_point()}
        m.load_state_dict(mean)
    m.eval()
    with torch.no_grad():
        r = m(torch.from_numpy((noise("image eval", (3, 3, size, size)) + 1) / 2).to(dtype))
    return out | {f"eval/{k}": v for k, v in r.items() if k not in ("phi", "trained")}


def record_schedules():
    def rates(make, n):
        p = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        s, out = make(p), []
        for _ in range(n):
            out.append(p.param_groups[0]["lr"])
            p.step()
            s.step()
        return torch.tensor(out)

    one = torch.optim.lr_scheduler.OneCycleLR
    save(ROOT / "testdata" / "schedules.safetensors", {
        "cosine": rates(lambda p: torch.optim.lr_scheduler.CosineAnnealingLR(p, 20, 1e-6), 21),
        "warm_cosine": rates(lambda p: torch.optim.lr_scheduler.SequentialLR(p, [
            torch.optim.lr_scheduler.LinearLR(p, 0.25, 1.0, 3), torch.optim.lr_scheduler.CosineAnnealingLR(p, 16)], [4]), 20),
        "onecycle": rates(lambda p: one(p, 0.4, 20), 20),
        "onecycle_linear": rates(lambda p: one(p, 0.4, 20, pct_start=0.2, anneal_strategy="linear", div_factor=10, final_div_factor=100), 20),
    })


def save(path, tensors):
    path.parent.mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(v.numpy().astype(np.float32)) for k, v in tensors.items()}, path)
    print(path.relative_to(ROOT), path.stat().st_size, "bytes")


if __name__ == "__main__":
    record_operators()
    record_networks()
    record_schedules()
