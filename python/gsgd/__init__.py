"""The positive scaling symmetry of neural networks.

A ReLU unit's incoming weights times c and its outgoing weights divided by c give the same function. `scales` finds the
units of a model that can be rescaled, `balance` makes the norms on both sides of each equal, `rescale` multiplies them at
random, `canonical` takes all rescaled copies to one, `equivalent` compares two models up to rescaling, and `path_norm`
does not depend on it. The model is described once, by its forward pass on an example.
"""

from gsgd._core import Error
from gsgd.tools import (
    Comparison,
    Scales,
    balance,
    canonical,
    equivalent,
    path_norm,
    rescale,
    scales,
)

__all__ = [
    "Comparison",
    "Error",
    "Scales",
    "balance",
    "canonical",
    "equivalent",
    "path_norm",
    "rescale",
    "scales",
]
