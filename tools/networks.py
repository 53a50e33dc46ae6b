"""Small networks from PyTorch, each as .pt, .safetensors and .onnx, with inputs and outputs.

    python tools/networks.py crates/gsgd-lab/tests/networks

Needs torch, safetensors, onnx and onnxruntime. What the tests read was made with torch 2.15.0.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Dense layers with names that are not this program's."""

    shape = (12,)

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.fc2 = nn.Linear(16, 9)
        self.fc3 = nn.Linear(9, 4)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Cnn(nn.Module):
    """Batch norms, pooling, groups, PReLU, flattening of a map."""

    shape = (3, 12, 12)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4)
        self.act2 = nn.PReLU(8)
        self.conv3 = nn.Conv2d(8, 6, (1, 3), padding=(0, 1))
        self.bn3 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 3 * 3, 5)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.act2(self.conv2(y))
        y = F.max_pool2d(y, 2)
        y = F.leaky_relu(self.bn3(self.conv3(y)), 0.1)
        return self.fc(torch.flatten(y, 1))


class Residual(nn.Module):
    """A residual stream of two blocks, a projection, a concatenation, a function that is not homogeneous."""

    shape = (3, 10, 10)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.a1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.a1_norm = nn.BatchNorm2d(6)
        self.a2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.a2_norm = nn.BatchNorm2d(6)
        self.b1 = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.b2 = nn.Conv2d(8, 8, 3, padding=1)
        self.project = nn.Conv2d(6, 8, 1, stride=2)
        self.side = nn.Conv2d(8, 4, 1)
        self.gate = nn.Conv2d(8, 3, 1)
        self.fc = nn.Linear(8 + 4 + 3, 5)

    def forward(self, x):
        y = F.relu(self.stem_norm(self.stem(x)))
        z = F.relu(self.a1_norm(self.a1(y)))
        y = F.relu(y + self.a2_norm(self.a2(z)))
        z = F.relu(self.b1(y))
        y = F.relu(self.b2(z) + self.project(y))
        y = torch.cat([y, F.relu(self.side(y)), torch.sigmoid(self.gate(y))], 1)
        return self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Parts(nn.Module):
    """What the others leave out: average pooling, clipping, dropout, reshaping, a product and a sum, softmax."""

    shape = (2, 8, 8)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.clipped = nn.Conv2d(6, 4, 1)
        self.drop = nn.Dropout(0.3)
        self.matrix = nn.Parameter(torch.randn(10 * 4 * 4, 12) / 10)
        self.shift = nn.Parameter(torch.randn(12) / 10)
        self.last = nn.Linear(12, 4)

    def forward(self, x):
        y = F.avg_pool2d(F.leaky_relu(self.first(x), 0.2), 2)
        y = torch.cat([y, torch.clamp(self.clipped(y), 0, 6)], 1)
        y = self.drop(y)
        y = F.relu(y.view(y.size(0), -1) @ self.matrix + self.shift)
        return F.softmax(self.last(y), 1)


def settle(model, generator):
    """A few steps on noise, so that no weight, bias or statistic is what a fresh layer has."""
    optim = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(20):
        x = torch.randn(32, *model.shape, generator=generator)
        loss = F.cross_entropy(model(x), torch.randint(0, 4, (32,), generator=generator))
        optim.zero_grad()
        loss.backward()
        optim.step()


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in [("mlp", Mlp), ("cnn", Cnn), ("residual", Residual), ("parts", Parts)]:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(4)
        model = make()
        settle(model, generator)
        model.eval()
        x = torch.randn(4, *model.shape, generator=generator)
        with torch.no_grad():
            y = model(x)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        if name != "parts":  # whose layers no file but ONNX tells of
            torch.save({"epoch": 20, "state_dict": state} if name == "cnn" else state, folder / f"{name}.pt")
            save_file(state, folder / f"{name}.safetensors")
        save_file({"input": x}, folder / f"{name}.inputs.safetensors")
        save_file({"output": y.contiguous()}, folder / f"{name}.outputs.safetensors")
        path = folder / f"{name}.onnx"
        axes = {"input": {0: "batch"}, "output": {0: "batch"}} if name != "residual" else None
        torch.onnx.export(model, (x,), path, input_names=["input"], output_names=["output"],
                          dynamic_axes=axes, opset_version=17, dynamo=False,
                          do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)
        if name == "mlp":  # numbers as older exporters stored them
            file = onnx.load(path)
            for tensor in file.graph.initializer:
                values = numpy_helper.to_array(tensor).copy()
                tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.flatten()))
            onnx.save(file, path)
        onnx.checker.check_model(str(path))
        run = onnxruntime.InferenceSession(path)
        (found,) = run.run(None, {"input": x.numpy()})
        assert np.abs(found - y.numpy()).max() < 1e-5
        kinds = sorted({node.op_type for node in onnx.load(path).graph.node})
        print(name, sum(p.numel() for p in model.parameters()), "weights", *kinds)


def giants(folder):
    """Files of a few hundred bytes that ask for more memory than there is."""
    folder.mkdir(parents=True, exist_ok=True)
    helper, whole, real = onnx.helper, np.int64, np.float32
    weight = numpy_helper.from_array(np.ones((4, 3), real), "w")
    for name, op, inputs, tensors in [
        ("expand", "Expand", ["h", "n"], {"n": whole([100000, 100000, 3, 8])}),
        ("tile", "Tile", ["h", "n"], {"n": whole([100000, 100000])}),
        ("constant", "ConstantOfShape", ["n"], {"n": whole([100000, 100000, 3])}),
        ("pad", "Pad", ["h", "n"], {"n": whole([0, 0, 0, 10**12])}),
        ("resize", "Resize", ["h", "", "n"], {"n": real([1e5, 1e6])}),
        ("range", "Range", ["n", "m", "d"], {"n": whole(0), "m": whole(10**12), "d": whole(1)}),
    ]:
        nodes = [helper.make_node("Gemm", ["x", "w"], ["h"], name="dense"),
                 helper.make_node(op, inputs, ["y" if "h" in inputs else "z"], name="large")]
        if "h" not in inputs:
            nodes += [helper.make_node("Shape", ["z"], ["s"]), helper.make_node("Cast", ["s"], ["c"], to=1),
                      helper.make_node("ReduceSum", ["c"], ["t"], keepdims=0), helper.make_node("Mul", ["h", "t"], ["y"])]
        value = helper.make_tensor_value_info
        graph = helper.make_graph(nodes, "giant", [value("x", 1, ["n", 4])], [value("y", 1, None)],
                                  [weight] + [numpy_helper.from_array(np.asarray(t), n) for n, t in tensors.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, folder / f"giant_{name}.onnx")


def computed_giant(folder):
    """A file whose own numbers are small: the outer product of two vectors is larger than an address space."""
    helper, whole = onnx.helper, np.int64
    tensors = {"w": np.ones((4, 3), np.float32), "from": np.float32(0), "to": np.float32(10**7), "by": np.float32(1),
               "shape": whole([-1, 1])}
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Range", ["from", "to", "by"], ["row"]),
             helper.make_node("Reshape", ["row", "shape"], ["column"]), helper.make_node("Mul", ["row", "column"], ["z"]),
             helper.make_node("ReduceMax", ["z"], ["t"], keepdims=0), helper.make_node("Mul", ["h", "t"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "outer", [value("x", 1, ["n", 4])], [value("y", 1, None)],
                              [numpy_helper.from_array(np.asarray(t), n) for n, t in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "giant_outer.onnx")


main(pathlib.Path(sys.argv[1]))
giants(pathlib.Path(sys.argv[1]) / "faults")
computed_giant(pathlib.Path(sys.argv[1]) / "faults")
