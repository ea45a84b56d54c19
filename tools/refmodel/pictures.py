"""Sheets of small pictures with labels, as PNG files of bounded size."""
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 3
INK, PAPER = (30, 30, 30), (255, 255, 255)


def to_uint8(pictures):
    """float32 torch [N, 3, H, W] in [−1, 1] → uint8 [N, H, W, 3]."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def sheet(rows, labels, heads=(), gaps=()):
    """uint8 rows [R, C, H, W, 3] as one picture, enlarged without smoothing; a label left of each row, a head above each
    column, a gap before each row in gaps."""
    rows = np.asarray(rows)
    r, c, h, w = rows.shape[:4]
    font = ImageFont.load_default(13)
    left, top, gap = 12 + int(max(font.getlength(s) for s in labels)), 20 if heads else 4, 8
    tile = (SCALE * h + 1, SCALE * w + 1)
    page = Image.new("RGB", (left + c * tile[1], top + r * tile[0] + gap * len(gaps)), PAPER)
    draw, y = ImageDraw.Draw(page), top
    for j, head in enumerate(heads):
        draw.text((left + (j + 0.5) * tile[1], top / 2), head, INK, font, anchor="mm")
    for i in range(r):
        y += gap if i in gaps else 0
        draw.text((left - 6, y + tile[0] / 2), labels[i], INK, font, anchor="rm")
        for j in range(c):
            page.paste(Image.fromarray(rows[i, j]).resize((SCALE * w, SCALE * h), Image.NEAREST), (left + j * tile[1], y))
        y += tile[0]
    return page


def write_png(path, page, limit):
    """Writes page, with as many bits per colour channel as keep the file below limit bytes; returns that number."""
    for bits in (8, 7, 6, 5, 4):
        levels = 2**bits - 1
        x = np.round(np.asarray(page) * (levels / 255)) * (255 / levels)
        out = io.BytesIO()
        Image.fromarray(x.round().astype(np.uint8)).save(out, "PNG", optimize=True)
        if out.tell() < limit:
            break
    with open(path, "wb") as f:
        f.write(out.getvalue())
    return bits
