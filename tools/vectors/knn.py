"""Records parity vectors for internal/knn from scikit-learn's NearestNeighbors.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python tools/vectors/knn.py      # writes internal/knn/testdata/knn.json

Inputs are the normals of internal/philox (tools/vectors/philox.py), so that only
answers are stored.
"""

import json
import pathlib

import numpy as np
from sklearn.neighbors import NearestNeighbors

from philox import Stream


def rows(n, d, seed, unit):
    x = Stream(seed=seed, purpose="knn").normals(n * d).astype(np.float32).reshape(n, d)
    if unit:
        y = x.astype(np.float64)
        x = (y / np.linalg.norm(y, axis=1, keepdims=True)).astype(np.float32)
    return x


def case(n, q, d, k, unit):
    bank, queries = rows(n, d, 1, unit), rows(q, d, 2, unit)
    queries[0] = bank[n // 2]  # one query that is in the bank
    nn = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="sqeuclidean").fit(bank.astype(np.float64))
    dist, index = nn.kneighbors(queries.astype(np.float64))
    return dict(
        n=n, q=q, d=d, k=k, unit=unit,
        indices=index.tolist(),
        kth=dist[:, -1].tolist(),
        bank_sum=float(bank.astype(np.float64).sum()),
    )


if __name__ == "__main__":
    cases = [case(150, 20, 16, 10, True), case(150, 20, 17, 1, False), case(40, 7, 5, 40, True), case(1100, 3, 8, 30, False)]
    out = pathlib.Path(__file__).parents[2] / "internal/knn/testdata/knn.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(cases) + "\n")
    print(out, out.stat().st_size)
