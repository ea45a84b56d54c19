"""Train the decoder's second half (model.Refine): real pictures, coded and decoded, against themselves.

The latents get noise of up to NOISE deviations, because those of a diffusion model are not quite those of pictures. The
loss is the mean absolute error of the pixels and, with weight EDGES, of their differences to the next ones, in which the
borders of the patches stand out. Writes OUT/decoder.pt.

    python decoder.py --data DATA --out OUT --epochs 3 --threads 1
"""
import argparse
import os
import time

import torch
import torch.nn.functional as F

import model as m
import world
from classifier import one_cycle

NOISE, EDGES = 0.25, 1.0


def load(model, out):
    """Puts the weights of OUT/decoder.pt into model, where there are any."""
    path = os.path.join(out, "decoder.pt")
    if os.path.exists(path):
        model.refine.load_state_dict(torch.load(path, weights_only=True))
    model.refine.eval()


def loss_of(got, want):
    across = lambda q: q[..., 1:] - q[..., :-1]
    down = lambda q: q[..., 1:, :] - q[..., :-1, :]
    return F.l1_loss(got, want) + EDGES * (F.l1_loss(across(got), across(want)) + F.l1_loss(down(got), down(want)))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True, help="folder of train.py, for its codec")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=2e-3, help="peak of the one cycle")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = m.Model(os.path.join(a.out, "tokenizer"))
    m.load_ema(model, os.path.join(a.out, "train.pt"))
    codec, net = model.codec, m.Refine().to(memory_format=torch.channels_last).train()
    x, _ = world.load_pictures(a.data, a.out)
    opt, gen = torch.optim.AdamW(net.parameters(), lr=a.lr, weight_decay=1e-4), torch.Generator().manual_seed(0)
    per, begin, run = len(x) // a.batch, time.time(), None
    for step in range(a.epochs * per):
        if step % per == 0:
            order = torch.randperm(len(x), generator=gen)
        rows = order[step % per * a.batch :][: a.batch]
        want = torch.from_numpy(x[rows.numpy()]).permute(0, 3, 1, 2).float() / 127.5 - 1
        if step % 2:
            want = want.flip(3)
        with torch.no_grad():
            z = codec.encode(want)
            z = z + NOISE * torch.rand(len(z), 1, 1, 1, generator=gen) * torch.randn(z.shape, generator=gen)
            plain = codec.decode(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = net(plain, z)
        loss = loss_of(got.float(), want)
        opt.param_groups[0]["lr"] = one_cycle(step / (a.epochs * per), a.lr)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        gain = loss.item() / loss_of(plain, want).item()
        run = gain if run is None else 0.98 * run + 0.02 * gain
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {a.epochs * per}: loss {run:.4f} of the linear codec's, {(step + 1) * a.batch / (time.time() - begin):.0f} img/s", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == a.epochs * per:
            path = os.path.join(a.out, "decoder.pt")
            torch.save(net.state_dict(), path + ".tmp")
            os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
