#!/usr/bin/env python3
"""Records what Pillow makes of small pictures, for internal/dataset.

    python3 tools/vectors/dataset.py PICTURE

PICTURE is any colour photograph of 128 pixels or more on both sides (recorded
from test/bubbly/bubbly_0038.jpg of the DTD sample at 128 pixels). The output,
internal/dataset/testdata/pictures.json, holds each encoded picture, the size
and the filter, and the RGB pixels that Pillow gives, both in base64. Beside
the formats it records an independent reflect padding (numpy.pad) and the
channel statistics of one picture.
"""

import base64
import io
import json
import pathlib
import sys

import numpy as np
import PIL
from PIL import Image

FILTERS = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR, "nearest": Image.NEAREST}


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def rgb(data, size, resize="bicubic"):
    """What the package documents: over white, central square, resized."""
    image = Image.open(io.BytesIO(data))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    w, h = image.size
    s = min(w, h)
    x, y = (w - s) // 2, (h - s) // 2
    image = image.crop((x, y, x + s, y + s))
    if s != size:
        image = image.resize((size, size), FILTERS[resize])
    return np.asarray(image)


def main():
    photo = Image.open(sys.argv[1]).convert("RGB")
    small = photo.resize((16, 16), Image.BICUBIC)
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1)))
    alpha = small.copy()
    alpha.putalpha(ramp)
    wide = photo.crop((3, 5, 74, 42))  # 71 × 37, odd on both sides
    deep = Image.fromarray((np.asarray(small.convert("L")).astype(np.uint16) * 257))
    cases = [
        ("rgb.png", encoded(small, "PNG"), 16, "bicubic"),
        ("grey.png", encoded(small.convert("L"), "PNG"), 16, "bicubic"),
        ("grey16.png", encoded(deep, "PNG"), 16, "bicubic"),
        ("palette.png", encoded(small.quantize(16), "PNG"), 16, "bicubic"),
        ("palette-transparent.png", encoded(small.quantize(16), "PNG", transparency=3), 16, "bicubic"),
        ("alpha.png", encoded(alpha, "PNG"), 16, "bicubic"),
        ("grey-alpha.png", encoded(alpha.convert("LA"), "PNG"), 16, "bicubic"),
        ("rgb444.jpg", encoded(small, "JPEG", quality=92, subsampling=0), 16, "bicubic"),
        ("rgb420.jpg", encoded(small, "JPEG", quality=92, subsampling=2), 16, "bicubic"),
        ("progressive.jpg", encoded(small, "JPEG", quality=92, subsampling=0, progressive=True), 16, "bicubic"),
        ("grey.jpg", encoded(small.convert("L"), "JPEG", quality=92), 16, "bicubic"),
        ("lossless.webp", encoded(small, "WEBP", lossless=True), 16, "bicubic"),
        ("lossless-alpha.webp", encoded(alpha, "WEBP", lossless=True, exact=True), 16, "bicubic"),
        ("lossy.webp", encoded(small, "WEBP", quality=95), 16, "bicubic"),
    ]
    data = encoded(wide, "PNG", optimize=True)
    cases += [(f"wide-{name}.png", data, 16, name) for name in FILTERS]
    cases += [("enlarged.png", encoded(small, "PNG"), 21, "bicubic")]

    pixels = np.asarray(small)
    record = {
        "pillow": PIL.__version__,
        "pictures": [
            {"name": n, "data": b64(d), "size": s, "resize": r, "rgb": b64(rgb(d, s, r).tobytes())} for n, d, s, r in cases
        ],
        "reflect4": b64(np.pad(pixels, ((4, 4), (4, 4), (0, 0)), mode="reflect").tobytes()),
        "mean": (pixels / 255.0).mean(axis=(0, 1)).tolist(),
        "std": (pixels / 255.0).std(axis=(0, 1)).tolist(),
    }
    out = pathlib.Path(__file__).parents[2] / "internal" / "dataset" / "testdata" / "pictures.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
