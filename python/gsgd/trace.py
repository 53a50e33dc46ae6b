"""From a model's forward pass to the core's graph of operations, by `torch.export`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from gsgd._core import Error, Graph

aten = torch.ops.aten


def trace(model: nn.Module, example: Any) -> tuple[Graph, list[str]]:
    """The graph of a model, and the names of its tensors by their keys.

    Parameters
    ----------
    model
        Any module that `torch.export` takes. It is only read.
    example
        A tensor, or a tuple of what the model takes.

    Returns
    -------
    The graph, and the name of every parameter and buffer of floating point numbers, in the order of their keys. Where a
    parameter has several names, its first.

    Raises
    ------
    Error
        The model cannot be exported.

    """
    args = example if isinstance(example, tuple) else (example,)
    try:
        program = torch.export.export(model, args)
    except Exception as error:
        said = str(error).strip().splitlines()
        raise Error(f"the model cannot be traced by torch.export: {said[0] if said else error!r}") from error
    return _Reader(model, program).read()


class _Reader:
    """Reads an exported program."""

    def __init__(self, model: nn.Module, program: torch.export.ExportedProgram) -> None:
        self.graph = Graph()
        self.program = program
        self.names: list[str] = []
        self.keys: dict[int, int] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.tensors |= dict(model.named_parameters(remove_duplicate=False))
        self.tensors |= dict(model.named_buffers(remove_duplicate=False))
        self.values: dict[Node, int] = {}
        self.parts: dict[Node, list[int]] = {}

    def read(self) -> tuple[Graph, list[str]]:
        signature = self.program.graph_signature
        names = signature.inputs_to_parameters | signature.inputs_to_buffers
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, names.get(node.name))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "get_attr":
                self._constant(node)
            elif node.op == "output":
                outputs = [x for x in _flat(node.args) if isinstance(x, Node) and x in self.values]
                results = signature.user_outputs
                for value in outputs:
                    if value.name in results:
                        self.graph.output(self.values[value])
        return self.graph, self.names

    def _placeholder(self, node: Node, name: str | None) -> None:
        found = node.meta.get("val")
        if not isinstance(found, torch.Tensor):
            return
        tensor = self.tensors.get(name) if name else None
        if tensor is None or not tensor.is_floating_point():
            kind = "input" if name is None else "constant"
            self._push(node, kind, {"shape": list(found.shape)}, [])
            return
        # one tensor under two names is one
        key = self.keys.get(id(tensor))
        if key is None:
            trains = tensor.requires_grad or not isinstance(tensor, nn.Parameter)
            key = self.graph.declare(name or node.name, list(tensor.shape), trains)
            self.keys[id(tensor)] = key
            self.names.append(name or node.name)
        self._push(node, "param", {"key": key}, [])

    def _constant(self, node: Node) -> None:
        found = node.meta.get("val")
        if isinstance(found, torch.Tensor):
            self._push(node, "constant", {"shape": list(found.shape)}, [])

    def _push(self, node: Node, kind: str, args: dict[str, Any], reads: list[int]) -> int:
        """Append an operation; what does not come out as torch says is taken for unknown."""
        found = node.meta.get("val")
        shape = list(found.shape) if isinstance(found, torch.Tensor) else None
        try:
            value = self.graph.push(node.name, kind, args, reads)
            if shape is not None and self.graph.shape(value) != shape:
                raise Error(f"{kind} gives {self.graph.shape(value)}, not {shape}")
        except Error:
            if shape is None:
                raise
            value = self.graph.push(node.name, "opaque", {"name": kind, "shape": shape}, reads)
        self.values[node] = value
        return value

    def _then(self, kind: str, args: dict[str, Any], reads: list[int]) -> int:
        """Append an operation in the middle of one of torch's."""
        return self.graph.push("", kind, args, reads)

    def _reads(self, *nodes: Any) -> list[int]:
        return [self.values[node] for node in nodes if isinstance(node, Node)]

    def _opaque(self, node: Node) -> None:
        reads = [self.values[x] for x in node.all_input_nodes if x in self.values]
        for part in (part for x in node.all_input_nodes for part in self.parts.get(x, [])):
            reads.append(part)
        name = str(node.target).removeprefix("aten.").split(".")[0].rstrip("_")
        found = node.meta.get("val")
        if isinstance(found, torch.Tensor):
            self.values[node] = self._then("opaque", {"name": name, "shape": list(found.shape)}, reads)
        elif isinstance(found, (list, tuple)):
            self.parts[node] = [
                self._then("opaque", {"name": name, "shape": list(part.shape)}, reads)
                for part in found
                if isinstance(part, torch.Tensor)
            ]

    def _call(self, node: Node) -> None:
        if node.target is operator.getitem:
            source, at = node.args
            parts = self.parts.get(source) if isinstance(source, Node) else None
            if parts is not None and isinstance(at, int) and at < len(parts):
                self.values[node] = parts[at]
            return
        found = node.meta.get("val")
        floats = isinstance(found, torch.Tensor) and found.is_floating_point()
        several = isinstance(found, (list, tuple))
        rule = _RULES.get(node.target) if floats or several else None
        if rule is None or not self._is_known(node):
            self._opaque(node)
        else:
            rule(self, node, *_arguments(node))
            # an operation in place makes the entry of what it reads its result
            self._in_place(node)

    def _is_known(self, node: Node) -> bool:
        return all(x in self.values or x in self.parts for x in node.all_input_nodes)

    def _in_place(self, node: Node) -> None:
        name = str(node.target).removeprefix("aten.").split(".")[0]
        first = node.args[0] if node.args else None
        if name.endswith("_") and isinstance(first, Node) and node in self.values:
            self.values[first] = self.values[node]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [x for part in value for x in _flat(part)]
    return [value]


def _arguments(node: Node) -> list[Any]:
    """The arguments in the order of the operation's schema, with its defaults."""
    schema = node.target._schema  # type: ignore[union-attr]
    values = list(node.args)
    for argument in schema.arguments[len(values) :]:
        if argument.name in node.kwargs:
            values.append(node.kwargs[argument.name])
        else:
            values.append(argument.default_value if argument.has_default_value() else None)
    return values


def _shape(node: Node) -> list[int]:
    return list(node.meta["val"].shape)


def _each(value: Any, axes: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * axes if len(values) == 1 else values


_Rule = Callable[..., None]
_RULES: dict[Any, _Rule] = {}


def _rule(*targets: Any) -> Callable[[_Rule], _Rule]:
    def put(rule: _Rule) -> _Rule:
        for target in targets:
            _RULES[target] = rule
        return rule

    return put


def _unary(kind: str, *targets: Any, **args: Any) -> None:
    def rule(reader: _Reader, node: Node, x: Node, *_: Any) -> None:
        reader._push(node, kind, args, reader._reads(x))

    _rule(*targets)(rule)


_unary("relu", aten.relu.default, aten.relu_.default)
_unary("abs", aten.abs.default)
_unary("neg", aten.neg.default)
_unary("silu", aten.silu.default, aten.silu_.default)
_unary("gelu", aten.gelu.default)
_unary("tanh", aten.tanh.default)
_unary("sigmoid", aten.sigmoid.default, aten.sigmoid_.default)
_unary("hard-swish", aten.hardswish.default, aten.hardswish_.default)
_unary("hard-sigmoid", aten.hardsigmoid.default, aten.hardsigmoid_.default)
_unary("relu6", aten.relu6.default, aten.relu6_.default)
_unary(
    "identity",
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
)


@_rule(aten._to_copy.default, aten.to.dtype, aten.to.device)
def _cast(reader: _Reader, node: Node, x: Node, *_: Any) -> None:
    reader._push(node, "identity", {}, reader._reads(x))


@_rule(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default)
def _clamp(reader: _Reader, node: Node, x: Node, low: float | None = None, high: float | None = None, *_: Any) -> None:
    if low == 0 and (high is None or math.isinf(high)):
        reader._push(node, "relu", {}, reader._reads(x))
    elif low == 0 and high == 6:
        reader._push(node, "relu6", {}, reader._reads(x))
    else:
        reader._opaque(node)


@_rule(aten.clamp_min.default)
def _clamp_min(reader: _Reader, node: Node, x: Node, low: float) -> None:
    if low == 0:
        reader._push(node, "relu", {}, reader._reads(x))
    else:
        reader._opaque(node)


@_rule(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(reader: _Reader, node: Node, x: Node, slope: float = 0.01) -> None:
    reader._push(node, "leaky-relu", {"slope": float(slope)}, reader._reads(x))


@_rule(aten.prelu.default)
def _prelu(reader: _Reader, node: Node, x: Node, slopes: Node) -> None:
    reader._push(node, "prelu", {}, reader._reads(x, slopes))


@_rule(aten.linear.default)
def _linear(reader: _Reader, node: Node, x: Node, weight: Node, bias: Node | None = None) -> None:
    reader._push(node, "matmul", {"transposed": True}, reader._reads(x, weight, bias))


@_rule(aten.matmul.default, aten.mm.default, aten.bmm.default)
def _matmul(reader: _Reader, node: Node, a: Node, b: Node) -> None:
    reader._push(node, "matmul", {"transposed": False}, reader._reads(a, b))


@_rule(aten.addmm.default)
def _addmm(reader: _Reader, node: Node, bias: Node, a: Node, b: Node, *_: Any) -> None:
    reader._push(node, "matmul", {"transposed": False}, reader._reads(a, b, bias))


@_rule(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def _conv(
    reader: _Reader,
    node: Node,
    x: Node,
    weight: Node,
    bias: Node | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> None:
    kernel = _shape(weight)[2:]
    args = {
        "kernel": kernel,
        "stride": _each(stride, len(kernel)),
        "padding": _each(padding, len(kernel)),
        "dilation": _each(dilation, len(kernel)),
        "ceil": False,
        "groups": groups,
    }
    reader._push(node, "conv", args, reader._reads(x, weight, bias))


@_rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def _conv_transpose(
    reader: _Reader,
    node: Node,
    x: Node,
    weight: Node,
    bias: Node | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> None:
    kernel = _shape(weight)[2:]
    args = {
        "kernel": kernel,
        "stride": _each(stride, len(kernel)),
        "padding": _each(padding, len(kernel)),
        "output_padding": _each(output_padding, len(kernel)),
        "dilation": _each(dilation, len(kernel)),
        "ceil": False,
        "groups": groups,
    }
    reader._push(node, "conv-transpose", args, reader._reads(x, weight, bias))


@_rule(aten.batch_norm.default)
def _batch_norm(
    reader: _Reader,
    node: Node,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node | None,
    variance: Node | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> None:
    tensors = reader._reads(weight, bias, mean, variance)
    if len(tensors) < 4:
        reader._opaque(node)
        return
    reader._push(node, "batch-norm", {"epsilon": float(epsilon)}, reader._reads(x) + tensors)


@_rule(aten.layer_norm.default)
def _layer_norm(
    reader: _Reader,
    node: Node,
    x: Node,
    shape: list[int],
    weight: Node | None = None,
    bias: Node | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> None:
    rank = len(_shape(x))
    args = {
        "axes": list(range(rank - len(shape), rank)),
        "groups": None,
        "centred": True,
        "epsilon": float(epsilon),
    }
    value = reader._push(node, "normalise", args, reader._reads(x))
    for kind, tensor in (("mul", weight), ("add", bias)):
        if tensor is not None:
            value = reader._then(kind, {}, [value, *reader._reads(tensor)])
    reader.values[node] = value


@_rule(aten.group_norm.default)
def _group_norm(
    reader: _Reader,
    node: Node,
    x: Node,
    groups: int,
    weight: Node | None = None,
    bias: Node | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> None:
    rank = len(_shape(x))
    args = {
        "axes": list(range(2, rank)),
        "groups": groups,
        "centred": True,
        "epsilon": float(epsilon),
    }
    value = reader._push(node, "normalise", args, reader._reads(x))
    for kind, tensor in (("mul", weight), ("add", bias)):
        if tensor is not None:
            shape = [_shape(tensor)[0]] + [1] * (rank - 2)
            seen = reader._then("reshape", {"shape": shape}, reader._reads(tensor))
            value = reader._then(kind, {}, [value, seen])
    reader.values[node] = value


def _pool(reader: _Reader, node: Node, kind: str, x: Node, window: list[Any], ceil: bool) -> None:
    kernel, stride, padding, dilation = window
    axes = len(_each(kernel, 1)) if isinstance(kernel, (list, tuple)) else len(_shape(x)) - 2
    kernel = _each(kernel, axes)
    args = {
        "kernel": kernel,
        "stride": _each(stride, axes) if stride else kernel,
        "padding": _each(padding, axes),
        "dilation": _each(dilation, axes),
        "ceil": bool(ceil),
    }
    reader._push(node, kind, args, reader._reads(x))


@_rule(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)
def _max_pool(
    reader: _Reader, node: Node, x: Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> None:
    _pool(reader, node, "max-pool", x, [kernel, stride, padding, dilation], ceil)


@_rule(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def _avg_pool(
    reader: _Reader, node: Node, x: Node, kernel: Any, stride: Any, padding: Any, ceil: bool, *_: Any
) -> None:
    _pool(reader, node, "avg-pool", x, [kernel, stride, padding, 1], ceil)


@_rule(
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d.vec,
)
def _resample(reader: _Reader, node: Node, x: Node, *_: Any) -> None:
    name = str(node.target).removeprefix("aten.").split(".")[0]
    reader._push(node, "resample", {"name": name, "shape": _shape(node)}, reader._reads(x))


@_rule(aten.pad.default)
def _pad(reader: _Reader, node: Node, x: Node, pad: Any, mode: str = "constant", value: Any = None) -> None:
    if mode == "constant" and value:
        reader._opaque(node)
    else:
        reader._push(node, "resample", {"name": "pad", "shape": _shape(node)}, reader._reads(x))


def _operand(reader: _Reader, x: Any) -> int:
    if isinstance(x, Node):
        return reader.values[x]
    return reader._then("constant", {"shape": [1]}, [])


def _binary(kind: str, *targets: Any) -> None:
    def rule(reader: _Reader, node: Node, a: Any, b: Any, *_: Any, alpha: Any = 1) -> None:
        if kind in ("add", "sub") and not isinstance(b, Node) and b == 0:
            reader._push(node, "identity", {}, reader._reads(a))
            return
        reader._push(node, kind, {}, [_operand(reader, a), _operand(reader, b)])

    _rule(*targets)(rule)


_binary("add", aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar)
_binary("sub", aten.sub.Tensor, aten.sub_.Tensor)
_binary("mul", aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar)
_binary("div", aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar)


@_rule(aten.cat.default)
def _cat(reader: _Reader, node: Node, parts: list[Node], axis: int = 0) -> None:
    rank = len(_shape(node))
    reader._push(node, "concat", {"axis": axis % rank}, reader._reads(*parts))


@_rule(
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten._unsafe_view.default,
)
def _reshape(reader: _Reader, node: Node, x: Node, *_: Any) -> None:
    reader._push(node, "reshape", {"shape": _shape(node)}, reader._reads(x))


@_rule(aten.transpose.int)
def _transpose(reader: _Reader, node: Node, x: Node, a: int, b: int) -> None:
    order = list(range(len(_shape(x))))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = order[b], order[a]
    reader._push(node, "transpose", {"order": order}, reader._reads(x))


@_rule(aten.t.default)
def _t(reader: _Reader, node: Node, x: Node) -> None:
    order = list(reversed(range(len(_shape(x)))))
    reader._push(node, "transpose", {"order": order}, reader._reads(x))


@_rule(aten.permute.default)
def _permute(reader: _Reader, node: Node, x: Node, order: list[int]) -> None:
    rank = len(order)
    reader._push(node, "transpose", {"order": [axis % rank for axis in order]}, reader._reads(x))


@_rule(aten.expand.default)
def _expand(reader: _Reader, node: Node, x: Node, *_: Any) -> None:
    reader._push(node, "expand", {"shape": _shape(node)}, reader._reads(x))


@_rule(aten.select.int)
def _select(reader: _Reader, node: Node, x: Node, axis: int, at: int) -> None:
    shape = _shape(x)
    axis %= len(shape)
    args = {"axis": axis, "start": at % shape[axis], "step": 1, "count": 1}
    one = reader._then("slice", args, reader._reads(x))
    reader._push(node, "reshape", {"shape": _shape(node)}, [one])


@_rule(aten.slice.Tensor)
def _slice(
    reader: _Reader, node: Node, x: Node, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> None:
    axis %= len(_shape(x))
    size = _shape(x)[axis]
    first = min(max(0 if start is None else (start + size if start < 0 else start), 0), size)
    args = {"axis": axis, "start": first, "step": step, "count": _shape(node)[axis]}
    reader._push(node, "slice", args, reader._reads(x))


@_rule(aten.flip.default)
def _flip(reader: _Reader, node: Node, x: Node, axes: list[int]) -> None:
    shape = _shape(x)
    value = reader.values[x]
    for axis in (axis % len(shape) for axis in axes):
        args = {"axis": axis, "start": shape[axis] - 1, "step": -1, "count": shape[axis]}
        value = reader._then("slice", args, [value])
    reader.values[node] = value


@_rule(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default)
def _split(reader: _Reader, node: Node, x: Node, _: Any, axis: int = 0) -> None:
    axis %= len(_shape(x))
    first, parts = 0, []
    for part in node.meta["val"]:
        count = part.shape[axis]
        args = {"axis": axis, "start": first, "step": 1, "count": count}
        parts.append(reader._then("slice", args, reader._reads(x)))
        first += count
    reader.parts[node] = parts


def _reduction(name: str, *targets: Any) -> None:
    def rule(reader: _Reader, node: Node, x: Node, axes: Any = None, keep: bool = False, *_: Any) -> None:
        rank = len(_shape(x))
        axes = range(rank) if axes is None else _flat(axes)
        args = {"reduction": name, "axes": [axis % rank for axis in axes], "keep": bool(keep)}
        reader._push(node, "reduce", args, reader._reads(x))

    _rule(*targets)(rule)


_reduction("mean", aten.mean.dim, aten.mean.default)
_reduction("sum", aten.sum.dim_IntList, aten.sum.default)
_reduction("max", aten.amax.default)
_reduction("min", aten.amin.default)


@_rule(aten.softmax.int)
def _softmax(reader: _Reader, node: Node, x: Node, axis: int, *_: Any) -> None:
    reader._push(node, "softmax", {"axis": axis % len(_shape(x))}, reader._reads(x))


@_rule(aten.embedding.default)
def _embedding(reader: _Reader, node: Node, weight: Node, places: Node, *_: Any) -> None:
    reader._push(node, "gather", {"axis": 0, "shape": _shape(node)}, reader._reads(weight, places))


@_rule(aten.scaled_dot_product_attention.default)
def _attention(reader: _Reader, node: Node, q: Node, k: Node, v: Node, mask: Any = None, *_: Any) -> None:
    shape = _shape(q)[:-1] + [_shape(k)[-2]]
    weights = reader._then("opaque", {"name": "attention weights", "shape": shape}, reader._reads(q, k, mask))
    reader._push(node, "matmul", {"transposed": False}, [weights, *reader._reads(v)])
