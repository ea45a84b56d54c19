"""What the classifier says of pictures: shares, response and distances, each beside the same figure for real pictures.

FCD here is the Fréchet distance in the features of the CIFAR-10 classifier (its penultimate layer), on the leading
principal components of the real pictures' features. It is not comparable with FID: other network, other features,
fewer pictures. Small samples raise it, so every value comes with a floor: the same number of real pictures.
"""
import hashlib
import os

import numpy as np
import scipy.linalg
import torch

import classifier
import conditioning
import world

COMPONENTS = 32      # principal components of the features; few, because the samples are small
REFERENCE = 0.8      # share of each class's test pictures that is the reference; the rest gives the floors
SURE = 0.5           # a picture "is" of a class above this confidence, where a choice is offered between classes


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def frechet(a, b):
    """|μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½) of features [N, D] and [M, D] (Heusel et al., 2017, equation 6)."""
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    traces = a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * np.real(np.trace(root))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + traces)


class Judge:
    """The classifier with the real pictures it compares with: the test sets of CIFAR-10 (`classes`) and, one part in 110
    for every class, of CIFAR-10 and CIFAR-100 together (`world`). Neither network has seen them."""

    def __init__(self, path, data, cache):
        self.net, self.accuracy = classifier.load(path)
        self.sha = sha256(path)
        probs, features, y = self._real(data, os.path.join(cache, "judge.npz"))
        rng = np.random.default_rng(0)
        first = np.zeros(len(y), bool)  # the first 100 of a class in random order: as many as CIFAR-100 has
        held = np.zeros(len(y), bool)   # kept out of the references
        for k in range(len(world.CLASSES)):
            rows = rng.permutation(np.flatnonzero(y == k))
            first[rows[:100]] = True
            held[rows[: round(100 * (1 - REFERENCE))]] = True
            if k < 10:
                held[rows[100 : 100 + round((len(rows) - 100) * (1 - REFERENCE))]] = True
        mean = features[first].mean(0)
        values, vectors = np.linalg.eigh(np.cov(features[first], rowvar=False))
        self.kept = float(values[-COMPONENTS:].sum() / values.sum())
        self._project = lambda f: (f - mean) @ vectors[:, -COMPONENTS:]
        low, ten = self._project(features), y < 10
        self.reference = {"classes": low[ten & ~held], "world": low[first & ~held]}
        self.spare = {"classes": low[ten & held], "world": low[first & held]}
        self.scale = frechet(self.reference["classes"], self.reference["world"])  # what a large distance is
        self.assigned = np.stack([np.bincount(probs[y == k].argmax(1), minlength=10) / (y == k).sum() for k in range(110)])
        self.sure = {"classes": float((probs[ten].max(1) > SURE).mean()), "world": float((probs[first].max(1) > SURE).mean()),
                     "cifar100": float((probs[~ten].max(1) > SURE).mean())}

    def _real(self, data, cache):
        if os.path.exists(cache):
            z = np.load(cache)
            if str(z["sha"]) == self.sha:
                return z["probs"], z["features"], z["y"]
        parts = [classifier.read_zip(os.path.join(data, name)) for name in ("cifar10_test.zip", "ood_cifar100_test.zip")]
        x, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        probs, features = classifier.judge(self.net, classifier.to_float(x))
        probs, features = probs.numpy(), features.numpy()
        np.savez(cache, probs=probs, features=features, y=y, sha=self.sha)
        return probs, features, y

    def look(self, pictures):
        """Pictures float32 [N, 3, 32, 32] in [−1, 1] → probabilities [N, 10] and projected features [N, COMPONENTS].

        They are rounded to 8 bits first, as they would be in a file."""
        x = ((pictures + 1) * 127.5).round().clamp(0, 255) / 255
        probs, features = classifier.judge(self.net, x)
        return probs.numpy(), self._project(features.numpy().astype(np.float64))

    def fcd(self, features, to):
        """Distance to the real pictures `to`, with the mean of what as many real pictures get (20 draws)."""
        rng, n = np.random.default_rng(0), len(features)
        spare, reference = self.spare[to], self.reference[to]
        draws = [frechet(spare[rng.permutation(len(spare))[:n]], reference) for _ in range(20)]
        return {"fcd": round(frechet(features, reference), 2), "floor": round(float(np.mean(draws)), 2), "n": n}

    def intended(self, embeddings, own, anchors):
        """What the classifier would say if the pictures were exactly those that conditioning.posterior asks for.

        embeddings [N, H], own classes [N], anchors [110, H] → the mean share of the own class that the posterior gives,
        and the mean share of pictures that the classifier would give to it (it says one of ten of every picture)."""
        unit = torch.nn.functional.normalize
        p = conditioning.posterior(unit(embeddings, dim=1), unit(anchors, dim=1)).numpy()
        rows = np.arange(len(own))
        return {"posterior": float(p[rows, own].mean()), "share": float((p @ self.assigned)[rows, own].mean())}


def summary(probs, own):
    """Share of pictures that are given to their class, mean confidence in it, share above SURE for any class."""
    rows = np.arange(len(own))
    return {"share": float((probs.argmax(1) == own).mean()), "confidence": float(probs[rows, own].mean()),
            "sure": float((probs.max(1) > SURE).mean()), "n": len(own)}
