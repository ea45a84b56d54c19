"""Train the reference model: text-conditioned latent diffusion for 32-px pictures on CIFAR-10 and CIFAR-100.

Runs on a CPU (bf16) and unchanged on a GPU (--device cuda, larger --widths/--batch). Resumes from OUT/train.pt.
Warm-up and a constant learning rate; `--decay N` ends a run with N steps of linear decay (kept apart in
OUT/decayed.pt, so that training can go on from the constant phase in a later session).

    python train.py --data DATA --out OUT --steps 4000
    python train.py --data DATA --out OUT --decay 600
"""
import argparse
import json
import os
import time

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import conditioning
import model as m
import reload
import world

NULL, EXACT = 0.1, 0.55  # shares of a batch: empty prompt, exact words; the rest: embeddings around the words
ID_SHARE = 0.6           # share of CIFAR-10 where a class is chosen
ANCHOR_NORM = 0.44     # norm of the rows that stand for classes (CLIP ViT-L/14: 0.34 to 0.42)
APART = 0.35           # classes whose rows come nearer than this cosine are pushed apart, or one is drawn for the other


class Batches:
    """Latents and conditions, drawn so that every embedding is shown with pictures of its distribution."""

    def __init__(self, model, latents, labels, seed):
        self.model, self.z, self.gen = model, latents, torch.Generator().manual_seed(seed)
        order = np.argsort(labels, kind="stable")
        self.rows = torch.from_numpy(order)
        self.count = torch.from_numpy(np.bincount(labels, minlength=len(world.CLASSES)))
        self.start = torch.cumsum(self.count, 0) - self.count
        single = [i for i, c in enumerate(world.CLASSES) if "_" not in c]
        self.ids = torch.tensor([[model.words.ids(t.format(world.name(c))) for t in world.TEMPLATES] for c in world.CLASSES])
        self.word = torch.tensor([model.words.word(c) for c in world.CLASSES])
        self.null = torch.tensor(model.words.ids(""))
        self.single = torch.tensor(single)

    def classes(self, n):
        r = lambda k: torch.randint(0, k, (n,), generator=self.gen)
        ten = torch.rand(n, generator=self.gen) < ID_SHARE
        return torch.where(ten, r(10), 10 + r(100))

    def next(self, n):
        g = self.gen
        u = torch.rand(n, generator=g)
        near = u >= NULL + EXACT
        y = self.classes(n)
        base = torch.where(near & (y >= 10), self.single[torch.randint(10, len(self.single), (n,), generator=g)], y)
        ids = self.ids[base, torch.randint(0, len(world.TEMPLATES), (n,), generator=g)]
        with torch.no_grad():
            anchors = torch.nn.functional.normalize(self.model.table.weight[self.word].float().cpu(), dim=1)
            e = conditioning.draw(anchors, base, g)
            shown = torch.multinomial(conditioning.posterior(e, anchors), 1, generator=g)[:, 0]
        anywhere = torch.randint(0, len(world.CLASSES), (n,), generator=g)
        cls = torch.where(u < NULL, anywhere, torch.where(near, shown, base))
        ids = torch.where((u < NULL)[:, None], self.null, ids)
        mask = (ids == self.word[base][:, None]) & near[:, None]
        pick = self.start[cls] + (torch.rand(n, generator=g) * self.count[cls]).long()
        row = self.rows[pick] + len(self.rows) * torch.randint(0, 2, (n,), generator=g)
        return self.z[row], ids, mask, e * ANCHOR_NORM


@torch.no_grad()
def latents(model, data, cache):
    """float16 latents of all pictures, then of their mirror images: [2 N, C, 8, 8]; labels [N]."""
    x, y = world.load_pictures(data, cache)
    out = []
    for flip in (False, True):
        for k in range(0, len(x), 5000):
            a = torch.from_numpy(x[k : k + 5000]).permute(0, 3, 1, 2).float() / 127.5 - 1
            out.append(model.codec.encode(a.flip(3) if flip else a).half())
    return torch.cat(out), y


@torch.no_grad()
def project(model, rows):
    """Keeps the rows that stand for classes at one norm, for a direction is all that an embedding says, and apart."""
    w = model.table.weight
    unit = torch.nn.functional.normalize(w[rows], dim=1)
    excess = (unit @ unit.T - APART).clamp(min=0).fill_diagonal_(0)
    w[rows] = torch.nn.functional.normalize(unit - 0.05 * excess @ unit, dim=1) * ANCHOR_NORM


def loss_of(unet, model, z, ids, mask, emb, gen, device):
    t = torch.randint(0, m.STEPS, (len(z),), generator=gen)
    a = m.ALPHA_BAR[t].view(-1, 1, 1, 1)
    noise = torch.randn(z.shape, generator=gen)
    z = z.float()
    noisy, v = a.sqrt() * z + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * z
    snr = m.ALPHA_BAR[t] / (1 - m.ALPHA_BAR[t])
    weight = torch.clamp(snr, max=5) / (snr + 1)  # min-SNR-5 for v-prediction (Hang et al., 2023)
    noisy, v, weight, t, ids, mask, emb = (q.to(device) for q in (noisy, v, weight, t, ids, mask, emb))
    with torch.autocast(device, dtype=torch.bfloat16):
        out = unet(noisy, t, encoder_hidden_states=model.encode(ids, mask, emb)).sample
    return ((out.float() - v).pow(2).mean((1, 2, 3)) * weight).mean()


def save(path, **state):
    torch.save(state, path + ".tmp")
    os.replace(path + ".tmp", path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--init", help="an earlier model to start from: a folder of safetensors or an exported one")
    p.add_argument("--steps", type=int, default=10**9, help="stop after this many steps in all")
    p.add_argument("--decay", type=int, default=0, help="from the last checkpoint, this many steps down to learning rate 0")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--widths", default="112,208")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--save-every", type=int, default=100)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    os.makedirs(a.out, exist_ok=True)
    tok = os.path.join(a.out, "tokenizer")
    if not os.path.exists(tok):
        world.write_tokenizer(tok)
    torch.manual_seed(0)
    model = m.Model(tok, widths=tuple(int(w) for w in a.widths.split(",")))
    ckpt, decayed = os.path.join(a.out, "train.pt"), os.path.join(a.out, "decayed.pt")
    step, ema, opt_state, history = 0, None, None, []
    if os.path.exists(ckpt):
        s = torch.load(ckpt, weights_only=False)
        model.load(s["model"])
        step, ema, opt_state, history = s["step"], s["ema"], s["opt"], s["history"]
    elif a.init:
        exported = os.path.exists(os.path.join(a.init, "unet/model.onnx"))
        print("warm start:", reload.load(model, a.init) if exported else m.warm_start(model, a.init), "tensors or token rows taken over", flush=True)
    else:
        x, _ = world.load_pictures(a.data, a.out)
        model.codec.fit(torch.from_numpy(x[:8000]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    z, y = latents(model, a.data, a.out)
    model.unet.to(a.device, memory_format=torch.channels_last).train()
    model.text.to(a.device).train()
    rows = torch.tensor(sorted({model.words.word(c) for c in world.CLASSES}))
    project(model, rows)
    table = [model.table.weight]
    rest = [q for q in model.params() if q is not table[0]]
    opt = torch.optim.AdamW([dict(params=rest, weight_decay=0.01), dict(params=table, weight_decay=0.0)], lr=a.lr, betas=(0.9, 0.99))
    if opt_state:
        opt.load_state_dict(opt_state)
    params = rest + table
    ema = [q.detach().clone() for q in params] if ema is None else [q.to(a.device) for q in ema]
    unet = torch.compile(model.unet) if a.compile else model.unet
    kernels = [SDPBackend.MATH] if a.device == "cpu" else list(SDPBackend.__members__.values())
    batches, gen = Batches(model, z, y, 1000 + step), torch.Generator().manual_seed(2000 + step)
    begin, first, run = time.time(), step, None
    last = step + a.decay if a.decay else a.steps
    while step < last:
        lr = a.lr * min(1, (step + 1) / 100)
        if a.decay:
            lr *= (last - step) / a.decay
        for group in opt.param_groups:
            group["lr"] = lr
        with sdpa_kernel(kernels):  # 8×8 positions: on a CPU the plain backward takes a third of the flash one's time
            loss = loss_of(unet, model, *batches.next(a.batch), gen, a.device)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        project(model, rows)
        step += 1
        d = min(0.99 if a.decay else 0.999, (1 + step) / (10 + step))  # while the rate falls, the average must keep up
        with torch.no_grad():
            torch._foreach_mul_(ema, d)
            torch._foreach_add_(ema, [q.detach() for q in params], alpha=1 - d)
        run = loss.item() if run is None else 0.98 * run + 0.02 * loss.item()
        if step % 20 == 0:
            history.append([step, round(run, 5)])
            print(f"step {step} loss {run:.4f} lr {lr:.1e} {(step - first) * a.batch / (time.time() - begin):.0f} img/s", flush=True)
        if step % a.save_every == 0 or step == last:
            save(decayed if a.decay else ckpt, model=model.state(), ema=ema, opt=opt.state_dict(), step=step, history=history)
    with open(os.path.join(a.out, "history.json"), "w") as f:
        json.dump(history, f)


if __name__ == "__main__":
    main()
