#!/usr/bin/env python3
"""Runs gsgd on model files as exporters write them, and checks each file that it writes with onnxruntime.

    tools/files.py FOLDER [--program gsgd] [--only NAME] [--again] [--jobs N]    exports, runs, checks: a row per command
    tools/files.py --report                                                      README.md from the rows

FOLDER keeps the exported models (6 GB). Rows go to a CSV file for each network in `--results` (results/files) as they are
known, and a model file that has all of its rows is left out. `--again` forgets the rows of what it measures. What gsgd
writes is deleted once it is checked. Needs torch, torchvision, onnx, onnxscript and onnxruntime; `--report` needs none of them.
"""

import argparse
import collections
import concurrent.futures
import csv
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib

# Exporter, opset, batch norms, numbers, batch, where tensors are. `script` is torch.onnx.export(dynamo=False), `dynamo`
# the other. Batch norms stay where the exporter is told not to optimise.
OLD = "script13-kept-f32-fixed"
MIDDLE = "script20-folded-f32-dynamic"
NEW = "dynamo20-folded-f32-dynamic"
PLAIN = "dynamo18-kept-f32-fixed"
OUTSIDE = "dynamo18-folded-f32-fixed-external"
HALF = "dynamo18-folded-f16-fixed"
HALF_KEPT = "script13-kept-f16-dynamic"
ALL = [f"{exporter}-{norm}-{number}-{batch}{data}"
       for exporter in ("script13", "script20", "dynamo18", "dynamo20") for norm in ("kept", "folded")
       for number in ("f32", "f16") for batch in ("fixed", "dynamic")
       for data in ("", "-external") if not data or (number, batch) == ("f32", "fixed")]
SMALL = [OLD, MIDDLE, NEW, PLAIN, OUTSIDE, HALF, HALF_KEPT]

# What is exported: the size of an image, and the variants.
MODELS = {
    "mlp": (0, SMALL), "mlp_norm": (0, ALL), "conv1d": (0, ALL), "prelu": (0, ALL), "twins": (0, ALL),
    "unet": (0, SMALL), "unet_resize": (0, SMALL),
    "resnet18": (64, [OLD, MIDDLE, NEW, PLAIN, HALF]), "squeezenet1_0": (64, [OLD, MIDDLE, NEW]),
    "shufflenet_v2_x0_5": (64, [OLD, MIDDLE, NEW]), "mnasnet0_5": (64, [OLD, MIDDLE, NEW]),
    "mobilenet_v2": (64, [OLD, MIDDLE, NEW, HALF_KEPT]), "mobilenet_v3_small": (64, [OLD, MIDDLE, NEW]),
    "regnet_x_400mf": (64, [OLD, MIDDLE, NEW]), "regnet_y_400mf": (64, [OLD, MIDDLE, NEW]),
    "efficientnet_b0": (64, [OLD, MIDDLE, NEW]), "googlenet": (64, [OLD, MIDDLE, NEW]),
    "densenet121": (64, [OLD, MIDDLE, NEW]), "resnet50": (64, [OLD, NEW, OUTSIDE]),
    "resnext50_32x4d": (64, [OLD, NEW]), "inception_v3": (96, [OLD, NEW]), "convnext_tiny": (64, [OLD, NEW]),
    "vit_b_16": (64, [MIDDLE, NEW]), "alexnet": (224, [OLD, NEW, OUTSIDE]), "vgg11_bn": (224, [OLD, NEW]),
}
# Largest difference of an output, relative to the largest: what gsgd allows itself.
TOLERANCE = {"f32": 1e-3, "f64": 1e-3, "f16": 8e-3, "bf16": 6e-2}
SIZES = (0.1, 1.0, 10.0)  # of inputs
MINUTES = 15  # for a command
COLUMNS = ["model", "exporter", "variant", "command", "outcome", "reason", "difference", "units", "seconds", "cpu_seconds",
           "peak_mib", "exit", "message"]
# These stand in the first row of a file. `rows` says how many the file has.
ABOUT = ["hidden", "weights", "grounded", "unknown", "held", "norms", "number", "tolerance", "megabytes", "program",
         "made_with", "rows"]
RESULTS = pathlib.Path(__file__).resolve().parent.parent / "results" / "files"


# Networks that torchvision has not.

def small_network(name):
    """A network and the shape of its input."""
    from torch import cat, nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride, act):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.act1 = act(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            same = inputs == outputs and stride == 1
            self.project = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.project_bn = None if same else nn.BatchNorm2d(outputs)
            self.act2 = act(outputs)

        def forward(self, x):
            y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
            return self.act2(y + (x if self.project is None else self.project_bn(self.project(x))))

    def residual(act):
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), act(16)]
        blocks = [Block(16, 16, 1, act), Block(16, 24, 2, act), Block(24, 24, 1, act), Block(24, 32, 2, act)]
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    class UNet(nn.Module):
        def __init__(self, resize):
            super().__init__()
            def twice(i, o):
                return nn.Sequential(nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o), nn.ReLU(),
                                     nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o), nn.ReLU())
            self.down1, self.down2, self.bottom = twice(3, 12), twice(12, 16), twice(16, 24)
            if resize:
                up = [nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(i, o, 1))
                      for i, o, mode in ((24, 16, "bilinear"), (16, 12, "nearest"))]
            else:
                up = [nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 12, 2, 2)]
            self.up2, self.up1 = up
            self.join2, self.join1, self.last = twice(32, 16), twice(24, 12), nn.Conv2d(12, 2, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            c = self.bottom(F.max_pool2d(b, 2))
            b = self.join2(cat([self.up2(c), b], 1))
            return self.last(self.join1(cat([self.up1(b), a], 1)))

    def mlp(norm):
        layers = []
        for inputs, outputs in ((20, 32), (32, 48), (48, 24)):
            layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(24, 10))

    def conv1d():
        return nn.Sequential(nn.Conv1d(4, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
                             nn.Conv1d(16, 24, 3, padding=1, groups=2), nn.BatchNorm1d(24), nn.ReLU(), nn.AvgPool1d(2),
                             nn.Conv1d(24, 24, 3, padding=2, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10))

    def relu(_):
        return nn.ReLU()

    return {
        "mlp": lambda: (mlp(False), (20,)), "mlp_norm": lambda: (mlp(True), (20,)), "conv1d": lambda: (conv1d(), (4, 64)),
        "prelu": lambda: (residual(nn.PReLU), (3, 24, 24)), "twins": lambda: (residual(relu), (3, 24, 24)),
        "unet": lambda: (UNet(False), (3, 32, 32)), "unet_resize": lambda: (UNet(True), (3, 32, 32)),
    }[name]()


def network(name):
    """A network with random weights, batch norms that fit them about as after training, and the shape of its input."""
    import torch
    import torchvision
    from torch import nn

    torch.manual_seed(zlib.crc32(name.encode()))
    size = MODELS[name][0]
    if size == 0:
        model, shape = small_network(name)
    else:
        more = {"vit_b_16": {"image_size": size}, "googlenet": {"aux_logits": False, "init_weights": True},
                "inception_v3": {"aux_logits": False, "init_weights": True}}.get(name, {})
        model, shape = getattr(torchvision.models, name)(weights=None, **more), (3, size, size)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or float(parameter.std()) == 0:
                spread = 0.3 if parameter.std().isnan() or parameter.mean().abs() > 1e-3 else 0.1
                parameter.copy_(parameter + spread * torch.randn_like(parameter))
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            # a few gains below zero, as training makes them
            norm.weight.copy_((0.3 * torch.randn_like(norm.weight)).exp() * (1 - 2 * (torch.rand_like(norm.weight) < 0.05)))
            norm.momentum = 1.0
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        if norms:
            model(torch.randn(8, *shape))
        for norm in norms:
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= (0.2 * torch.randn_like(norm.running_var)).exp()
        if name == "twins":  # both paths into a sum see one gradient: betas that begin alike stay alike
            for block in (m for m in model.modules() if getattr(m, "project_bn", None) is not None):
                block.project_bn.bias.copy_(block.bn2.bias)
    return model.eval(), shape


# Exports

def file_of(folder, model, variant):
    return folder / model / f"{model}-{variant}.onnx"


def export(folder, name):
    """Writes the variants of a network that are not there; prints a line of JSON for each that cannot be made."""
    import onnx
    import torch

    for variant in MODELS[name][1]:
        path = file_of(folder, name, variant)
        if path.exists():
            continue
        exporter, norm, number, batch, *outside = variant.split("-")
        opset = int(exporter[6:])
        model, shape = network(name)
        x = torch.randn(2 if batch == "dynamic" else 1, *shape)
        if number == "f16":
            model, x = model.half(), x.half()
        scratch = path.parent / f"scratch-{variant}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        made = scratch / path.name
        common = {"input_names": ["input"], "output_names": ["output"], "opset_version": opset}
        try:
            if exporter.startswith("dynamo"):
                torch.onnx.export(model, (x,), made, dynamo=True, optimize=norm == "folded", external_data=bool(outside),
                                  dynamic_shapes=({0: "batch"},) if batch == "dynamic" else None, verbose=False, **common)
            else:
                axes = {"input": {0: "batch"}, "output": {0: "batch"}} if batch == "dynamic" else None
                mode = torch.onnx.TrainingMode.PRESERVE if norm == "kept" else torch.onnx.TrainingMode.EVAL
                torch.onnx.export(model, (x,), made, dynamo=False, dynamic_axes=axes, training=mode,
                                  do_constant_folding=norm == "folded", **common)
                if outside:
                    onnx.save(onnx.load(made), made, save_as_external_data=True, location=f"{path.name}.data")
            for part in sorted(scratch.iterdir(), reverse=True):  # the model last: then all is there
                part.rename(path.parent / part.name)
        except Exception as error:  # noqa: BLE001 - whatever an exporter may raise
            print(json.dumps({"variant": variant, "error": f"{type(error).__name__}: {error}"}))
        shutil.rmtree(scratch)


# The files that onnx ships for its own tests

def shipped(folder):
    """Files of the onnx package: its light networks, as they are and with random weights in place of constant ones, and
    of the converted operators the first two of each kind that have a float tensor of two or more dimensions."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    data = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
    found = {path.stem: path for path in sorted((data / "light").glob("*.onnx"))}
    kinds = collections.Counter()
    for path in sorted(data.glob("pytorch-*/*/model.onnx")):
        graph = onnx.load(path).graph
        kind = re.match(r"test_(operator_)?[^_]*", path.parent.name)[0]
        if any(t.data_type in (1, 10, 11) and len(t.dims) >= 2 for t in graph.initializer):
            kinds[kind] += 1
            if kinds[kind] <= 2:
                found[path.parent.name] = path
    for name, path in found.items():
        as_is = file_of(folder, name, "shipped")
        as_is.parent.mkdir(parents=True, exist_ok=True)
        if not as_is.exists():
            shutil.copy(path, as_is)
        filled = file_of(folder, name, "filled")
        if not name.startswith("light_") or filled.exists():
            continue
        model = onnx.load(path)
        graph = model.graph
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        sizes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        root = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Unsqueeze"}
        positive = set()
        for node in graph.node:
            places = {"BatchNormalization": (1, 4), "Mul": (1,)}.get(node.op_type, ())
            positive |= {root.get(node.input[at], node.input[at]) for at in places}
        nodes = []
        for node in graph.node:
            if node.op_type != "ConstantOfShape":
                nodes.append(node)
                continue
            shape, output = sizes[node.input[0]], node.output[0]
            normal = rng.standard_normal(shape, np.float32)
            if len(shape) > 1:
                values = normal * np.float32(np.sqrt(2 / np.prod(shape[1:])))
            else:
                values = np.exp(0.2 * normal) if output in positive else 0.1 * normal
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), output))
            graph.input.append(onnx.helper.make_tensor_value_info(output, 1, [int(d) for d in shape]))
            gone = node.input[0]
            if sum(gone in other.input for other in graph.node) == 1:
                for held in (graph.initializer, graph.input):
                    held.remove(next(x for x in held if x.name == gone))
        del graph.node[:]
        graph.node.extend(nodes)
        onnx.save(model, filled)
    print(json.dumps({name: ["shipped"] + ["filled"] * name.startswith("light_") for name in found}))


# What onnx and onnxruntime say of files, in a process of its own

class Checker:
    """Answers questions about files; keeps the outputs of the last `before`."""

    def __init__(self):
        self.known = (None, None)

    def describe(self, path):
        import onnx

        model = onnx.load(path, load_external_data=False)
        numbers = {1: "f32", 10: "f16", 11: "f64", 16: "bf16"}
        tensors = [*model.graph.initializer]
        tensors += [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
        found = {numbers.get(tensor.data_type, "") for tensor in tensors if len(tensor.dims) >= 2} & {*TOLERANCE}
        norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
        opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        return {"norms": norms, "number": max(found, key=TOLERANCE.get, default="f32"),
                "made_with": f"{model.producer_name} {model.producer_version}".strip() + f", opset {opset}"}

    def fault(self, path):
        """What onnx's checker says against a file."""
        import onnx

        try:
            onnx.checker.check_model(str(path), full_check=True)
        except Exception as error:  # noqa: BLE001 - it has no one base
            return str(error).strip().splitlines()[0]
        return None

    def session(self, path, optimised=True):
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = onnx.load(path, load_external_data=False)
        gives = {output: node for node in model.graph.node for output in node.output}
        wanted = []
        for output in model.graph.output:  # what a last softmax reads, too
            at = output.name
            while (node := gives.get(at)) and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Identity",
                                                               "Flatten", "Reshape", "Squeeze"):
                at = node.input[0]
                if node.op_type in ("Softmax", "LogSoftmax", "Sigmoid", "Tanh") and at in gives:
                    wanted.append(at)
        if not wanted:
            return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        model = onnx.load(path)
        there = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(wanted) if name not in there)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def outputs(self, path, optimised=True):
        """All outputs, of every input in turn."""
        import numpy as np

        session = self.session(path, optimised)
        results = []
        for seed in (1, 2):
            for size in SIZES:
                rng = np.random.default_rng(seed)
                fed = {}
                for value in session.get_inputs():
                    shape = [d if isinstance(d, int) and d > 0 else 2 for d in value.shape]
                    kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
                    if value.type in kind:
                        fed[value.name] = (size * rng.standard_normal(shape)).astype(kind[value.type])
                    else:
                        fed[value.name] = rng.integers(0, 2, shape).astype(np.int64)
                results.append([np.asarray(y, np.float64) for y in session.run(None, fed)])
        return results

    def share(self, before, after):
        """The largest difference of outputs relative to the largest; none if they were not finite before."""
        import numpy as np

        worst = None
        for x, y in zip(before, after, strict=True):
            largest = np.abs(x).max(initial=0)
            if np.isfinite(largest):
                difference = np.abs(y - x).max(initial=0)
                share = 0.0 if difference == 0 else difference / largest if largest else np.inf
                worst = max(worst or 0.0, float(share) if np.isfinite(share) else 1e30)
        return worst

    def compare(self, before, after, tolerance):
        """The largest difference of an output, relative to the largest. Inputs on which onnxruntime's own rounding changes
        outputs by more than the tolerance tell nothing."""
        if self.known[0] != before:
            self.known = (None, None)
            outputs = self.outputs(before)
            noise = [self.share(x, y) for x, y in zip(outputs, self.outputs(before, False), strict=True)]
            self.known = (before, (outputs, noise, self.fault(before)))
        expected, noise, fault = self.known[1]
        if fault is None and (fault := self.fault(after)) is not None:
            return {"fault": fault}
        shares = []
        for x, y, rounding in zip(expected, self.outputs(after), noise, strict=True):
            if [a.shape for a in x] != [a.shape for a in y]:
                return {"fault": "outputs have other shapes"}
            if rounding is not None and rounding <= float(tolerance):
                shares.append(self.share(x, y))
        return {"difference": max(shares, default=None)}

    def answer(self):
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                said = {"value": getattr(self, asked["what"])(*asked["of"])}
            except Exception as error:  # noqa: BLE001 - the answer says it
                said = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
            print(json.dumps(said), flush=True)


class Asked:
    """The checker's process, started again where it ends."""

    def __init__(self):
        self.process = None

    def __call__(self, what, *of):
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, __file__, "--checker"], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(json.dumps({"what": what, "of": [str(path) for path in of]}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.process = None
            return None, f"the checking process ended ({code})"
        said = json.loads(line)
        return said.get("value"), said.get("error")

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


# Running the program

def run(command, folder):
    """Exit status, standard output, what it says on standard error, seconds, processor seconds, MiB of the largest
    process. The parent is small: a child's peak is never below what its parent had at the start."""
    with open(folder / "stdout", "w+b") as out, open(folder / "stderr", "w+b") as err:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        timer = threading.Timer(60 * MINUTES, process.kill)
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return {"exit": process.returncode, "stdout": out.read().decode(errors="replace"),
                "stderr": err.read().decode(errors="replace"), "seconds": f"{seconds:.2f}",
                "cpu_seconds": f"{used.ru_utime + used.ru_stime:.2f}", "peak_mib": f"{used.ru_maxrss / 1024:.0f}"}


def reason_of(message, folder):
    """A message without the names and numbers of one file."""
    said = re.sub(re.escape(str(folder)) + r"\S*?\.onnx", "FILE", message)
    said = re.sub(r"\S*/\S*?\.onnx\b", "FILE", said)
    said = re.sub(r"^error: |\bin FILE: |layer `[^`]*`: |^FILE: ", "", said)
    said = re.sub(r"(?<=\w) `[^`]*`: layer `[^`]*`:", ":", said)
    said = re.sub(r"`[^`]*`", "`_`", said)
    said = re.sub(r": unit .* differs by .*", "", said)
    said = re.sub(r"\[[-\d, ]*\]", "[_]", said)
    said = re.sub(r"(?<![\w.])-?\d+(\.\d+)?(e-?\d+)?(?![\w.]*\w)", "_", said)
    said = re.sub(r'"[^"]*"', '"_"', said)
    said = said.strip()
    return said if len(said) <= 160 else said[:160].rsplit(" ", 1)[0] + " ..."


class Measured:
    """One file: all commands, a row of each."""

    def __init__(self, options, ask, model, variant, exporter):
        self.options, self.ask = options, ask
        self.path = file_of(options.folder, model, variant)
        self.row = {"model": model, "exporter": exporter, "variant": variant}
        self.about = {"program": options.version}

    def well(self, name):
        """The outcome of a command that was right, or had nothing to do."""
        return "idle" if self.about.get("hidden") == 0 and "fold" not in name else "right"

    def write(self, **more):
        first = self.about if more["command"] in ("inspect", "export") else {}
        row = {**dict.fromkeys(COLUMNS + ABOUT, ""), **self.row, **first, **more}
        message = re.sub(re.escape(str(self.options.folder)) + r"/(\S*/)?", "", row["message"])
        row["message"] = " ".join(message.split())[:400] if row["reason"] else ""
        with open(table(self.options.results, row["model"]), "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS + ABOUT, extrasaction="ignore", lineterminator="\n").writerow(row)
        print(f"{row['model']:22} {row['variant']:32} {row['command']:32} {row['outcome']:9} {row['difference']:8} "
              f"{row['seconds']:>7} {row['reason'][:90]}", flush=True)

    def commands(self, has_norms):
        """Name, arguments, and the command whose output is what `equivalent` compares with ("" for the file)."""
        said = self.options.help
        yield "rescale", ["rescale", "--seed", "1"], ""
        yield "balance", ["balance"], ""
        if "--target" in said:
            yield "balance max-abs", ["balance", "--target", "max-abs"], ""
        if "--batch-norm" in said and has_norms:
            yield "fold", ["rescale", "--spread", "0", "--batch-norm", "fold"], None
            yield "balance folded", ["balance", "--batch-norm", "fold"], "fold"
            yield "balance unfolded", ["balance", "--batch-norm", "unfold"], ""

    def measure(self):
        about, error = self.ask("describe", self.path)
        if error:
            self.write(command="export", outcome="failed", reason="onnx cannot read it", message=error, rows=1)
            return
        every = list(self.commands(about["norms"] > 0))
        size = sum(part.stat().st_size for part in self.path.parent.glob(self.path.name + "*"))
        self.about |= {"norms": about["norms"], "number": about["number"], "megabytes": f"{size / 1e6:.3f}",
                       "made_with": about["made_with"], "tolerance": TOLERANCE[about["number"]],
                       "rows": 1 + len(every) + sum(other is not None for _, _, other in every)}
        with tempfile.TemporaryDirectory(dir=self.options.folder) as scratch:
            scratch = pathlib.Path(scratch)
            self.inspect(scratch)
            written = {"": self.path}
            last = {other: name for name, _, other in every if other}
            for name, arguments, other in every:
                folder = scratch / name.replace(" ", "-")
                folder.mkdir()
                after = folder / self.path.name
                right = self.rewrite(name, arguments, after, scratch)
                if right:
                    written[name] = after
                if other is not None:
                    self.equivalent(name, written.get(other), written.get(name), scratch)
                if name not in last or not right:
                    shutil.rmtree(folder)
                if last.get(other) == name and other in written:
                    shutil.rmtree(written[other].parent)

    def ended(self, ran):
        """Outcome, reason and message of a command that did not do what was asked."""
        said = ran["stderr"].strip()
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        message = errors[-1] if errors else (said.splitlines() or [""])[-1]
        if ran["exit"] == 2 and message:
            return {"outcome": "refused", "reason": reason_of(message, self.options.folder), "message": message}
        reason = f"ended by signal {-ran['exit']}" if ran["exit"] < 0 else f"exit status {ran['exit']}"
        if "panicked" in said:
            reason, message = "panic", said
        return {"outcome": "wrong", "reason": reason, "message": message}

    def inspect(self, scratch):
        ran = run([self.options.program, "inspect", "--json", str(self.path)], scratch)
        found = {}
        if ran["exit"] != 0:
            found = self.ended(ran)
        else:
            try:
                about = json.loads(ran["stdout"])
                kinds = collections.Counter(kind for _, kind in about["unknown"])
                held = collections.Counter(re.sub(r"`[^`]*`", "`_`", why) for _, why in about["held"])
                self.about |= {"hidden": about["hidden_classes"], "weights": about["weights"],
                               "unknown": counted(kinds), "held": counted(held),
                               "grounded": f"{len(about['grounded'])} of {len(about['layers'])}"}
                found = {"outcome": "right"}
            except (ValueError, KeyError) as error:
                found = {"outcome": "wrong", "reason": "JSON that this script does not read", "message": repr(error)}
        self.write(command="inspect", **{**ran, **found})

    def rewrite(self, name, arguments, after, scratch):
        ran = run([self.options.program, *arguments, str(self.path), str(after)], scratch)
        if ran["exit"] != 0:
            found = self.ended(ran)
            if found["outcome"] == "refused" and "outputs of the new network differ" in ran["stderr"]:
                found |= self.forced(arguments, after, scratch)
            elif any(after.parent.iterdir()):
                found = {"outcome": "wrong", "reason": "refused, and written all the same", "message": ran["stderr"]}
        else:
            units = re.search(r"(\d+) units", ran["stdout"])
            found = {"message": ran["stdout"].strip(), "units": units[1] if units else ""}
            said, error = self.ask("compare", self.path, after, self.about["tolerance"])
            difference = (said or {}).get("difference")
            if error:
                found |= {"outcome": "unchecked", "message": error,
                          "reason": f"onnxruntime: {error.split(':')[0]}"}
                alone, _ = self.ask("compare", self.path, self.path, 1)
                if alone is not None:
                    found["outcome"] = "wrong"
            elif "fault" in said:
                found |= {"outcome": "wrong", "message": said["fault"],
                          "reason": "checker: " + re.sub(r"^\S+ in initializer", "a name in initializer", said["fault"])[:150]}
            elif difference is None:
                found |= {"outcome": "unchecked", "reason": "outputs that tell nothing: not finite, or rounding alone changes them"}
            else:
                small = difference <= self.about["tolerance"]
                found |= {"outcome": self.well(name) if small else "wrong", "difference": f"{difference:.2e}",
                          "reason": "" if small else "outputs differ"}
        self.write(command=name, **{**ran, **found})
        return ran["exit"] == 0

    def forced(self, arguments, after, scratch):
        """Whether outputs that differ too much for the program do so in onnxruntime, too."""
        ran = run([self.options.program, *arguments, "--differ", "1e9", str(self.path), str(after)], scratch)
        if ran["exit"] != 0:
            return {}
        said, error = self.ask("compare", self.path, after, self.about["tolerance"])
        for part in after.parent.iterdir():
            part.unlink()
        difference = (said or {}).get("difference")
        if error or difference is None:
            return {"reason": "outputs differ; onnxruntime cannot tell"}
        also = "in onnxruntime, too" if difference > self.about["tolerance"] else "but not in onnxruntime"
        return {"reason": f"outputs differ, {also}", "difference": f"{difference:.2e}"}

    def equivalent(self, name, before, after, scratch):
        command = f"equivalent: {name}"
        if before is None or after is None:
            self.write(command=command, outcome="skipped", reason="nothing to compare")
            return
        ran = run([self.options.program, "equivalent", str(before), str(after)], scratch)
        said = ran["stdout"].strip() or ran["stderr"].strip()
        found = {"message": said}
        if ran["exit"] == 0:
            found |= {"outcome": self.well(name)}
        elif ran["exit"] == 1 and "panicked" not in ran["stderr"]:
            found |= {"outcome": "wrong", "reason": f"denied: {reason_of(said.splitlines()[0], self.options.folder)}"}
        else:
            found = self.ended(ran)
        self.write(command=command, **{**ran, **found})


def counted(kinds):
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))


def table(results, model):
    """Where the rows of a network are."""
    return results / f"{model if model in MODELS else 'onnx-package'}.csv"


def rows_of(results):
    rows = []
    for name in [*MODELS, ""]:
        if (path := table(results, name)).exists():
            with open(path, newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
    return rows


def write_rows(results, rows, models):
    """Writes the tables of these networks anew."""
    for path in {table(results, model) for model in models}:
        with open(path, "w", newline="", encoding="utf-8") as file:
            to = csv.DictWriter(file, COLUMNS + ABOUT, lineterminator="\n")
            to.writeheader()
            to.writerows(row for row in rows if table(results, row["model"]) == path)


def measure_all(options):
    options.folder.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    options.version, options.help = (
        subprocess.run([options.program, *asked], capture_output=True, text=True, check=True).stdout.strip()
        for asked in (["--version"], ["balance", "--help"]))
    this = [sys.executable, __file__, str(options.folder)]
    found = subprocess.run([*this, "--shipped"], capture_output=True, text=True, check=True).stdout
    plan = {name: [(variant, variant.split("-")[0][:6]) for variant in variants] for name, (_, variants) in MODELS.items()}
    plan |= {name: [(variant, f"onnx, {variant}") for variant in variants] for name, variants in json.loads(found).items()}
    if options.only:
        plan = {name: variants for name, variants in plan.items() if name in options.only}
    rows = rows_of(options.results)
    if options.again:
        rows = [row for row in rows if row["model"] not in plan]
    have = collections.Counter((row["model"], row["variant"]) for row in rows)
    done = {(row["model"], row["variant"]) for row in rows if row["rows"] == str(have[row["model"], row["variant"]])}
    write_rows(options.results, [row for row in rows if (row["model"], row["variant"]) in done], plan)

    def one(name):
        todo = [entry for entry in plan[name] if (name, entry[0]) not in done]
        failed = {}
        if name in MODELS and any(not file_of(options.folder, name, variant).exists() for variant, _ in todo):
            said = subprocess.run([*this, "--export", name], capture_output=True, text=True, check=False)
            lines = [json.loads(line) for line in said.stdout.splitlines() if line.startswith('{"variant"')]
            failed = {line["variant"]: line["error"] for line in lines}
            if said.returncode != 0:
                failed = collections.defaultdict(lambda: (said.stderr.strip().splitlines() or ["no reason"])[-1], failed)
        ask = Asked()
        for variant, exporter in todo:
            measured = Measured(options, ask, name, variant, exporter)
            if not measured.path.exists():
                error = failed[variant] if failed else "it is not there"
                measured.write(command="export", outcome="failed", reason=reason_of(error.splitlines()[0], options.folder),
                               message=error, rows=1)
            else:
                measured.measure()
        ask.end()

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in [pool.submit(one, name) for name in plan]:
            result.result()


# The page

def report(results):
    rows = rows_of(results)
    (results / "README.md").write_text("\n".join(page(rows)) + "\n", encoding="utf-8")


def page(rows):
    outcomes = ["right", "idle", "refused", "wrong", "unchecked", "skipped"]
    tested = [row for row in rows if row["command"] != "export"]
    files = {(row["model"], row["variant"]) for row in tested}
    by_outcome = collections.Counter(row["outcome"] for row in tested)
    programs = ", ".join(sorted({row["program"] for row in tested if row["program"]}))
    yield "# Model files as exporters write them"
    yield ""
    yield (f"`tools/files.py` runs the program ({programs}) on {len(files)} files of {len({m for m, _ in files})} networks "
           "and checks each file that it writes: with onnx's checker, in onnxruntime against the file before (two random "
           f"inputs, times {', '.join(f'{size:g}' for size in SIZES)}), and with `gsgd equivalent`. This page is made of "
           "the CSV files beside it by `tools/files.py --report`.")
    yield ""
    yield (f"Of {len(tested)} commands, **{by_outcome['right']} are right, {by_outcome['refused']} refused and "
           f"{by_outcome['wrong']} wrong**; {by_outcome['idle']} are right in that they leave a file as it is, since it has "
           f"no units to rescale, {by_outcome['unchecked']} could not be checked in onnxruntime, and "
           f"{by_outcome['skipped']} had nothing to compare. The files are by "
           f"{', '.join(sorted({row['made_with'].rsplit(', ', 1)[0] for row in tested if row['made_with']}))}.")
    yield ""
    yield ("- *Right*: outputs differ by no more than " + ", ".join(f"{t:g} in {n}" for n, t in TOLERANCE.items()) +
           ", relative to the largest output, before a final softmax. Inputs on which rounding alone does more (onnxruntime "
           "on the file before, with and without its optimisations) do not count.")
    yield ("- *Refused*: the program says why, and writes nothing. Where it says that outputs differ, what it writes with "
           "`--differ 1e9` is compared as well.")
    yield ("- *Wrong*: a larger difference, a file that onnx's checker does not accept, a crash, or `equivalent` denies "
           "what the program itself has rescaled.")
    yield "- H: hidden classes. Several numbers: files differ, as those with batch norms do from those without."
    yield "- *In the ground*: layers through whose result no scaling goes, of all layers; then operations not known, and how often."
    yield "- Seconds and MiB: the largest of a command, on cores shared with others; MiB of its largest process."
    yield ""
    yield "## By command"
    yield ""
    yield f"| command | {' | '.join(outcomes)} | largest difference | median seconds |"
    yield "|---" * (len(outcomes) + 3) + "|"
    for command in dict.fromkeys(row["command"] for row in tested):
        of = [row for row in tested if row["command"] == command]
        counts = collections.Counter(row["outcome"] for row in of)
        seconds = sorted(float(row["seconds"]) for row in of if row["seconds"])
        middle = f"{seconds[len(seconds) // 2]:.2f}" if seconds else ""
        most = largest([row for row in of if row["outcome"] != "refused"], "difference")
        yield f"| {command} | {' | '.join(str(counts[o]) for o in outcomes)} | {most} | {middle} |"
    yield ""
    yield "## By network and exporter"
    yield ""
    yield ("| network | exporter | files | H | in the ground | largest difference | seconds | MiB | right | idle | refused | "
           "wrong |")
    yield "|---" * 12 + "|"
    groups = collections.defaultdict(list)
    for row in tested:
        groups[row["model"], row["exporter"]].append(row)
    for (model, exporter), of in groups.items():
        written = [row for row in of if row["outcome"] != "refused"]
        counts = collections.Counter(row["outcome"] for row in of)
        inspected = [row for row in of if row["command"] == "inspect"]
        hidden = " / ".join(dict.fromkeys(str(row["hidden"]) for row in inspected if row["hidden"]))
        grounds = dict.fromkeys(f"{row['grounded']}" + (f": {row['unknown']}" if row["unknown"] else "")
                                for row in inspected if row["grounded"])
        yield (f"| {model} | {exporter} | {len({row['variant'] for row in of})} | {hidden} | {' / '.join(grounds)} | "
               f"{largest(written, 'difference')} | {largest(of, 'seconds')} | {largest(of, 'peak_mib')} | {counts['right']} | "
               f"{counts['idle']} | {counts['refused']} | {counts['wrong']} |")
    for title, kind in (("Refused", "refused"), ("Wrong", "wrong"), ("Not checked in onnxruntime", "unchecked")):
        yield from reasons(title, [row for row in tested if row["outcome"] == kind])
    yield from reasons("What could not be exported", [row for row in rows if row["command"] == "export"])
    yield ""
    yield "## Operations not known"
    yield ""
    yield "| operation | files | networks |"
    yield "|---|---|---|"
    unknown = collections.defaultdict(list)
    for row in tested:
        for part in filter(None, row["unknown"].split(", ")):
            unknown[part.rsplit(" ", 1)[0]].append(row)
    for kind, of in sorted(unknown.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"| {kind} | {len(of)} | {', '.join(dict.fromkeys(row['model'] for row in of))} |"


def reasons(title, rows):
    if not rows:
        return
    yield ""
    yield f"## {title}"
    yield ""
    yield "| reason | commands | files | networks |"
    yield "|---|---|---|---|"
    by_reason = collections.defaultdict(list)
    for row in rows:
        by_reason[row["reason"]].append(row)
    for reason, of in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        files = {(row["model"], row["variant"]) for row in of}
        models = ", ".join(dict.fromkeys(row["model"] for row in of))
        yield f"| {reason.replace('|', '/')} | {len(of)} | {len(files)} | {models} |"


def largest(rows, name):
    known = [row[name] for row in rows if row[name]]
    return max(known, key=float, default="")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--program", default="gsgd", help="the binary to run")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of the rows and README.md")
    parser.add_argument("--only", action="append", metavar="NAME", help="this network; may be given again")
    parser.add_argument("--again", action="store_true", help="measure what is done already, too")
    parser.add_argument("--jobs", type=int, default=1, help="networks at one time")
    parser.add_argument("--report", action="store_true", help="write README.md from the rows, and nothing else")
    for hidden in ("--checker", "--shipped"):
        parser.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.report:
        report(options.results)
    elif options.checker:
        Checker().answer()
    elif options.folder is None:
        parser.error("FOLDER, where exported models are kept")
    elif options.shipped:
        shipped(options.folder)
    elif options.export:
        export(options.folder, options.export)
    else:
        measure_all(options)
        report(options.results)


if __name__ == "__main__":
    main()
