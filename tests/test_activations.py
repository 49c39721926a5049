"""Activations by name, by callable and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import meanfield as mf
from meanfield.activations import FAMILIES, FIXED, as_activation

REQUIRED = [
    "linear",
    "relu",
    "leaky_relu",
    "abs",
    "tanh",
    "erf",
    "sin",
    "sigmoid",
    "softplus",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "elu",
    "selu",
    "celu",
    "hard_tanh",
    "relu6",
    "softsign",
    "arctan",
    "squared_relu",
    "cos",
    "hard_swish",
    "log_sigmoid",
    "squareplus",
    "snake",
]


@pytest.mark.parametrize("name", REQUIRED)
def test_every_activation_has_its_name(name):
    activation = as_activation(name)
    assert isinstance(activation, mf.Activation)
    assert activation.name == name
    assert repr(activation).startswith(name)


@pytest.mark.parametrize(
    "name, fn",
    [
        ("gelu", lambda x: jax.nn.gelu(x, approximate=False)),
        ("gelu_tanh", lambda x: jax.nn.gelu(x, approximate=True)),
        ("leaky_relu", lambda x: jax.nn.leaky_relu(x, 0.01)),
        ("leaky_relu(0.3)", lambda x: jax.nn.leaky_relu(x, 0.3)),
        ("elu(0.5)", lambda x: jax.nn.elu(x, 0.5)),
        ("celu( 2 )", lambda x: jax.nn.celu(x, 2.0)),
        ("squared_relu", lambda x: jax.nn.relu(x) ** 2),
        ("polynomial(1, -2, 3)", lambda x: 1 - 2 * x + 3 * x**2),
        ("linear", lambda x: x),
        ("hard_swish", jax.nn.hard_swish),
        ("log_sigmoid", jax.nn.log_sigmoid),
        ("squareplus", jax.nn.squareplus),
        ("squareplus(0.5)", lambda x: (x + jnp.sqrt(x**2 + 0.5)) / 2),
        ("snake", lambda x: x + jnp.sin(x) ** 2),
        ("snake(3)", lambda x: x + jnp.sin(3 * x) ** 2 / 3),
        ("softsign", jax.nn.soft_sign),
    ],
)
def test_a_name_gives_the_function_that_it_says(name, fn):
    x = jnp.linspace(-8.0, 8.0, 41)
    np.testing.assert_allclose(as_activation(name)(x), fn(x), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "fn, name",
    [(jax.nn.relu, "relu"), (jnp.tanh, "tanh"), (jax.nn.silu, "silu"), (jax.nn.swish, "silu"),
     (jax.nn.elu, "elu"), (jax.nn.leaky_relu, "leaky_relu"), (jnp.sin, "sin"), (jax.nn.selu, "selu"),
     (jax.nn.hard_silu, "hard_swish"), (jax.nn.log_sigmoid, "log_sigmoid"),
     (jax.nn.squareplus, "squareplus")],
)  # fmt: skip
def test_jax_functions_are_recognised(fn, name):
    assert as_activation(fn).name == name


def test_the_gelu_of_jax_keeps_its_tanh_approximation():
    assert as_activation(jax.nn.gelu).fn is FIXED["gelu_tanh"].fn


def test_a_family_without_parameters_has_its_defaults():
    assert as_activation(mf.activations.elu).params == (1.0,)
    assert as_activation("leaky_relu").params == (0.01,)
    assert set(FAMILIES) == {"leaky_relu", "elu", "celu", "squareplus", "snake", "polynomial"}


def test_an_activation_is_returned_as_it_is():
    assert as_activation(mf.activations.tanh) is mf.activations.tanh


def test_parameters_are_the_only_leaves():
    activation = mf.activations.elu(0.7)
    assert jax.tree.leaves(activation) == [0.7]
    doubled = jax.tree.map(lambda x: 2 * x, activation)
    assert doubled.params == (1.4,)
    assert doubled.fn is activation.fn and doubled.kinks == activation.kinks


def test_an_unhashable_callable_is_an_activation():
    class Slope:
        __hash__ = None

        def __call__(self, x):
            return 0.5 * jnp.abs(x)

    assert mf.Activation(Slope(), kinks=(0.0,))(jnp.float32(-2.0)) == 1.0


def test_kinks_are_sorted_and_distinct():
    assert mf.Activation(jnp.tanh, kinks=(2, -1.0, 2.0)).kinks == (-1.0, 2.0)
    assert mf.Activation(jnp.tanh, kinks=()).kinks == ()


def test_activations_keep_the_precision_of_their_argument(x64):
    x = jnp.linspace(-3, 3, 7, dtype=jnp.float32)
    for name in REQUIRED:
        assert as_activation(name)(x).dtype == jnp.float32, name
        assert as_activation(name)(x.astype(jnp.float64)).dtype == jnp.float64, name


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["tanh", "erf", "sin", "hard_tanh", "softsign", "arctan", "linear"]), st.floats(-50, 50)
)
def test_odd_activations_are_odd(name, x):
    activation = FIXED[name]
    assert activation(jnp.float32(-x)) == -activation(jnp.float32(x))
