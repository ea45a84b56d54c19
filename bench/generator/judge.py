"""What a classifier sees of the difference between float32 and other ways to run the U-Net.

    bin/bench-generator -pairs out/pairs
    python bench/generator/judge.py out/pairs CLASSIFIER.pt

CLASSIFIER.pt is that of tools/refmodel/classifier.py, of more than 90 % on real test pictures. The folder holds the same
200 pictures, 20 of each class of CIFAR-10, rendered in several ways.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "refmodel"))
import classifier  # noqa: E402

PER_CLASS = 20


def main():
    folder, path = sys.argv[1:]
    net, accuracy = classifier.load(path)
    print("the classifier has %.1f %% on real test pictures" % (100 * accuracy))
    own = np.repeat(np.arange(10), PER_CLASS)
    seen, raw = {}, {}
    for name in sorted(f for f in os.listdir(folder) if f.endswith(".rgb")):
        x = np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 32, 32, 3)
        seen[name] = classifier.judge(net, classifier.to_float(x))[0].numpy()
        raw[name] = x
    base = seen["fp32.rgb"]
    for name, p in seen.items():
        d = raw[name].astype(float) - raw["fp32.rgb"]
        mse = (d**2).mean()
        print("%-20s own class %.1f %%, same class as fp32 %.1f %%, mean confidence in the own class %.4f, mean |Δp| %.4f, PSNR %.1f dB, at most %d"
              % (name[:-4], 100 * (p.argmax(1) == own).mean(), 100 * (p.argmax(1) == base.argmax(1)).mean(), p[np.arange(len(own)), own].mean(),
                 np.abs(p - base).max(1).mean(), 10 * np.log10(255**2 / mse) if mse else 999, np.abs(d).max()))


if __name__ == "__main__":
    main()
