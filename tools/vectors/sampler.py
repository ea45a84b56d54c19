"""Records parity vectors for services/sampler: stage 2 of Dream-OOD.

The plain version of the method (research notes, stage 2) in NumPy float64: every
candidate is built, every distance computed, everything sorted. Only the noises
and the choice of the boundary points come from the project's random streams
(philox.py beside this file).

Mode "reference" is a reading of the published code in NumPy: its layout of the
candidates, the view of their distances and the way back to an index, step by step.
The same picks are then searched for with FAISS IndexFlatL2 and scikit-learn's
NearestNeighbors at a larger size, in place of the plain distances.

    pip install numpy==2.4.6 faiss-cpu==1.15.1 scikit-learn==1.9.1
    python tools/vectors/sampler.py   # writes services/sampler/testdata/{sampler,libraries}.json
"""

import json
import pathlib

import numpy as np

from philox import Stream

OUT = pathlib.Path(__file__).parents[2] / "services/sampler/testdata"


def numbers(rows, d, seed, purpose):
    """[rows, d] of mean 0 and variance 1 that are the same bits in any language: twice the
    sum of three 16-bit fractions, less 3/2 (Irwin and Hall)."""
    words = np.array(Stream(seed=seed, purpose=purpose).words(3 * rows * d)).reshape(rows, d, 3) >> 16
    return (2 * (words.sum(-1) / 65536 - 1.5)).astype(np.float32)


def bank(n, d):
    """n embeddings around a common direction, of norms that are not 1."""
    x = numbers(n + 1, d, 77, "bank")
    return (x[:n] + np.float32(1.5) * x[n]).astype(np.float32)


def given(rows, d):
    """Noise brought along, for all rounds."""
    return numbers(rows, d, 78, "given")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def plain(bank, queries, k):
    """Squared distance to the k-th nearest row (a row of the bank counts itself)."""
    d = ((queries[:, None, :] - bank[None]) ** 2).sum(-1)
    return np.sort(d, axis=1)[:, k - 1]


def best(d, keep, inward):
    """The indices of the keep best distances of a vector, ties to the smaller index."""
    return np.lexsort((np.arange(len(d)), d if inward else -d))[:keep]


def paper(d, pick, keep, inward):
    """Number of the candidates kept, point after point; d holds them point after point."""
    length = len(d) // pick
    return [i * length + g for i in range(pick) for g in best(d[i * length : (i + 1) * length], keep, inward)]


def reference(d, pick, keep, inward):
    """What the published code returns."""
    length = len(d) // pick
    view = d.reshape(length, -1)  # [length, pick]
    rows = np.stack([best(view[:, i], keep, inward) for i in range(pick)], axis=1)  # top keep over axis 0
    rows = rows.squeeze()  # [keep, pick], without an axis of length one
    if rows.ndim == 1:
        rows = rows.reshape(-1, 1)
    return np.concatenate([i * length + rows[:, i] for i in range(rows.shape[1])]).tolist()


def sample(raw, k, select, pick, noises, sigma, keep, seed, cls, rounds, inward, mode="paper", brought=False, kth=plain):
    x = unit(raw.astype(np.float64))
    density = kth(x, x, k)
    boundary = best(density, select, inward)
    brought = given(rounds * noises, x.shape[1]).astype(np.float64) if brought else None
    out = []
    for r in range(rounds):
        picked = boundary[Stream(seed, "sampler.pick", cls, r).choose(select, pick)]
        if brought is None:
            g = Stream(seed, "sampler.noise", cls, r).normals(noises * x.shape[1]).reshape(noises, -1)
        else:
            g = brought[r * noises : (r + 1) * noises]
        c = unit(np.repeat(x[picked], noises, axis=0) + sigma * np.tile(g, (pick, 1)))
        d = kth(x, c, k)
        for i, f in enumerate({"paper": paper, "reference": reference}[mode](d, pick, keep, inward)):
            b = picked[f // noises]
            out.append(dict(
                round=r, source=int(b), noise=int(f % noises), rank=i % keep,
                kth=float(d[f]), source_kth=float(density[b]), cosine=float(c[f] @ x[b]),
                head=c[f][:3].tolist(),
            ))
    return density, boundary, out


def faiss_kth(bank, queries, k):
    import faiss

    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank.astype(np.float32))
    return index.search(queries.astype(np.float32), k)[0][:, -1].astype(np.float64)


def sklearn_kth(bank, queries, k):
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank).kneighbors(queries)[0][:, -1] ** 2


def write(name, content):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(content) + "\n")
    print(name, (OUT / name).stat().st_size)


def main():
    n, d = 60, 16
    raw = bank(n, d)
    outward = dict(method="knn", k=10, select=12, pick=5, noises=40, sigma=0.25, keep=2, seed=9, cls=3, rounds=3, inward=False)
    inward = dict(method="inlier", k=10, select=30, pick=7, noises=40, sigma=0.1, keep=1, seed=10, cls=4, rounds=3, inward=True)
    cases = []
    for case in (
        outward,
        inward,
        outward | dict(brought=True),
        outward | dict(mode="reference", brought=True),
        outward | dict(mode="reference", pick=6, noises=41, keep=3, seed=11),  # 6 does not divide 41
        outward | dict(mode="reference", brought=True, keep=1),
        inward | dict(mode="reference", brought=True),
        inward | dict(mode="reference", keep=2, k=60),
    ):
        p = dict(case)
        method = p.pop("method")
        density, boundary, out = sample(raw, **p)
        cases.append(dict(method=method, params=p, kth=density.tolist(), selected=boundary.tolist(), samples=out))
    write("sampler.json", dict(n=n, d=d, bank_head=raw[:2, :4].tolist(), cases=cases))

    n, d = 200, 64
    raw = bank(n, d)
    cases = []
    for name, kth in dict(faiss=faiss_kth, sklearn=sklearn_kth).items():
        for method, k, keep, sigma in (("knn", 120, 2, 0.24), ("inlier", 50, 1, 0.03)):
            p = dict(k=k, select=40, pick=20, noises=300, sigma=sigma, keep=keep, seed=12, cls=0, rounds=2, inward=method == "inlier", brought=True)
            density, boundary, out = sample(raw, kth=kth, **p)
            for o in out:
                o.pop("head")
            cases.append(dict(library=name, method=method, params=p, kth=density.tolist(), selected=boundary.tolist(), samples=out))
    write("libraries.json", dict(n=n, d=d, bank_head=raw[:2, :4].tolist(), cases=cases))


if __name__ == "__main__":
    main()
