"""A computation that waits in its middle, at work: it makes the file "started" there, and goes on once there is "release"."""

import hashlib
import os

total = 0
words = {}
for step in range(60):
    for n in range(300):
        total = (total * 31 + n ** 3 // (step + 1)) % (1 << 61)
        key = hashlib.sha256(b"%d" % total).hexdigest()[:2]
        words[key] = words.get(key, 0.0) + n / (step + 1)
    if step == 30:
        with open("started.tmp", "w") as file:
            file.write("0\n")
        os.rename("started.tmp", "started")
        while not os.path.exists("release"):
            sorted(words.values())
print(total, sorted(words.items())[:5], sum(words.values()))
