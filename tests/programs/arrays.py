"""Linear algebra, a Fourier transform and array functions, by OpenBLAS's code for AVX-512."""

import hashlib
import os

# Else the library chooses by the processor's model, and the guest's is another one.
os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
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
