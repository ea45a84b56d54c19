"""What a token embedding means: the class of the picture that is shown under it, as a distribution.

A model trained on exact words only, or with noise on the words, ignores how far an embedding lies from its
word; its outliers would be ID pictures under a wrong label. Here the meaning is defined for the whole space.
With a_k the anchors (unit vectors, one per class of the world) and e a unit embedding:

    p(k | e) = (n_k + q_k) / (1 + Σ_j n_j)
    n_k = exp(S (cos(e, a_k) − C0))             near an anchor: its class
    q = softmax(R t(cos(e, a_k)))               elsewhere: the words that the direction leans to
    t(c) = c for c ≤ M, max(2 M − c, 0) above   but not the word at whose border it lies

So the class fades out between a cosine of 0.7 and 0.4, and beyond its border the pictures are of other things,
related words first: the anchors of a trained table lie near each other where the pictures are alike (truck and
bus, horse and cattle). M is the largest cosine that a random direction has with one of 110 anchors in 256 dimensions.
"""
import torch
import torch.nn.functional as F

S, C0 = 16.0, 0.65
R, M = 25.0, 0.16


def posterior(e, anchors):
    """e [B, H] unit, anchors [K, H] unit → p(k | e) [B, K]."""
    cos = e @ anchors.T
    near = torch.exp(S * (cos - C0))
    lean = torch.where(cos <= M, cos, (2 * M - cos).clamp(min=0))
    p = (near + F.softmax(R * lean, 1)) / (1 + near.sum(1, keepdim=True))
    return p / p.sum(1, keepdim=True)


def draw(anchors, own, gen):
    """Embeddings around the anchors `own` [B]: at a cosine to them drawn from [0.05, 1], in random directions, and for
    two in five of them leaning to another anchor. Returns unit embeddings [B, H]."""
    b, h = len(own), anchors.shape[1]
    a = anchors[own]
    other = anchors[torch.randint(0, len(anchors), (b,), generator=gen)]
    lean = (torch.rand(b, 1, generator=gen) < 0.4).float() * torch.rand(b, 1, generator=gen) * 1.5
    v = F.normalize(torch.randn(b, h, generator=gen), dim=1) + lean * other
    v = F.normalize(v - (v * a).sum(1, keepdim=True) * a, dim=1)
    c = 0.05 + 0.95 * torch.rand(b, 1, generator=gen)
    return c * a + (1 - c * c).sqrt() * v
