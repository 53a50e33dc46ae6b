#!/usr/bin/env python3
"""Rescales, folds and exports ONNX files with the example `onnx_scales` and compares their outputs in onnxruntime.

    tools/check_onnx.py FILE.. [--input-shape NAME=1,3,224,224]
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime

TYPES = {
    "tensor(float)": numpy.float32,
    "tensor(float16)": numpy.float16,
    "tensor(double)": numpy.float64,
    "tensor(int64)": numpy.int64,
    "tensor(int32)": numpy.int32,
    "tensor(bool)": numpy.bool_,
}


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(run, shapes, batch):
    random = numpy.random.default_rng(0)
    feed = {}
    for value in run.get_inputs():
        shape = shapes.get(value.name)
        if shape is None:
            shape = [
                size if isinstance(size, int) else batch if at == 0 else 64
                for at, size in enumerate(value.shape)
            ]
        kind = TYPES[value.type]
        if numpy.issubdtype(kind, numpy.integer):
            feed[value.name] = random.integers(0, 2, shape).astype(kind)
        else:
            feed[value.name] = random.standard_normal(shape).astype(kind)
    return feed


def outputs(path, feed):
    return session(path).run(None, feed)


def without_epsilon(file, out):
    """Rescaling is exact but for what batch norms add to variances."""
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [attribute for attribute in node.attribute if attribute.name != "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("epsilon", 1e-30)])
    onnx.save(model, out)


def difference(before, after):
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        a, b = a.astype(numpy.float64), b.astype(numpy.float64)
        if a.shape != b.shape:
            return float("inf")
        scale = max(numpy.abs(a).max(), 1e-30)
        worst = max(worst, float(numpy.abs(a - b).max() / scale))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--input-shape", action="append", default=[])
    parser.add_argument("--example", default="target/release/examples/onnx_scales")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--no-epsilon", action="store_true", help="set the epsilon of batch norms to nothing first")
    parser.add_argument("--batch", type=int, default=2)
    chosen = parser.parse_args()
    shapes = {}
    for given in chosen.input_shape:
        name, sizes = given.split("=")
        shapes[name] = [int(size) for size in sizes.split(",")]
    wrong = 0
    for file in chosen.files:
        with tempfile.TemporaryDirectory() as folder:
            line = [file]
            if chosen.no_epsilon:
                file = str(pathlib.Path(folder) / "plain.onnx")
                without_epsilon(line[0], file)
            try:
                feed = inputs(session(file), shapes, chosen.batch)
                before = outputs(file, feed)
            except Exception as error:  # noqa: BLE001
                print(f"{file}: does not run: {str(error)[:100]}")
                continue
            for way in ["rescaled", "folded", "exported"]:
                out = pathlib.Path(folder) / f"{way}.onnx"
                command = [chosen.example, file, f"--{way}", str(out)]
                for given in chosen.input_shape:
                    command += ["--input-shape", given]
                said = subprocess.run(command, capture_output=True, text=True)
                if way == "exported" and not out.exists():
                    line.append(said.stdout.strip().splitlines()[-1].removeprefix(f"{file}: "))
                    continue
                if not out.exists():
                    line.append(f"{way}: {said.stdout.strip().splitlines()[-1:]} {said.stderr[-300:]}")
                    wrong += 1
                    continue
                if way == "rescaled":
                    line.append(re.search(r"H \d+", said.stdout).group())
                elif way == "folded":
                    line.append(re.search(r"\d+ batch norms", said.stdout).group())
                try:
                    onnx.checker.check_model(str(out))
                    if way == "exported":
                        run = session(out)
                        batch = any(isinstance(value.shape[0], str) for value in run.get_inputs())
                        feed = inputs(session(file), shapes, chosen.batch if batch else 1)
                        names = [value.name for value in run.get_inputs()]
                        before = outputs(file, feed)
                        kinds = [TYPES[value.type] for value in run.get_inputs()]
                        given = zip(names, kinds, feed.values(), strict=True)
                        feed = {name: value.astype(kind) for name, kind, value in given}
                    after = outputs(out, feed)
                except Exception as error:  # noqa: BLE001
                    line.append(f"{way}: {str(error)[:200]}")
                    wrong += 1
                    continue
                found = difference(before, after)
                line.append(f"{way} {found:.1e}")
                if not found <= chosen.tolerance:
                    line.append("WRONG")
                    wrong += 1
            print(" | ".join(line), flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
