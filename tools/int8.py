#!/usr/bin/env python3
"""What rounding weights to a few bits, one scale per tensor, does to the test error of a residual network.

Usage: int8.py CIFAR FILE...     (needs torch, numpy and safetensors)
Each FILE is a checkpoint of `gsgd train --data CIFAR --arch resnet:N` with batch norms folded
(`gsgd balance ... --batch-norm fold`). Biases stay as they are. Prints a line per file and number of bits.
"""
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F


def images(path):
    data = np.fromfile(path, np.uint8).reshape(-1, 3073)
    return data[:, 1:].reshape(-1, 3, 32, 32), data[:, 0].astype(np.int64)


def rounded(weight, bits):
    most = 2 ** (bits - 1) - 1
    step = weight.abs().max() / most
    return (weight / step).round() * step


def forward(w, x):
    def conv(name, x, stride=1):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w[f"{name}.bias"], stride, weight.shape[-1] // 2)

    x = torch.relu(conv("conv1", x))
    for stage in (1, 2, 3):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in w:
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = conv(f"{name}.conv2", torch.relu(conv(f"{name}.conv1", x, stride)))
            x = torch.relu(y + (conv(f"{name}.downsample.0", x, stride) if block == 0 and stage > 1 else x))
            block += 1
    return F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


cifar = pathlib.Path(sys.argv[1])
train = np.concatenate([images(cifar / f"data_batch_{n}.bin")[0] for n in range(1, 6)]).astype(np.float64)
mean, std = train.mean((0, 2, 3), keepdims=True)[0], train.std((0, 2, 3), keepdims=True)[0]
x, y = images(cifar / "test_batch.bin")
x, y = torch.tensor((x - mean) / std, dtype=torch.float32), torch.tensor(y)
torch.set_num_threads(1)
for file in sys.argv[2:]:
    state = load_file(file)
    for bits in (32, 8, 6, 5, 4):
        w = {name: rounded(t, bits) if bits < 32 and name.endswith("weight") else t for name, t in state.items()}
        with torch.no_grad():
            logits = torch.cat([forward(w, part) for part in x.split(500)])
        error = 100 * (logits.argmax(1) != y).double().mean().item()
        print(f"{file} {bits} bits: test error {error:.2f} %")
