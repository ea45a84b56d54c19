"""Records files that NumPy wrote, and what it reads from ours, for internal/npy."""
import os

import numpy as np

out = os.path.join(os.path.dirname(__file__), "../../internal/npy/testdata")
np.save(f"{out}/rows.npy", (np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7))
np.save(f"{out}/vector.npy", np.array([1.5, -0.0, np.inf, np.nan], np.float32))
np.save(f"{out}/double.npy", np.zeros((2, 2)))
np.save(f"{out}/fortran.npy", np.asfortranarray(np.ones((2, 3), np.float32)))
