"""Records what Pillow makes of a picture, for the operations of internal/dataset/randaugment.go.

    python tools/vectors/augment.py     # writes internal/dataset/testdata/operations.json

The picture is 24 by 24: value i of RGB is (i·i·7 + i·31) mod 253; it is drawn at strength 0.7, for both signs.
"""
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SIZE, S = 24, 0.7
i = np.arange(SIZE * SIZE * 3, dtype=np.int64)
img = Image.fromarray(((i * i * 7 + i * 31) % 253).astype(np.uint8).reshape(SIZE, SIZE, 3))


def affine(a, b, c, d, tx=0.0, ty=0.0):
    h = SIZE / 2
    return img.transform((SIZE, SIZE), Image.Transform.AFFINE, (a, b, h - a * h - b * h + tx, c, d, h - c * h - d * h + ty), Image.Resampling.NEAREST)


out = {}
for sign in (1, -1):
    t = sign * S * 30 * math.pi / 180
    f = 1 + sign * 0.9 * S
    move = np.sign(sign) * math.floor(S * SIZE * 150 / 331 + 0.5)
    for name, made in {
        "identity": img, "autocontrast": ImageOps.autocontrast(img), "equalize": ImageOps.equalize(img),
        "rotate": affine(math.cos(t), math.sin(t), -math.sin(t), math.cos(t)),
        "solarize": ImageOps.solarize(img, 255 * (1 - S)), "posterize": ImageOps.posterize(img, 8 - round(4 * S)),
        "color": ImageEnhance.Color(img).enhance(f), "contrast": ImageEnhance.Contrast(img).enhance(f),
        "brightness": ImageEnhance.Brightness(img).enhance(f), "sharpness": ImageEnhance.Sharpness(img).enhance(f),
        "shear_x": affine(1, sign * 0.3 * S, 0, 1), "shear_y": affine(1, 0, sign * 0.3 * S, 1),
        "translate_x": affine(1, 0, 0, 1, tx=move), "translate_y": affine(1, 0, 0, 1, ty=move),
    }.items():
        out[f"{name} {sign}"] = np.asarray(made).tobytes().hex()
path = Path(__file__).resolve().parents[2] / "internal/dataset/testdata/operations.json"
path.write_text(json.dumps(out, indent=0) + "\n")
print(path.name, len(out))
