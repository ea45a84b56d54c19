"""Records parity vectors for internal/score and internal/project.

Metrics from scikit-learn, scores from SciPy and NumPy in float64, PCA from
scikit-learn's full SVD. Inputs are draws of internal/philox (philox.py beside
this file), rounded where ties are wanted, so that only answers are stored.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    python tools/vectors/score.py
"""

import json
import pathlib

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from philox import Stream

ROOT = pathlib.Path(__file__).parents[2]


def draw(n, seed, shift, decimals):
    """n float32 normals, shifted, rounded to multiples of 2^-decimals."""
    x = Stream(seed=seed, purpose="score").normals(n).astype(np.float32).astype(np.float64)
    return np.floor((x + shift) * 2.0**decimals) / 2.0**decimals


def metrics(n_id, n_ood, shift, decimals):
    i, o = draw(n_id, 1, shift, decimals), draw(n_ood, 2, 0.0, decimals)
    s = np.concatenate([i, o])
    y = np.concatenate([np.ones(n_id), np.zeros(n_ood)])
    fpr, tpr, thr = roc_curve(y, s, drop_intermediate=False)
    fpr2, tpr2, _ = roc_curve(1 - y, -s, drop_intermediate=False)
    first = np.argmax(tpr >= 0.95)
    return dict(
        n_id=n_id, n_ood=n_ood, shift=shift, decimals=decimals, distinct=len(set(s.tolist())),
        auroc=roc_auc_score(y, s),
        aupr_in=average_precision_score(y, s),
        aupr_out=average_precision_score(1 - y, -s),
        fpr95_id_positive=fpr[first],
        fpr95_ood_positive=fpr2[np.argmax(tpr2 >= 0.95)],
        threshold_95=thr[first],
        roc=[fpr.tolist(), tpr.tolist()] if len(fpr) < 60 else None,
        histogram=np.histogram(i, 7, (s.min(), s.max()))[0].tolist(),
    )


def scores():
    f32 = (Stream(seed=3, purpose="score").normals(12 * 10).astype(np.float32) * np.float32(4)).reshape(12, 10)
    f = f32.astype(np.float64)
    f[0] = 0
    f[1, 3] = 300
    f[2] = -300
    p = softmax(f, axis=1)
    return dict(
        msp=p.max(1).tolist(), maxlogit=f.max(1).tolist(), energy=logsumexp(f, axis=1).tolist(),
        energy_t2=(2 * logsumexp(f / 2, axis=1)).tolist(),
    )


def pca(n, d):
    x = Stream(seed=5, purpose="pca").normals(n * d).astype(np.float32).reshape(n, d)
    x = x * np.float32(2.0) ** -np.arange(d, dtype=np.float32)
    fit = PCA(2, svd_solver="full").fit(x.astype(np.float64))
    return dict(n=n, d=d, xy=fit.transform(x.astype(np.float64)).tolist(), explained=fit.explained_variance_ratio_.tolist())


def write(path, value):
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    cases = [metrics(500, 300, 1.0, 30), metrics(500, 300, 1.5, 2), metrics(40, 1000, 0.5, 0), metrics(1, 1, 3.0, 1), metrics(20, 20, 0.0, -3)]
    write("internal/score/testdata/score.json", dict(metrics=cases, scores=scores()))
    write("internal/project/testdata/pca.json", [pca(40, 6), pca(9, 20)])
