"""Linear algebra, a Fourier transform and array functions; the argument names OpenBLAS's code: SkylakeX or Haswell."""

import hashlib
import os
import sys

# The library chooses by the processor's model, which isn't the guest's.
os.environ["OPENBLAS_CORETYPE"] = sys.argv[1]
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

random = np.random.RandomState(7)
a = random.rand(96, 96)
b = random.rand(96, 96)
u, s, v = np.linalg.svd(a)
results = {
    "product": a @ b,
    "singular values": s,
    "left": u,
    "right": v,
    "solution": np.linalg.solve(a, b),
    "transform": np.fft.fft(random.rand(1000)),
    "sines": np.sin(a),
    "exponentials": np.exp(b),
    "sorted": np.sort(a.ravel()),
    "sums": a.sum(axis=0),
    "bytes": (a * 255).astype(np.uint8),
}
for name, values in results.items():
    print(name, hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())
