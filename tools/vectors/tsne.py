"""Records what scikit-learn's exact t-SNE leaves of the Kullback-Leibler divergence, for internal/embedmap.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python tools/vectors/tsne.py   # writes internal/embedmap/testdata/tsne.json
"""
import json
import pathlib

import numpy as np
import sklearn
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities
from sklearn.metrics import pairwise_distances

from philox import Stream

CLASSES, EACH, DIM = 4, 40, 12


def rows():
    """Four clouds of different widths, one of them long."""
    x = Stream(seed=31, purpose="tsne").normals(CLASSES * (EACH + 1) * DIM).astype(np.float32).reshape(CLASSES, EACH + 1, DIM)
    out = []
    for c in range(CLASSES):
        cloud = x[c, :EACH] * np.float32(0.4 + 0.2 * c)
        cloud[:, 0] *= np.float32(1 + c)
        out.append(cloud + x[c, EACH] * np.float32(2))
    return np.concatenate(out)


x = rows()
cases = []
for perplexity in (5, 15, 30):
    def run(rows):
        model = TSNE(method="exact", init="pca", perplexity=perplexity, random_state=0, n_iter_without_progress=1000, min_grad_norm=0)
        return model.fit_transform(rows), float(model.kl_divergence_)

    y, divergence = run(x)
    # The same with its last bits changed: how far apart two correct programs may end.
    others = [run(x + np.float32(1e-6) * Stream(seed=s, purpose="tsne").normals(x.size).reshape(x.shape).astype(np.float32))[1] for s in range(8)]
    p = _joint_probabilities(pairwise_distances(x, squared=True), perplexity, 0)
    near = np.argsort(((x[:, None] - x[None]) ** 2).sum(-1), 1)[:, 1:11]
    low = np.argsort(((y[:, None] - y[None]) ** 2).sum(-1), 1)[:, 1:11]
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, low)])
    cases.append({"perplexity": perplexity, "divergence": divergence, "others": others, "kept": float(kept), "joint": [float(v) for v in p[:200]]})
path = pathlib.Path(__file__).parent / "../../internal/embedmap/testdata/tsne.json"
path.write_text(json.dumps({"sklearn": sklearn.__version__, "first": [float(v) for v in x[0]], "last": [float(v) for v in x[-1]], "cases": cases}, indent=1) + "\n")
