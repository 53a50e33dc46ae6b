"""Tools around the symmetry: what can be rescaled, balancing, comparison."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gsgd._core import Error
from gsgd.trace import trace


@dataclass(frozen=True)
class Scales:
    """What of a model can be rescaled.

    Attributes
    ----------
    hidden
        H, the number of hidden classes: units that one positive factor scales together.
    weights
        m, the number of weights that are edges between classes, biases included.
    invariant_ratio
        H / m (Meng et al. 2019, section 5.2).
    grounded
        Where no scaling goes through: the layer whose result is taken, and by what.
    held
        Parameters that stay as they are, and why.
    imbalance
        Incoming over outgoing l2 norm of the units of each layer that first writes them: smallest, median, largest. 1 is
        balanced.

    """

    hidden: int
    weights: int
    invariant_ratio: float
    grounded: list[tuple[str, str]]
    held: list[tuple[str, str]]
    imbalance: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Comparison:
    """Whether a positive scaling takes one model to another.

    Attributes
    ----------
    equivalent
        Whether one does.
    difference
        The largest difference of a weight, relative to its unit.
    factors
        What each unit of the first is multiplied with, by the unit's name, where one does.
    unit, parameter
        Where they differ, where none does.

    """

    equivalent: bool
    difference: float
    factors: dict[str, float] | None
    unit: str | None
    parameter: str | None

    def __bool__(self) -> bool:
        return self.equivalent


class _Network:
    """A model with its scaling classes."""

    def __init__(self, model: nn.Module, example: Any) -> None:
        graph, names = trace(model, example)
        tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
        tensors |= dict(model.named_buffers(remove_duplicate=False))
        self.scales = graph.scales()
        self.edges = [tensors[names[key]] for key, _ in self.scales.edges]
        self.along = [tensors[names[key]] for key in self.scales.co_scaled]

    def weights(self) -> list[bytes]:
        return [_bytes(tensor) for tensor in self.edges]

    def statistics(self) -> list[bytes]:
        return [_bytes(tensor) for tensor in self.along]

    def apply(self, factors: list[float]) -> None:
        """Multiply the weights by the factors of their classes, all or none."""
        scaled = [
            _tensor(new, tensor)
            for new, tensor in zip(self.scales.rescaled(self.weights(), factors), self.edges, strict=True)
        ]
        along = []
        for tensor, by in zip(self.along, self.scales.along(factors), strict=True):
            factor = torch.tensor(by, dtype=torch.float64).reshape(tensor.shape)
            along.append((tensor.detach().cpu().double() * factor).to(tensor.dtype))
        for tensor, (name, new) in zip(
            self.edges, zip((name for _, name in self.scales.edges), scaled, strict=True), strict=True
        ):
            if not torch.isfinite(new).all():
                raise Error(f"a number of `{name}` becomes too large for {tensor.dtype}")
        with torch.no_grad():
            for tensor, new in zip(self.edges + self.along, scaled + along, strict=True):
                tensor.copy_(new)


def _bytes(tensor: torch.Tensor) -> bytes:
    """A tensor's numbers as f64."""
    numbers = tensor.detach().to("cpu", torch.float64).contiguous()
    return ctypes.string_at(numbers.data_ptr(), numbers.numel() * 8)


def _tensor(numbers: bytes, like: torch.Tensor) -> torch.Tensor:
    """Numbers of f64 as a tensor."""
    values = torch.frombuffer(bytearray(numbers), dtype=torch.float64)
    return values.reshape(like.shape).to(like.dtype)


def scales(model: nn.Module, example: Any) -> Scales:
    """What of a model can be rescaled, and how well it is balanced.

    Parameters
    ----------
    model
        A module; it is only read.
    example
        An example input, or a tuple of what the model takes.

    Raises
    ------
    Error
        The model cannot be traced, or a weight is not finite.

    Examples
    --------
    >>> import torch, gsgd
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    >>> gsgd.scales(model, torch.randn(1, 3)).hidden
    5

    """
    network = _Network(model, example)
    found = network.scales
    ratios: dict[str, list[float]] = {}
    for unit, ratio in zip(found.units, found.imbalances(network.weights()), strict=True):
        if ratio is not None:
            ratios.setdefault(unit[: unit.rfind("[")], []).append(ratio)
    layers = {}
    for layer, values in ratios.items():
        values.sort()
        layers[layer] = (values[0], values[len(values) // 2], values[-1])
    return Scales(
        hidden=found.hidden,
        weights=found.weights,
        invariant_ratio=found.hidden / found.weights if found.weights else 0.0,
        grounded=found.grounded,
        held=found.held,
        imbalance=layers,
    )


def balance(model: nn.Module, example: Any, target: str = "l2", tolerance: float = 1e-6, sweeps: int = 200) -> float:
    """Make incoming and outgoing norms of every unit equal, in place; the function stays.

    Parameters
    ----------
    model
        A module.
    example
        An example input, or a tuple of what the model takes.
    target
        ``"l2"`` for norms; ``"max-abs"`` for largest absolute values without biases, what rounding with one scale per
        tensor wants.
    tolerance
        Stop once both sides of every unit agree to this, relatively; > 0.
    sweeps
        Sweeps over the network at most.

    Returns
    -------
    The imbalance that is left, relatively.

    Raises
    ------
    Error
        The model cannot be traced, a weight is not finite or becomes so. The model is as it was then.

    """
    if not 0 < tolerance < float("inf"):
        raise Error(f"tolerance {tolerance}: a number > 0")
    network = _Network(model, example)
    factors, _, imbalance = network.scales.balance(network.weights(), target, tolerance, sweeps)
    network.apply(factors)
    return imbalance


def rescale(
    model: nn.Module, example: Any, spread: float = 1.0, seed: int = 0, powers_of_two: int | None = None
) -> None:
    """Multiply every unit's incoming weights by a random factor and divide its outgoing ones by it, in place.

    Parameters
    ----------
    model
        A module.
    example
        An example input, or a tuple of what the model takes.
    spread
        Factors are 10^u with u uniform in [-spread, spread]; in [0, 30].
    seed
        Decides the factors.
    powers_of_two
        With a number N, factors are 2^k with k in -N..=N instead, which no rounding touches.

    Raises
    ------
    Error
        The model cannot be traced, or a weight becomes infinite. The model is as it was then.

    """
    network = _Network(model, example)
    if powers_of_two is not None:
        network.apply(network.scales.powers_of_two(powers_of_two, seed))
    else:
        network.apply(network.scales.random(spread, seed))


def canonical(model: nn.Module, example: Any) -> None:
    """Take a model to the canonical one of its rescaled copies, in place: copies become equal.

    Raises
    ------
    Error
        The model cannot be traced, or a weight is not finite. The model is as it was then.

    """
    network = _Network(model, example)
    network.apply(network.scales.canonical(network.weights()))


def equivalent(a: nn.Module, b: nn.Module, example: Any, tolerance: float = 1e-4) -> Comparison:
    """Whether a positive scaling of its units takes a model to another.

    Permuted units and flipped signs are no positive scalings.

    Parameters
    ----------
    a, b
        Two modules of the same layers; they are only read.
    example
        An example input of both, or a tuple of what they take.
    tolerance
        How far a weight may be off, relative to its unit's incoming weights; >= 0.

    Raises
    ------
    Error
        A model cannot be traced, or their layers differ.

    """
    one, other = _Network(a, example), _Network(b, example)
    factors, place, difference = one.scales.equivalent(
        (one.weights(), other.weights()), (one.statistics(), other.statistics()), other.scales, tolerance
    )
    unit, parameter = place if place is not None else (None, None)
    named = dict(zip(one.scales.units, factors, strict=True)) if factors is not None else None
    return Comparison(factors is not None, difference, named, unit, parameter)


def path_norm(model: nn.Module, example: Any, p: int = 2) -> float:
    """The path norm, which no rescaling changes (Neyshabur et al. 2015).

    Parameters
    ----------
    model
        A module; it is only read.
    example
        An example input, or a tuple of what the model takes.
    p
        2 for the root of the sum of squares of all paths' products, 1 for the sum of their sizes.

    Raises
    ------
    Error
        The model cannot be traced, or has weights that are in no path: frozen ones, and those that stay.

    """
    network = _Network(model, example)
    norm = network.scales.path_norm(network.weights(), p)
    return norm**0.5 if p == 2 else norm


__all__ = ["Comparison", "Scales", "balance", "canonical", "equivalent", "path_norm", "rescale", "scales"]
