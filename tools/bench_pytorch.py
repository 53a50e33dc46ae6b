#!/usr/bin/env python3
"""Training steps in PyTorch beside those of `cargo bench`, as times and ratios.

    python tools/bench_pytorch.py [--threads 1 2] [--rounds 3] [--seconds 4] [--only WORD] [--check]

The same networks and batch sizes as benches/step.rs, random images, PyTorch's own SGD and a G-SGD written here plainly
from the formulas (Meng et al. 2019, sections 4.1 to 4.3; diagonal skeleton). In every round both programs run one after the
other, and a time is the median over steps; what is printed is the median over rounds, and of the ratios the least and the
greatest too, since others may use the machine. `--only` takes the networks that contain a word. `--check` runs the G-SGD written
here against weights computed in float64 by the project's test vectors instead.

Needs PyTorch.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = [
    ("mlp:49-64-64-10", 64),
    ("mlp:49-1024-1024-10", 64),
    ("mlp:784-64-64-64-64-64-10", 64),
    ("plain:20", 128),
]


def mlp(widths):
    layers = []
    for fan_in, fan_out in zip(widths, widths[1:]):
        layers += [nn.Linear(fan_in, fan_out, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def plain(depth):
    """The CIFAR family of He et al. (2015) without residual connections, with batch norm."""
    layers, before = [], 3
    for stage, width in enumerate((16, 32, 64)):
        blocks = (depth - 2) // 3 + (stage == 0)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class GSgd:
    """G-SGD on the weights `[out, in]` of a bias-free MLP, diagonal skeleton."""

    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr
        self.links = []  # per hidden layer: In edge (tails), Out edge (heads), which In edges are free
        for below, above in zip(weights, weights[1:]):
            units = torch.arange(below.shape[0])
            tails, heads = units % below.shape[1], units % above.shape[0]
            free = torch.zeros(len(units), dtype=torch.bool)
            if self.links:  # the tail's Out edge is this unit's In edge
                free = self.links[-1][1][tails] == units
            self.links.append((tails, heads, free))

    @torch.no_grad()
    def step(self):
        weights, last = self.weights, len(self.links)
        units = [torch.arange(len(tails)) for tails, _, _ in self.links]
        gradients = [w.grad for w in weights]
        one = weights[0].new_ones
        pin = [one(weights[0].shape[1])]
        for layer, (tails, _, _) in enumerate(self.links):
            pin.append(pin[-1][tails] * weights[layer][units[layer], tails])
        pout = [None] * last + [one(weights[-1].shape[0])]
        for layer in reversed(range(last)):
            heads = self.links[layer][1]
            pout[layer] = weights[layer + 1][heads, units[layer]] * pout[layer + 1][heads]
        # S, from the outputs to the inputs
        sums = [None] * last
        for layer in reversed(range(last)):
            heads = self.links[layer][1]
            u = gradients[layer + 1] * weights[layer + 1]
            sums[layer] = u.sum(0) - u[heads, units[layer]]
            if layer + 1 < last:
                tails, _, free = self.links[layer + 1]
                sums[layer].index_add_(0, tails[free], sums[layer + 1][free])
        rho = [one(weights[0].shape[1])]
        for layer, (tails, _, free) in enumerate(self.links):
            u = (gradients[layer] * weights[layer])[units[layer], tails]
            value = pin[layer + 1] * pout[layer]
            moved = 1 - self.lr * (u - sums[layer]) / value**2
            rho.append(torch.where(free, rho[-1][tails], moved))
        for layer, w in enumerate(weights):
            head = pout[layer]
            step = gradients[layer] / (pin[layer] ** 2 * head[:, None] ** 2)
            moved = (w - self.lr * step) / rho[layer]
            if layer < last:  # In edges that move
                tails, _, free = self.links[layer]
                at = units[layer][~free], tails[~free]
                ratio = rho[layer + 1][~free] / rho[layer][tails[~free]]
                moved[at] = w[at] * ratio
            if layer > 0:  # Out edges of the layer below stay
                heads = self.links[layer - 1][1]
                at = heads, units[layer - 1]
                moved[at] = w[at]
            w.copy_(moved)


def time_steps(arch, batch, optimizer, seconds):
    name, sizes = arch.split(":")
    torch.manual_seed(0)
    if name == "mlp":
        widths = [int(width) for width in sizes.split("-")]
        model, x = mlp(widths), torch.randn(batch, widths[0])
    else:
        model, x = plain(int(sizes)), torch.randn(batch, 3, 32, 32)
    if optimizer == "g-sgd":
        if name != "mlp":
            return None
        optim = GSgd(list(model.parameters()), 1e-4)
    else:
        optim = torch.optim.SGD(model.parameters(), lr=1e-4)
    y = torch.randint(10, (batch,))
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 4:
        start = time.perf_counter()
        for weight in model.parameters():
            weight.grad = None
        nn.functional.cross_entropy(model(x), y).backward()
        optim.step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.mean(times[1:])


def ours(arch, threads):
    """Mean milliseconds of our SGD and G-SGD on a network."""
    command = ["cargo", "bench", "-q", "-p", "gsgd-lab", "--bench", "step", "--", f"training {arch} g-sgd / sgd"]
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    text = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"\| (sgd|g-sgd) \| ([\d.]+) ± [\d.]+ (us|ms) ", text)
    return {name: float(mean) * {"us": 1e-3, "ms": 1}[unit] for name, mean, unit in found}


def check():
    """The G-SGD written here against the float64 test vectors of bias-free networks."""
    for path in sorted((ROOT / "crates/gsgd/tests/golden").glob("*nobias.json")):
        golden = json.loads(path.read_text())
        widths = golden["widths"]
        model = mlp(widths).double()
        weights = list(model.parameters())
        flat = torch.tensor(golden["flat_w"], dtype=torch.float64)
        sizes = [a * b for a, b in zip(widths, widths[1:])]
        with torch.no_grad():
            for weight, part in zip(weights, flat.split(sizes)):
                weight.copy_(part.reshape(weight.shape[1], weight.shape[0]).T)
        x, y = torch.tensor(golden["x"], dtype=torch.float64), torch.tensor(golden["y"])
        optim = GSgd(weights, golden["lr"])
        for step in range(1, 11):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optim.step()
            if str(step) in golden["gsgd"]:
                found = torch.cat([weight.detach().T.flatten() for weight in weights])
                expected = torch.tensor(golden["gsgd"][str(step)]["w"], dtype=torch.float64)
                difference = (found - expected).abs().max().item()
                print(f"{path.name}, {step} steps: largest difference {difference:.1e}")
                assert difference < 1e-9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", default="")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        return check()
    print("threads,network,batch,optimizer,pytorch_ms,ours_ms,ours/pytorch,least,greatest")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for arch, batch in NETWORKS:
            if args.only in arch:
                compare(arch, batch, threads, args)


def compare(arch, batch, threads, args):
    """Prints a row for every optimiser."""
    pairs = {"sgd": [], "g-sgd": []}
    for _ in range(args.rounds):
        own = ours(arch, threads)
        for optimizer, pair in pairs.items():
            pair.append((time_steps(arch, batch, optimizer, args.seconds), own[optimizer]))
    for optimizer, pair in pairs.items():
        theirs, own = zip(*pair)
        cells = [f"{statistics.median(times):.3f}" if all(times) else "" for times in (theirs, own)]
        if all(theirs):
            ratios = [a / b for a, b in zip(own, theirs)]
            cells += [f"{of(ratios):.2f}" for of in (statistics.median, min, max)]
        print(threads, arch, batch, optimizer, *cells, sep=",", flush=True)


if __name__ == "__main__":
    main()
