"""Records parity vectors for the methods gaussian, boundary and pca-shell of services/sampler.

Every step comes from somebody else's implementation in float64: covariances,
Mahalanobis distances and principal components from scikit-learn, likelihoods
and gradients from PyTorch, roots from SciPy. Only the random numbers are the
project's own streams (philox.py beside this file).

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 torch==2.15.0
    python tools/vectors/sampler_methods.py   # writes services/sampler/testdata/methods_*.json
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

from philox import Stream

RIDGE = 1e-4


def floats(purpose, cls, n, d):
    return Stream(seed=78, purpose=purpose, cls=cls).normals(n * d).astype(np.float32).reshape(n, d)


def bank(cls, n, d):
    """n embeddings around a direction; column j spreads as 1/(1 + j)."""
    scale = (1 / (1 + np.arange(d))).astype(np.float32)
    return floats("bank", cls, n, d) * scale + np.float32(1.5) * floats("centre", cls, 1, d)


def unit(x):
    """Rows of unit norm, rounded to float32 as the Go code keeps them."""
    x = x.astype(np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)


def kth(bank, queries, k):
    d = ((queries[:, None, :] - bank[None]) ** 2).sum(-1)
    return np.sort(d, axis=1)[:, k - 1]


def noise(purpose, seed, cls, index, n, d):
    return Stream(seed, purpose, cls, index).normals(n * d).astype(np.float32).astype(np.float64).reshape(n, d)


def gaussian(sizes, d, cls, noises, keep, rounds, k, seed, alone):
    banks = [unit(bank(c, n, d)) for c, n in enumerate(sizes)]
    shared = [banks[cls]] if alone else banks
    centred = np.concatenate([b - b.mean(0) for b in shared])
    fit = EmpiricalCovariance(assume_centered=True).fit(centred)
    sigma = fit.covariance_ + RIDGE * np.eye(d)
    mean = banks[cls].mean(0)
    ridged = EmpiricalCovariance(assume_centered=True)
    ridged.precision_, ridged.location_, ridged.store_precision = np.linalg.inv(sigma), mean, True
    model = torch.distributions.MultivariateNormal(torch.tensor(mean), covariance_matrix=torch.tensor(sigma))
    samples = []
    for r in range(rounds):
        g = torch.tensor(noise("sampler.gaussian.noise", seed, cls, r, noises, d))
        x = model.loc + g @ model.scale_tril.T
        order = torch.sort(-model.log_prob(x), descending=True, stable=True).indices[:keep]
        z = F.normalize(x[order], dim=1).numpy()
        samples += [
            dict(round=r, noise=int(i), embedding=z[j].tolist(), kth=kth(banks[cls], z[j : j + 1], k)[0])
            for j, i in enumerate(order)
        ]
    return dict(
        params=dict(sizes=sizes, d=d, cls=cls, noises=noises, keep=keep, rounds=rounds, k=k, seed=seed, alone=alone),
        covariance=sigma.tolist(),
        distances=ridged.mahalanobis(banks[cls]).tolist(),
        samples=samples,
    )


def cross_entropy(z, anchors, y):
    logits = F.cosine_similarity(z[:, None, :], anchors[None], dim=2) / 0.1
    return F.cross_entropy(logits, torch.full((len(z),), y), reduction="sum"), logits.argmax(1)


def boundary(n, d, classes, cls, pull, alpha, steps, beyond, select):
    anchors = floats("anchors", 0, classes, d)
    raw = np.float32(pull) * anchors[cls] + floats("spread", cls, n, d)
    a, start = torch.tensor(anchors.astype(np.float64)), torch.tensor(unit(raw))
    z = start.clone().requires_grad_()
    cross_entropy(z, a, cls)[0].backward()
    gradients = z.grad[:4].tolist()
    kappa, ends = [], []
    for row in start:
        z, wrong, flip = row[None].clone(), 0, None
        for step in range(steps + beyond + 1):
            z = z.detach().requires_grad_()
            loss, predicted = cross_entropy(z, a, cls)
            if predicted[0] != cls:
                flip = step if flip is None else flip
                wrong += 1
            if wrong > beyond or (wrong == 0 and step == steps):
                break
            loss.backward()
            z = z + alpha * z.grad.sign()
        kappa.append(flip if wrong > beyond else -1)
        ends.append(F.normalize(z.detach(), dim=1)[0].tolist())
    order = sorted((k, i) for i, k in enumerate(kappa) if k >= 0)[:select]
    return dict(
        params=dict(n=n, d=d, classes=classes, cls=cls, pull=pull, alpha=alpha, steps=steps, beyond=beyond, select=select),
        gradients=gradients,
        kappa=kappa,
        selected=[i for _, i in order],
        samples=[ends[i] for _, i in order],
    )


def shell(n, d, cls, lower, upper, count, seed):
    x = unit(bank(cls, n, d))
    mean = x.mean(0)
    pca = PCA(svd_solver="full").fit(x)
    values = np.zeros(d)
    values[: len(pca.explained_variance_)] = pca.explained_variance_ * (n - 1) / n
    large = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), 0.9) + 1)
    precision = np.linalg.inv(np.cov(x.T, bias=True) + RIDGE * np.eye(d))

    def distance(z):
        return np.sqrt((z - mean) @ precision @ (z - mean))

    distances = np.array([distance(row) for row in x])
    inner, outer = np.quantile(distances, [lower, upper])
    samples = []
    for i in range(count):
        g = noise("sampler.pca-shell.noise", seed, cls, i, 1, d)[0]
        basis = pca.components_[:large]
        v = g - basis.T @ (basis @ g)
        v /= np.linalg.norm(v)
        want = inner + Stream(seed, "sampler.pca-shell.distance", cls, i).uniform(1)[0] * (outer - inner)
        alpha = brentq(lambda a: distance(mean + a * v) - want, 0, 64, xtol=1e-14)
        z = mean + alpha * v
        samples.append(dict(distance=want, embedding=(z / np.linalg.norm(z)).tolist()))
    return dict(
        params=dict(n=n, d=d, cls=cls, lower=lower, upper=upper, count=count, seed=seed),
        values=values.tolist(), large=large, distances=distances.tolist(), inner=inner, outer=outer, samples=samples,
    )


def main():
    out = pathlib.Path(__file__).parents[2] / "services/sampler/testdata"
    for name, cases in {
        "gaussian": [
            gaussian([20, 30, 25], 12, 1, 300, 3, 2, 10, 5, False),
            gaussian([20, 8, 25], 12, 1, 300, 2, 1, 3, 6, True),
        ],
        "boundary": [
            boundary(40, 16, 5, 2, 0.75, 0.01, 40, 1, 12),
            boundary(40, 16, 5, 3, 1.5, 0.02, 6, 0, 40),
        ],
        "pca_shell": [
            shell(60, 12, 0, 0.95, 0.99, 5, 5),
            shell(9, 12, 1, 0.5, 0.9, 3, 6),
        ],
    }.items():
        path = out / f"methods_{name}.json"
        path.write_text(json.dumps(cases) + "\n")
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
