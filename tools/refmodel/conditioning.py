"""What a token embedding means: the class of the picture that is shown under it, as a distribution.

A model trained on exact words only, or with noise on the words, ignores how far an embedding lies from its
word; its outliers would be ID pictures under a wrong label. Here the meaning is defined for the whole space.
With a_k the anchors (unit vectors, one per class of the world) and e a unit embedding:

    p(k | e) = (exp(S (cos(e, a_k) − C0)) + q(k | e)) / (1 + Σ_j exp(S (cos(e, a_j) − C0)))
    q(k | e) = softmax_k(R cos(e, a_k))

Near an anchor the class itself, far from all anchors a picture of the wider world, preferably of related words.
Under guidance w the share of the class is sharpened, so C0 lies nearer to the anchor than the wanted fall.
"""
import torch
import torch.nn.functional as F

S, C0, R = 18.0, 0.78, 2.0


def posterior(e, anchors):
    """e [B, H] unit, anchors [K, H] unit → p(k | e) [B, K]."""
    cos = e @ anchors.T
    near = torch.exp(S * (cos - C0))
    p = (near + F.softmax(R * cos, 1)) / (1 + near.sum(1, keepdim=True))
    return p / p.sum(1, keepdim=True)


def draw(anchors, own, gen):
    """Embeddings around the anchors `own` [B]: on the way to another anchor, in random directions, and both.
    Returns unit embeddings [B, H]; cosines to the own anchor from 1 down to about 0.25."""
    b, h = len(own), anchors.shape[1]
    other = anchors[torch.randint(0, len(anchors), (b,), generator=gen)]
    toward = (torch.rand(b, 1, generator=gen) < 0.4).float() * torch.rand(b, 1, generator=gen) * 1.3
    noise = F.normalize(torch.randn(b, h, generator=gen), dim=1) * torch.rand(b, 1, generator=gen) * 3.3
    return F.normalize(anchors[own] + toward * other + noise, dim=1)
