"""The peers of bench-sampler: one round of low-likelihood sampling with FAISS, and with one NumPy product per point.

Reads commands as JSON lines and answers each with one line, so that both sides take turns in one run:
  {"op": "load", "bank": FILE, "k", "select", "pick", "noises", "sigma", "keep"}
  {"op": "round", "seed": S, "how": "faiss" | "gemm"}      → {"seconds", "noise", "search"}
  {"op": "picks", "noise": FILE, "points": [rows]}          → {"picks": [[noise, ...] per point], "kth": [[...]]}
  {"op": "open", "bank": FILE}, then {"op": "search", "count": Q, "k": K} → {"seconds"} of Q queries in a large bank
  {"op": "gemm", "m", "n", "d", "times"}                    → {"seconds"} of one product [m, d] x [d, n]
"""
import json
import sys
import time

import faiss
import numpy as np

state = {}


def candidates(points, noise, sigma):
    c = (points[:, None] + sigma * noise).reshape(-1, noise.shape[1])
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    return c


def kth_faiss(c, k):
    index = faiss.IndexFlatL2(c.shape[1])
    index.add(state["bank"])
    return index.search(c, k)[0][:, -1]


def kth_gemm(c, k):
    """Squared distances of unit vectors, without a search: one product and one partition."""
    n, out = len(state["bank"]), np.empty(len(c), np.float32)
    for i in range(0, len(c), 7500):
        cos = c[i : i + 7500] @ state["bank"].T
        out[i : i + 7500] = 2 - 2 * np.partition(cos, n - k, axis=1)[:, n - k]
    return out


def best(kth, pick, noises, keep):
    """The keep largest of each point, largest first, ties to the smaller noise."""
    d = kth.reshape(pick, noises)
    order = np.argsort(-d, axis=1, kind="stable")[:, :keep]
    return order, np.take_along_axis(d, order, 1)


def load(q):
    state.update(q)
    bank = np.load(q["bank"])
    state["bank"] = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    kth = kth_faiss(state["bank"], q["k"])
    state["boundary"] = np.argsort(-kth, kind="stable")[: q["select"]]
    return {"boundary": state["boundary"].tolist()}


def round_(q):
    rng = np.random.default_rng(q.get("seed", 0))
    begin = time.perf_counter()
    points = state["bank"][rng.choice(state["boundary"], state["pick"], replace=False)]
    noise = rng.standard_normal((state["noises"], points.shape[1]), dtype=np.float32)
    drawn = time.perf_counter()
    c = candidates(points, noise, np.float32(state["sigma"]))
    made = time.perf_counter()
    kth = (kth_faiss if q["how"] == "faiss" else kth_gemm)(c, state["k"])
    order, _ = best(kth, state["pick"], state["noises"], state["keep"])
    c.reshape(state["pick"], state["noises"], -1)[np.arange(state["pick"])[:, None], order].copy()
    end = time.perf_counter()
    return {"seconds": end - begin, "noise": drawn - begin, "search": end - made}


def picks(q):
    noise = np.load(q["noise"]).reshape(state["noises"], -1)
    c = candidates(state["bank"][q["points"]], noise, np.float32(state["sigma"]))
    order, kth = best(kth_faiss(c, state["k"]), len(q["points"]), state["noises"], state["keep"])
    return {"picks": order.tolist(), "kth": kth.astype(float).tolist()}


def open_(q):
    """An index of a large bank of unit rows, filled in pieces: it is in memory once."""
    bank = np.load(q["bank"], mmap_mode="r")
    state["index"] = faiss.IndexFlatL2(bank.shape[1])
    for i in range(0, len(bank), 50_000):
        state["index"].add(np.ascontiguousarray(bank[i : i + 50_000]))
    state["first"] = np.ascontiguousarray(bank[: 4096])
    return {}


def search(q):
    begin = time.perf_counter()
    state["index"].search(state["first"][: q["count"]], q["k"])
    return {"seconds": time.perf_counter() - begin}


def gemm(q):
    """GFLOP/s of NumPy's product at the shape of a round: what this CPU can do."""
    a, b = np.ones((q["m"], q["d"]), np.float32), np.ones((q["n"], q["d"]), np.float32)
    a @ b.T
    begin = time.perf_counter()
    for _ in range(q["times"]):
        a @ b.T
    return {"seconds": (time.perf_counter() - begin) / q["times"]}


def main():
    ops = {"load": load, "round": round_, "picks": picks, "open": open_, "search": search, "gemm": gemm}
    faiss.omp_set_num_threads(faiss.omp_get_max_threads())
    for line in sys.stdin:
        q = json.loads(line)
        print(json.dumps(ops[q.pop("op")](q)), flush=True)


if __name__ == "__main__":
    main()
