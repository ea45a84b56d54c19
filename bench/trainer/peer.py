"""The peer of bench-trainer: PyTorch on the CPU.

Reads commands as JSON lines and answers each with one line, so that both sides take turns in one run:
  {"network", "width", "batch", "mode": "fp32" | "fp32 channels_last" | "bf16 channels_last", "threads", "steps"} → {"seconds": [of each step], "peak_mib"}
A step is forward, cross-entropy, backward and SGD with Nesterov momentum and weight decay. The peak is that of the process.
"""
import json
import os
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "vectors"))
sys.dont_write_bytecode = True


def network(name, width):
    import networks as n
    return {
        "resnet9": lambda: (n.ResNet9(width), 8 * width),
        "resnet18": lambda: (n.ResNet18(width), 8 * width),
        "wrn-40-2": lambda: (n.WRN(40, 2, width), 8 * width),
    }[name]()


made = {}


def setup(q):
    torch.set_num_threads(q["threads"])
    torch.manual_seed(1)
    net, features = network(q["network"], q["width"])
    form = torch.channels_last if "channels" in q["mode"] else torch.contiguous_format
    m = nn.Sequential(net, nn.Linear(features, 10)).to(memory_format=form).train()
    x = torch.rand(q["batch"], 3, 32, 32).contiguous(memory_format=form)
    y = torch.randint(0, 10, (q["batch"],))
    return m, x, y, torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)


def step(m, x, y, opt, bf16):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(m(x).float(), y)
    opt.zero_grad()
    loss.backward()
    opt.step()


for line in sys.stdin:
    q = json.loads(line)
    key = (q["network"], q["mode"])
    if key not in made:
        made[key] = setup(q)
        step(*made[key], "bf16" in q["mode"])  # the first one allocates
    seconds = []
    for _ in range(q["steps"]):
        began = time.perf_counter()
        step(*made[key], "bf16" in q["mode"])
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
