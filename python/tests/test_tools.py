"""The tools on many kinds of model: functions stay, and all classes are found."""

import copy

import pytest
import torch
from torch import nn

import gsgd

torch.manual_seed(0)


def outputs(model, x):
    """The outputs in double precision, without batch norms' epsilon."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 1e-300
    x = tuple(t.double() if t.is_floating_point() else t for t in (x if isinstance(x, tuple) else (x,)))
    with torch.no_grad():
        found = model(*x)
    return found if isinstance(found, torch.Tensor) else torch.cat([y.flatten() for y in found])


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class Shuffled(nn.Module):
    """A gate, shuffled channels, a concatenation, a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.gate = nn.Conv2d(8, 8, 1)
        self.up, self.end = nn.ConvTranspose2d(8, 5, 2, stride=2), nn.Conv2d(13, 4, 1)

    def forward(self, x):
        y = nn.functional.relu(self.norm(self.stem(x)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        b, c, h, w = y.shape
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        z = nn.functional.leaky_relu(self.up(y))
        y = nn.functional.interpolate(y, scale_factor=2)
        return self.end(torch.cat([y, z], 1)).flatten(1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        x = self.words(x)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2))


CASES = [
    (Mlp(), torch.randn(4, 6), 16),
    # 8 before batch norm and 8 behind it, 5; the gate's 8 are ground
    (Shuffled(), torch.randn(2, 3, 6, 6), 21),
    # the gains of the norm and the values
    (Attention(), torch.randint(0, 11, (2, 5)), 16),
]


@pytest.mark.parametrize(("model", "x", "hidden"), CASES)
def test_rescaling_leaves_the_function(model, x, hidden):
    model = copy.deepcopy(model).double()
    x = x.double() if x.is_floating_point() else x
    assert gsgd.scales(model, x).hidden == hidden
    before, weights = outputs(model, x), [p.clone() for p in model.parameters()]
    gsgd.rescale(model, x, powers_of_two=3, seed=1)
    assert any(not torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert torch.equal(outputs(model, x), before)
    gsgd.rescale(model, x, spread=1.5, seed=2)
    torch.testing.assert_close(outputs(model, x), before, rtol=1e-9, atol=1e-9)


def test_copies_are_told_apart_from_other_networks():
    model, x = Mlp(), torch.randn(2, 6)
    copied = copy.deepcopy(model)
    gsgd.rescale(copied, x, spread=2)
    answer = gsgd.equivalent(model, copied, x)
    assert answer and len(answer.factors) == 16
    assert gsgd.path_norm(model, x) == pytest.approx(gsgd.path_norm(copied, x), rel=1e-5)
    gsgd.canonical(model, x)
    gsgd.canonical(copied, x)
    for a, b in zip(model.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        copied.b.weight[3, 2] += 0.1
    answer = gsgd.equivalent(model, copied, x)
    assert not answer
    assert (answer.unit, answer.parameter) == ("b.weight[3]", "b.weight")


def test_balanced_units_have_equal_norms():
    model, x = Mlp(), torch.randn(2, 6)
    gsgd.rescale(model, x, spread=2)
    assert max(high for _, _, high in gsgd.scales(model, x).imbalance.values()) > 2
    assert gsgd.balance(model, x) <= 1e-6
    for low, _, high in gsgd.scales(model, x).imbalance.values():
        assert low == pytest.approx(1, abs=1e-4) and high == pytest.approx(1, abs=1e-4)


def test_refusals_name_what_is_wrong_and_change_nothing():
    model, x = Mlp(), torch.randn(2, 6)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(gsgd.Error, match="traced"):
        gsgd.balance(model, torch.randn(2, 7))
    with pytest.raises(gsgd.Error, match="max-abs"):
        gsgd.balance(model, x, target="l3")
    with pytest.raises(gsgd.Error, match="too large"):
        gsgd.rescale(model.half(), x.half(), spread=12, seed=3)
    model.float()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        model.b.weight[0, 0] = torch.nan
    with pytest.raises(gsgd.Error, match=r"b\.weight"):
        gsgd.balance(model, x)


def test_tied_weights_stay():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 4)
            self.b.weight = nn.Parameter(self.b.weight)

        def forward(self, x):
            return self.b(torch.relu(self.a(x))) @ self.a.weight.t()

    model, x = Tied(), torch.randn(3, 4)
    held = dict(gsgd.scales(model, x).held)
    assert set(held) == {"a.weight"}
    before = outputs(model, x)
    gsgd.rescale(model, x, powers_of_two=2)
    assert torch.equal(outputs(model, x), before)


TORCHVISION = {
    "resnet18": 7680,
    "mobilenet_v2": None,
    "densenet121": None,
    "shufflenet_v2_x0_5": None,
    "efficientnet_b0": None,
    "vit_b_16": 28416,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    torchvision = pytest.importorskip("torchvision")
    model = getattr(torchvision.models, name)(weights=None).eval()
    x = torch.randn(1, 3, 224, 224)
    found = gsgd.scales(model, x)
    if TORCHVISION[name] is not None:
        assert found.hidden == TORCHVISION[name]
    assert found.hidden > 0
    copied = copy.deepcopy(model)
    gsgd.rescale(copied, x, powers_of_two=2)
    assert gsgd.equivalent(model, copied, x)
    before, after = outputs(model, x), outputs(copied, x)
    assert torch.equal(before, after)
