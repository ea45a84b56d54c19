"""Records parity vectors for services/sampler: stage 2 of Dream-OOD, mode paper.

The plain version of the method (research notes, stage 2) in NumPy float64: every
candidate is built, every distance computed, everything sorted. Only the noises
and the choice of the boundary points come from the project's random streams
(philox.py beside this file).

    pip install numpy==2.4.6
    python tools/vectors/sampler.py   # writes services/sampler/testdata/sampler.json
"""

import json
import pathlib

import numpy as np

from philox import Stream


def bank(n, d):
    """n embeddings around a common direction, of norms that are not 1."""
    x = Stream(seed=77, purpose="bank").normals((n + 1) * d).astype(np.float32).reshape(n + 1, d)
    return (x[:n] + np.float32(1.5) * x[n]).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def kth(bank, queries, k):
    """Squared distance to the k-th nearest row (a row of the bank counts itself)."""
    d = ((queries[:, None, :] - bank[None]) ** 2).sum(-1)
    return np.sort(d, axis=1)[:, k - 1]


def sample(raw, k, select, pick, noises, sigma, keep, seed, cls, rounds, inward):
    x = unit(raw.astype(np.float64))
    sign = 1 if inward else -1
    density = kth(x, x, k)
    boundary = np.lexsort((np.arange(len(x)), sign * density))[:select]
    out = []
    for r in range(rounds):
        picked = boundary[Stream(seed, "sampler.pick", cls, r).choose(select, pick)]
        g = Stream(seed, "sampler.noise", cls, r).normals(noises * x.shape[1]).reshape(noises, -1)
        for b in picked:
            c = unit(x[b] + sigma * g)
            d = kth(x, c, k)
            for rank, w in enumerate(np.lexsort((np.arange(noises), sign * d))[:keep]):
                out.append(dict(
                    round=r, source=int(b), noise=int(w), rank=rank,
                    kth=d[w], source_kth=density[b], cosine=float(c[w] @ x[b]),
                    head=c[w][:3].tolist(),
                ))
    return density, boundary, out


def main():
    n, d = 60, 16
    raw = bank(n, d)
    cases = []
    for name, p in {
        "knn": dict(k=10, select=12, pick=5, noises=40, sigma=0.25, keep=2, seed=9, cls=3, rounds=3, inward=False),
        "inlier": dict(k=10, select=30, pick=7, noises=40, sigma=0.1, keep=1, seed=10, cls=4, rounds=3, inward=True),
    }.items():
        density, boundary, out = sample(raw, **p)
        cases.append(dict(method=name, params=p, kth=density.tolist(), selected=boundary.tolist(), samples=out))
    text = json.dumps(dict(n=n, d=d, bank_head=raw[:2, :4].tolist(), cases=cases))
    path = pathlib.Path(__file__).parents[2] / "services/sampler/testdata/sampler.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
