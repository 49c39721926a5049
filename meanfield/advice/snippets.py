"""Code that draws a network with a given prior, in Flax (nnx, linen) and PyTorch."""

from meanfield.fixed_points.gains import preserving_weight_var
from meanfield.support.text import unknown

_TORCH = {
    "linear": "lambda x: x",
    "relu": "torch.relu",
    "abs": "torch.abs",
    "squared_relu": "lambda x: torch.relu(x) ** 2",
    "tanh": "torch.tanh",
    "erf": "torch.erf",
    "sin": "torch.sin",
    "cos": "torch.cos",
    "sigmoid": "torch.sigmoid",
    "softplus": "functional.softplus",
    "gelu": "functional.gelu",
    "gelu_tanh": 'lambda x: functional.gelu(x, approximate="tanh")',
    "silu": "functional.silu",
    "mish": "functional.mish",
    "selu": "functional.selu",
    "hard_tanh": "functional.hardtanh",
    "relu6": "functional.relu6",
    "softsign": "functional.softsign",
    "arctan": "torch.atan",
    "hard_swish": "functional.hardswish",
    "log_sigmoid": "functional.logsigmoid",
    "leaky_relu": "lambda x: functional.leaky_relu(x, {0})",
    "elu": "lambda x: functional.elu(x, {0})",
    "celu": "lambda x: functional.celu(x, {0})",
    "squareplus": "lambda x: (x + torch.sqrt(x**2 + {0})) / 2",
    "snake": "lambda x: x + torch.sin({0} * x) ** 2 / {0}",
}

_JAX_HEAD = """import jax
import jax.numpy as jnp
{imports}
import meanfield as mf

phi = mf.activations.as_activation({name!r})
prior = mf.{prior}
first = mf.NormalPrior({first!r}, {bias_var!r})  # gives inputs of mean square 1 the variance {start:.4g}
readout = mf.NormalPrior({readout!r})  # gives outputs the variance 1


def start(prior):
    return dict(kernel_init=prior.kernel_init(), bias_init=prior.bias_init())

"""

_NNX = """
class Network(nnx.Module):
    def __init__(self, features, outputs, width, depth, rngs):
        self.first = nnx.Linear(features, width, **start(first), rngs=rngs)
        self.depth = depth
        for i in range(depth):
            setattr(self, f"hidden_{{i}}", nnx.Linear(width, width, **start(prior), rngs=rngs))
        self.readout = nnx.Linear(width, outputs, **start(readout), rngs=rngs)

    def __call__(self, x):
        h = self.first(x)
        for i in range(self.depth):
            h = getattr(self, f"hidden_{{i}}")(phi(h))
        return self.readout(phi(h)), h


x = jax.random.normal(jax.random.key(1), (2, 784))
x = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True))
network = Network(784, 10, width=512, depth={depth}, rngs=nnx.Rngs(0))
outputs, h = network(x)
print(jnp.mean(h**2, axis=-1))  # about {end:.4g} at large width
"""

_LINEN = """
class Network(nn.Module):
    outputs: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width, **start(first))(x)
        for _ in range(self.depth):
            h = nn.Dense(self.width, **start(prior))(phi(h))
        return nn.Dense(self.outputs, **start(readout))(phi(h)), h


x = jax.random.normal(jax.random.key(1), (2, 784))
x = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True))
network = Network(10, width=512, depth={depth})
parameters = network.init(jax.random.key(0), x)
outputs, h = network.apply(parameters, x)
print(jnp.mean(h**2, axis=-1))  # about {end:.4g} at large width
"""

_PYTORCH = """import torch
from torch import nn
from torch.nn import functional

phi = {phi}


def linear(fan_in, fan_out, weight_var, bias_var=0.0, kappa=0.0, orthogonal=False):
    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        if orthogonal:
            nn.init.orthogonal_(layer.weight, gain=weight_var**0.5)
        else:
            nn.init.normal_(layer.weight, std=(weight_var / fan_in) ** 0.5)
            layer.weight -= (1 - (1 - kappa) ** 0.5) * layer.weight.mean(1, keepdim=True)
        nn.init.normal_(layer.bias, std=bias_var**0.5)
    return layer


class Network(nn.Module):
    def __init__(self, features, outputs, width, depth):
        super().__init__()
        # Inputs of mean square 1 get the variance {start:.4g}, outputs the variance 1.
        self.first = linear(features, width, {first!r}, {bias_var!r})
        hidden = (linear(width, width, {arguments}) for _ in range(depth))
        self.hidden = nn.ModuleList(hidden)
        self.readout = linear(width, outputs, {readout!r})

    def forward(self, x):
        h = self.first(x)
        for layer in self.hidden:
            h = layer(phi(h))
        return self.readout(phi(h)), h


torch.manual_seed(0)
x = torch.randn(2, 784)
x = x / x.square().mean(-1, keepdim=True).sqrt()
network = Network(784, 10, width=512, depth={depth})
outputs, h = network(x)
print(h.square().mean(-1))  # about {end:.4g} at large width
"""

_TEMPLATES = {
    "nnx": _JAX_HEAD.replace("{imports}", "from flax import nnx") + _NNX,
    "linen": _JAX_HEAD.replace("{imports}", "from flax import linen as nn") + _LINEN,
    "torch": _PYTORCH,
}
FRAMEWORKS = tuple(_TEMPLATES)


def snippet(framework: str, activation, prior, depth: int, start: float, end: float) -> str:
    """A program that draws such a network and prints the variance of its last pre-activations.

    start, end: variance of the first and of the last pre-activations. Raises ValueError.
    """
    if framework not in _TEMPLATES:
        raise ValueError(unknown("framework", framework, FRAMEWORKS))
    bias_var, kappa = float(prior.bias_var), float(prior.anticorrelation)
    values = dict(
        name=repr(activation),
        phi=_in_torch(activation) if framework == "torch" else "",
        prior=_written(prior),
        arguments=_arguments(prior),
        first=max(start - bias_var, 0.0),
        bias_var=bias_var,
        kappa=kappa,
        readout=_readout(activation, end),
        depth=depth,
        start=start,
        end=end,
    )
    return _TEMPLATES[framework].format(**values)


def _readout(activation, end: float) -> float:
    """The weight variance under which outputs of signals of variance ``end`` have the variance 1."""
    return float(preserving_weight_var(activation, q=end)) / end


def _written(prior) -> str:
    parameters = ", ".join(f"{name}={float(getattr(prior, name))!r}" for name in prior.parameters)
    return f"{type(prior).__name__}({parameters})"


def _arguments(prior) -> str:
    kind = f"kappa={float(prior.anticorrelation)!r}" if prior.independent_rows else "orthogonal=True"
    return f"{float(prior.weight_var)!r}, {float(prior.bias_var)!r}, {kind}"


def _in_torch(activation) -> str:
    name = repr(activation).partition("(")[0]
    if name not in _TORCH:
        raise ValueError(
            f"activation {activation!r} has no name in PyTorch that is known here: use nnx or linen"
        )
    return _TORCH[name].format(*activation.params)
