"""Records parity vectors for internal/philox.

Raw Philox4x32-10 words come from randomgen's C implementation (a third party),
the streams and the derived distributions from the plain Python and NumPy
float64 version below.

    pip install numpy==2.4.6 randomgen==2.5.1
    python tools/vectors/philox.py      # writes internal/philox/testdata/philox.json
"""

import json
import pathlib

import numpy as np

MASK = 0xFFFFFFFF

# Random123 1.14.0, tests/kat_vectors, rows "philox4x32 10": counter, key, words.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def block(counter, key):
    """Philox4x32-10 (Salmon et al., SC 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def fnv1a(text):
    h = 0x811C9DC5
    for byte in text.encode():
        h = (h ^ byte) * 0x01000193 & MASK
    return h


class Stream:
    """One stream of dreamood's layout; see the package comment of internal/philox."""

    def __init__(self, seed=0, purpose="", cls=0, index=0, step=0):
        w = block([fnv1a(purpose), cls, index & MASK, index >> 32], [seed & MASK, seed >> 32])
        self.key, self.step, self.upper = w[:2], step, w[2:]

    def words(self, n, offset=0):
        out = []
        for i in range(offset // 4, (offset + n + 3) // 4):
            out += block([i, self.step, *self.upper], self.key)
        return out[offset % 4 : offset % 4 + n]

    def uniform(self, n):
        return np.array([w >> 8 for w in self.words(n)]) / 2.0**24

    def normals(self, n):
        w = np.array(self.words(n + n % 2), dtype=np.float64).reshape(-1, 2)
        r = np.sqrt(-2 * np.log((w[:, 0] + 0.5) / 2.0**32))
        t = 2 * np.pi * w[:, 1] / 2.0**32
        return np.stack([r * np.cos(t), r * np.sin(t)], 1).ravel()[:n]

    def choose(self, n, k):
        words = iter(self.words(4 * k + 64))
        p = list(range(n))
        for i in range(k):
            m = n - i
            while True:
                x = next(words) * m
                if x & MASK >= 2**32 % m:
                    break
            j = i + (x >> 32)
            p[i], p[j] = p[j], p[i]
        return p[:k]


KEYS = [
    dict(seed=0, purpose="", cls=0, index=0, step=0),
    dict(seed=0x0123456789ABCDEF, purpose="sampler.noise", cls=7, index=42, step=3),
    dict(seed=2**64 - 1, purpose="generator.latent", cls=2**32 - 1, index=2**64 - 1, step=2**32 - 1),
]


def main():
    from randomgen import Philox

    words = lambda text: [int(x, 16) for x in text.split()]
    raw = [dict(counter=words(c), key=words(k), words=words(w)) for c, k, w in KNOWN]
    for v in raw:
        assert block(v["counter"], v["key"]) == v["words"], v
    rng = np.random.default_rng(1)
    for _ in range(8):
        c = [int(x) for x in rng.integers(1, 2**32, 4)]  # randomgen counts up before it draws
        k = [int(x) for x in rng.integers(0, 2**32, 2)]
        number = sum(x << 32 * i for i, x in enumerate(c)) - 1
        third = Philox(counter=number, key=k[0] | k[1] << 32, number=4, width=32)
        raw.append(dict(counter=c, key=k, words=[int(x) for x in third.random_raw(4)]))
        assert block(c, k) == raw[-1]["words"], raw[-1]

    streams = []
    for key in KEYS:
        s = Stream(**key)
        streams.append(
            dict(
                key={**key, "seed": str(key["seed"]), "index": str(key["index"])},
                words=s.words(13),
                uniform=s.uniform(13).tolist(),
                normals=s.normals(64).tolist(),
                choose_20_of_1000=s.choose(1000, 20),
                perm_10=s.choose(10, 10),
            )
        )
    out = pathlib.Path(__file__).parents[2] / "internal/philox/testdata/philox.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(dict(blocks=raw, streams=streams), indent=1) + "\n")
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
