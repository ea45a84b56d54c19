"""Reads an export of tar shards with the Python package webdataset and holds every sample against the manifest.

usage: check.py DIR, a folder that `dreamood sets export --format webdataset` wrote
"""

import glob
import hashlib
import io
import json
import os
import sys

import webdataset as wds
from PIL import Image


def main(folder):
    with open(os.path.join(folder, "manifest.jsonl"), encoding="utf-8") as f:
        lines = {line["file"]: line for line in map(json.loads, f)}
    shards = sorted(glob.glob(os.path.join(folder, "shard-*.tar")))
    assert shards and lines, "no shards, or no manifest"
    raw = {}
    for sample in wds.WebDataset(shards, shardshuffle=False):
        assert {"__key__", "png", "json", "cls"} <= set(sample), f"{sample['__key__']} has {sorted(sample)}"
        raw[sample["__key__"]] = sample
    assert len(raw) == len(lines), f"{len(raw)} samples, {len(lines)} lines"
    classes = {}
    for key, sample in raw.items():
        line = lines[key + ".png"]
        assert hashlib.sha256(sample["png"]).hexdigest() == line["sha256"], key
        assert json.loads(sample["json"]) == line, key
        assert key.rsplit("/", 1)[0] == line["class"], key
        classes.setdefault(line["class"], set()).add(int(sample["cls"]))
    assert all(len(labels) == 1 for labels in classes.values()), classes
    assert len(set.union(*classes.values())) == len(classes), classes
    # As a training loop does it: decoded, as tuples, in batches.
    loop = wds.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls", "json").batched(8, partial=True)
    seen = 0
    for pictures, labels, records in loop:
        for picture, label, record in zip(pictures, labels, records):
            want = Image.open(io.BytesIO(raw[record["file"][: -len(".png")]]["png"])).convert("RGB")
            assert picture.size == want.size and picture.convert("RGB").tobytes() == want.tobytes(), record["file"]
            assert label in classes[record["class"]], record["file"]
            seen += 1
    assert seen == len(lines), f"{seen} of {len(lines)} in the loop"
    print(f"webdataset {wds.__version__}: {len(shards)} shards, {seen} samples, {len(classes)} classes: as in the manifest")


if __name__ == "__main__":
    main(sys.argv[1])
