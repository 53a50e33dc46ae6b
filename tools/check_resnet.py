#!/usr/bin/env python3
"""Loads a checkpoint of `gsgd train --data CIFAR --arch resnet:N` in PyTorch and evaluates it on the test images.

Usage: check_resnet.py RUN CIFAR      (needs torch, numpy and safetensors)
Prints test loss and error of PyTorch beside the last line of the run's metrics.jsonl; the names and orientation of the
file are torchvision's, so nothing is renamed here.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        skip = self.downsample(x) if self.downsample else x
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + skip)


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        width = 16
        for stage, channels in enumerate((16, 32, 64), 1):
            layers = [Block(width if b == 0 else channels, channels, 2 if stage > 1 and b == 0 else 1)
                      for b in range(blocks)]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
            width = channels
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def images(path):
    data = np.fromfile(path, np.uint8).reshape(-1, 3073)
    return data[:, 1:].reshape(-1, 3, 32, 32), data[:, 0].astype(np.int64)


run, cifar = map(pathlib.Path, sys.argv[1:3])
last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
arch = next(line for line in (run / "config.toml").read_text().splitlines() if line.startswith("arch"))
layers = int(arch.split(":")[1].strip('" '))
train = np.concatenate([images(cifar / f"data_batch_{n}.bin")[0] for n in range(1, 6)]).astype(np.float64)
mean, std = train.mean((0, 2, 3), keepdims=True)[0], train.std((0, 2, 3), keepdims=True)[0]
x, y = images(cifar / "test_batch.bin")
x, y = torch.tensor((x - mean) / std, dtype=torch.float32), torch.tensor(y)

model = ResNet((layers - 2) // 6)
state = model.state_dict()
state.update(load_file(run / "final.safetensors"))
model.load_state_dict(state)
model.eval()
with torch.no_grad():
    logits = torch.cat([model(part) for part in x.split(500)])
loss = nn.functional.cross_entropy(logits, y).item()
error = (logits.argmax(1) != y).double().mean().item()
print(f"PyTorch {torch.__version__}: test loss {loss:.6f}, error {error:.4f}")
print(f"gsgd:{'':{len(torch.__version__) + 3}} test loss {last['test_loss']:.6f}, error {last['test_error']:.4f}")
