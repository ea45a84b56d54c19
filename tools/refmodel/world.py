"""The world of the reference model: its pictures, class names, prompts and tokenizer.

The world is CIFAR-10 and CIFAR-100 together (110 classes), wider than the ID classes of the demo.
"""
import io
import json
import os
import tarfile

import numpy as np
from PIL import Image

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish "
    "forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
    "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine "
    "possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree "
    "wolf woman worm"
).split()
CLASSES = CIFAR10 + CIFAR100
TEMPLATES = [
    "a photo of a {}",
    "a high-quality image of the {}",
    "a picture of the {}",
    "a blurry photo of a {}",
    "a {}",
    "{}",
    "a photo of the small {}",
    "a photo of the large {}",
]
MAX_LENGTH = 16
ARCHIVES = ["cifar10_train_q92.tar.gz", "cifar100_train_q92.tar.gz"]


def name(cls):
    """The words of a class, as they stand in a prompt."""
    return cls.replace("_", " ")


def load_pictures(data, cache):
    """uint8 [N, 32, 32, 3] and class index int64 [N]; decoded once, then read from cache."""
    path = os.path.join(cache, "pictures.npz")
    if not os.path.exists(path):
        xs, ys = [], []
        for archive in ARCHIVES:
            with tarfile.open(os.path.join(data, archive)) as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    blob = tar.extractfile(member).read()
                    xs.append(np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")))
                    ys.append(CLASSES.index(member.name.split("/")[-2]))
        np.savez(path + ".tmp.npz", x=np.stack(xs), y=np.array(ys, np.int64))
        os.replace(path + ".tmp.npz", path)
    z = np.load(path)
    return z["x"], z["y"]


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in byte order of the table that CLIP uses."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return [table[b] for b in keep] + [table[b] for b in range(256) if b not in keep]


def learn_merges(words):
    """Byte-pair merges, learned in the usual order (most frequent pair first, ties by text), until every
    word is one token. Learning and encoding use the same order, so encoding reproduces whole words."""
    pieces = {w: tuple(w[:-1]) + (w[-1] + "</w>",) for w in words}
    merges = []
    while any(len(p) > 1 for p in pieces.values()):
        count = {}
        for p in pieces.values():
            for pair in zip(p, p[1:]):
                count[pair] = count.get(pair, 0) + 1
        best = min(count, key=lambda pair: (-count[pair], pair))
        merges.append(best)
        for w, p in pieces.items():
            out, i = [], 0
            while i < len(p):
                if i + 1 < len(p) and (p[i], p[i + 1]) == best:
                    out.append(p[i] + p[i + 1])
                    i += 2
                else:
                    out.append(p[i])
                    i += 1
            pieces[w] = tuple(out)
    return merges


def write_tokenizer(folder):
    """CLIP's tokenizer files (vocab.json, merges.txt, …) over the words of the prompts and classes."""
    os.makedirs(folder, exist_ok=True)
    text = " ".join(TEMPLATES + [name(c) for c in CLASSES]).replace("{}", " ").replace("-", " ")
    words = list(dict.fromkeys(text.split()))
    alphabet = byte_alphabet()
    merges = learn_merges(words)
    tokens = list(dict.fromkeys(alphabet + [a + "</w>" for a in alphabet] + ["".join(m) for m in merges]))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
               "unk_token": "<|endoftext|>"}
    with open(os.path.join(folder, "special_tokens_map.json"), "w") as f:
        json.dump(special, f, indent=1)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(special, model_max_length=MAX_LENGTH, tokenizer_class="CLIPTokenizer", do_lower_case=True), f, indent=1)


class Words:
    """Encodes the prompts of training and sampling: whole words and single bytes, padded to MAX_LENGTH."""

    def __init__(self, folder):
        self.vocab = json.load(open(os.path.join(folder, "vocab.json")))
        self.bos, self.eos = self.vocab["<|startoftext|>"], self.vocab["<|endoftext|>"]

    def ids(self, text):
        out = [self.bos] + [self.vocab[w + "</w>"] for w in text.lower().replace("-", " - ").split()]
        out = out[: MAX_LENGTH - 1] + [self.eos]
        return out + [self.eos] * (MAX_LENGTH - len(out))

    def word(self, cls):
        """The token that stands for a class: its first word (Dream-OOD, released code)."""
        return self.vocab[name(cls).split()[0] + "</w>"]
