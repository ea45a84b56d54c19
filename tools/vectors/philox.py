"""Records parity vectors for internal/philox.

Raw Philox4x32-10 words come from randomgen's C implementation (a third party),
the streams and the derived distributions from the plain Python and NumPy
version below. Normal numbers are recorded to the last bit of float32.

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


f32 = np.float32


def polynomial(x, coefficients):
    """Horner's rule, coefficients rising; NumPy rounds every product and every sum to float32."""
    p = f32(coefficients[-1])
    for c in coefficients[-2::-1]:
        p = p * x + f32(c)
    return p


LOG = [-0.6666643023490906, 0.4999959468841553, -0.40020811557769775, 0.33360975980758667,
       -0.28011736273765564, 0.24368524551391602, -0.2796888053417206, 0.2578335702419281]  # fmt: skip
SINE = [-1.9519181648774975e-07, -41.3416633605957, 81.59235382080078, -75.39356231689453]
COSINE = [-19.739208221435547, 64.93932342529297, -85.4432373046875, 59.229244232177734]


def minus_two_log(w):
    """-2 ln((w + 1/2) / 2^32) of 32-bit words, u = 2^e (1 + f) with 1 + f in [2/3, 4/3)."""
    v = (w.view(np.int32).astype(f32) + f32(0.5)) * f32(2.0**-32)  # u, or u - 1 in the upper half
    upper = v < 0
    u = np.where(upper, v + f32(1), v)
    mantissa, e = np.frexp(u)  # u = mantissa 2^e, mantissa in [1/2, 1)
    e = np.where(mantissa < np.uint32(0x3F2AAAAB).view(f32), e - 1, e)
    scale = np.ldexp(f32(1), -e)
    f = v * scale + np.where(upper, scale - f32(1), f32(-1))
    e = e.astype(f32)
    p = polynomial(f, LOG) * (f * (f * f))
    p = p + e * f32(2 * 2.12194440e-4)
    p = p + f * f
    p = p - (f + f)
    return p + e * f32(-2 * 0.693359375)


def sine_cosine(w):
    """Sine and cosine of (floor(w/64) + 1/2) / 2^26 turns."""
    turn = 2 * (w >> np.uint32(6)).astype(np.int64) + 1  # in 2^-27 turns
    quarter = (turn + 2**24) >> 25
    x = (turn - (quarter << 25)).astype(f32) * f32(2.0**-27)
    z = x * x
    s = polynomial(z, SINE) * x + x * f32(2 * np.pi)
    c = polynomial(z, COSINE) * z + f32(1)
    sin = np.choose(quarter % 4, [s, c, -s, -c])
    cos = np.choose(quarter % 4, [c, -s, -c, s])
    return sin, cos


def exact_normals(w):
    """The same in float64."""
    w = w.astype(np.float64)
    r = np.sqrt(-2 * np.log((w[:, 0] + 0.5) / 2.0**32))
    t = 2 * np.pi * (np.floor(w[:, 1] / 64) + 0.5) / 2.0**26
    return np.stack([r * np.cos(t), r * np.sin(t)], 1)


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
        """Box-Muller in float32, step for step as internal/philox/normal.go defines it; float64 for what follows."""
        w = np.array(self.words(n + n % 2), dtype=np.uint32).reshape(-1, 2)
        r = np.sqrt(minus_two_log(w[:, 0]))
        sin, cos = sine_cosine(w[:, 1])
        got = np.stack([r * cos, r * sin], 1)
        want = exact_normals(w)
        assert np.all(np.abs(got - want) <= 4 * np.spacing(np.abs(want).astype(f32))), "not within 4 units in the last place"
        return got.ravel()[:n].astype(np.float64)

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
                normals=s.normals(256).tolist(),
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
