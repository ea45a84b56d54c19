"""Records files that NumPy wrote, for internal/npy.

    pip install numpy==2.4.6
    python tools/vectors/npy.py
"""
import json
import os

import numpy as np

out = os.path.join(os.path.dirname(__file__), "../../internal/npy/testdata")
rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
np.save(f"{out}/rows.npy", rows)
np.save(f"{out}/vector.npy", np.array([1.5, -0.0, np.inf, np.nan], np.float32))
np.save(f"{out}/double.npy", np.zeros((2, 2)))
np.save(f"{out}/fortran.npy", np.asfortranarray(np.ones((2, 3), np.float32)))
np.save(f"{out}/bigendian.npy", np.ones((2, 3), ">f4"))
with open(f"{out}/format2.npy", "wb") as f:
    np.lib.format.write_array(f, rows, version=(2, 0))
for name in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"):
    np.save(f"{out}/labels_{name.strip('<')}.npy", np.array([0, 3, 127, 1], name))

# Headers of empty arrays: every length of a shape's text around the lengths where NumPy's padding changes.
shapes = [[0] * n for n in range(1, 30)] + [[0, 10**n] for n in range(12)] + [[0, *[1] * n, 10] for n in range(8, 28)]
headers = []
for shape in shapes:
    np.save(f"{out}/tmp.npy", np.empty(shape, np.float32))
    with open(f"{out}/tmp.npy", "rb") as f:
        headers.append({"shape": shape, "file": f.read().decode("latin-1")})
os.remove(f"{out}/tmp.npy")
with open(f"{out}/headers.json", "w") as f:
    json.dump(headers, f, indent=0)
    f.write("\n")

# Headers of structured arrays, without the records.
fields = np.dtype([("label", "<i4"), ("index", "<i4"), ("kth_distance", "<f4")])
for n in (0, 1, 12345):
    np.save(f"{out}/tmp.npy", np.zeros(n, fields))
    with open(f"{out}/tmp.npy", "rb") as f, open(f"{out}/records_{n}.head", "wb") as head:
        raw = f.read()
        head.write(raw[: len(raw) - n * fields.itemsize])
os.remove(f"{out}/tmp.npy")
