#!/usr/bin/env python3
"""Packs the sample data that ships in sample/ from the full archives.

    python3 tools/sample/pack.py DATA [OUT]

DATA is the folder with cifar10_train_q92.tar.gz, cifar10_test.zip,
ood_cifar100_test.zip and ood_dtd10_32.zip (their make-up is described in
sample/README.md); OUT is the folder to write, by default sample/ of this
checkout. Standard library only. Pictures are taken byte for byte, never
decoded or encoded again, and the same input gives the same archives: fixed
times, owners and order, no host name or path in any header. (The gzip stream
of the training archive also depends on the zlib that Python was built with;
the tar inside does not.)

The training archive is a tar.gz because its 600-byte JPEG tables repeat in
every picture: gzip keeps them once, a zip would keep them 3,000 times. The
PNG archives are zips with stored entries.
"""

import gzip
import io
import os
import pathlib
import sys
import tarfile
import zipfile

TRAIN_PER_CLASS = 300
TEST_PER_CLASS = 50
NEAR_TOTAL = 250  # over 100 classes: 2 or 3 of each
FAR_PER_CLASS = 20
LIMIT_BYTES = 4_800_000
CLASSES = 10


def read_zip(path):
    """Pictures of a zip by class, each class sorted by name."""
    classes = {}
    with zipfile.ZipFile(path) as z:
        for name in sorted(z.namelist()):
            if name.endswith("/"):
                continue
            _, cls, base = name.split("/")
            classes.setdefault(cls, []).append((base, z.read(name)))
    return classes


def every_nth(items, n):
    """n items spread evenly over a sorted list: the middle one of n equal parts."""
    return [items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)]


def take(classes, per_class):
    """{class: n} pictures of every class as (path, bytes), in order."""
    return [
        (f"test/{cls}/{base}", data)
        for cls in sorted(classes)
        for base, data in every_nth(classes[cls], per_class(cls))
    ]


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for name, data in entries:
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            info.create_system = 3
            z.writestr(info, data)


def pack_train(source, target):
    """The first entries of the training archive: balanced and shuffled by its make."""
    raw = io.BytesIO()
    counts = {}
    with tarfile.open(source, "r:gz") as src, tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as dst:
        for member in src:
            if not member.isfile():
                continue
            cls = member.name.split("/")[1]
            counts[cls] = counts.get(cls, 0) + 1
            info = tarfile.TarInfo(member.name)
            info.size, info.mode, info.mtime = member.size, 0o644, 1577836800
            dst.addfile(info, src.extractfile(member))
            if sum(counts.values()) == CLASSES * TRAIN_PER_CLASS:
                break
    if len(counts) != CLASSES or set(counts.values()) != {TRAIN_PER_CLASS}:
        raise SystemExit(f"{source}: the first entries are not balanced: {counts}")
    with open(target, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(raw.getvalue())


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    data = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parents[2] / "sample"
    out.mkdir(parents=True, exist_ok=True)

    pack_train(data / "cifar10_train_q92.tar.gz", out / "cifar10_train.tar.gz")
    write_zip(out / "cifar10_test.zip", take(read_zip(data / "cifar10_test.zip"), lambda _: TEST_PER_CLASS))

    near = read_zip(data / "ood_cifar100_test.zip")
    low, extra = divmod(NEAR_TOTAL, len(near))
    more = set(every_nth(sorted(near), extra))
    write_zip(out / "ood_cifar100.zip", take(near, lambda cls: low + (cls in more)))
    write_zip(out / "ood_textures.zip", take(read_zip(data / "ood_dtd10_32.zip"), lambda _: FAR_PER_CLASS))

    total = 0
    for name in ("cifar10_train.tar.gz", "cifar10_test.zip", "ood_cifar100.zip", "ood_textures.zip"):
        size = os.path.getsize(out / name)
        total += size
        print(f"{size:>9,}  {name}")
    print(f"{total:>9,}  in all (limit {LIMIT_BYTES:,})")
    if total > LIMIT_BYTES:
        raise SystemExit("too large: lower the counts at the top of this file")


if __name__ == "__main__":
    main()
