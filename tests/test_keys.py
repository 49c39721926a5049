"""What is cached is found by what a function computes: never by its identity, never by its name alone."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import gaussian_mean, relative

import meanfield as mf
from meanfield.activations.names import as_activation
from meanfield.asymmetric.special_weights import as_special_weight
from meanfield.dual.tables.build import _content_key

GAIN = 1.0
PRIOR = mf.NormalPrior(1.5, 0.1)
AXES = dict(weight_var=np.linspace(1.0, 3.0, 20), bias_var=np.linspace(0.1, 0.5, 20))  # enough for a table


def by_global(x):
    return jnp.tanh(GAIN * x)


class ByAttribute:
    gain = 1.0

    def __call__(self, x):
        return jnp.tanh(self.gain * x)


def by_cell():
    gain = 1.0

    def fn(x):
        return jnp.tanh(gain * x)

    def change(value):
        nonlocal gain
        gain = value

    return fn, change


def by_default_array():
    gains = np.ones(3)

    def fn(x, gains=gains):
        return jnp.tanh(jnp.asarray(gains)[1] * x)

    def change(value):
        gains[1] = value

    return fn, change


def change_global(value):
    global GAIN
    GAIN = value


def changing_functions():
    """(a function, what changes what it reads) by the way in which it is read."""
    instance = ByAttribute()
    return {
        "a global": (by_global, change_global),
        "an attribute": (instance, lambda value: setattr(instance, "gain", value)),
        "a closure cell": by_cell(),
        "an array in a default": by_default_array(),
    }


def q_map_of_tanh(gain, q):
    return 1.5 * gaussian_mean(lambda x: np.tanh(gain * x) ** 2, q) + 0.1


@pytest.mark.parametrize("kind", changing_functions())
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_function_is_taken_as_it_is_now(x64, kind, wrapped):
    fn, change = changing_functions()[kind]
    activation = mf.Activation(fn) if wrapped else fn
    compiled = jax.jit(lambda a: mf.q_map(a, PRIOR, 2.0))
    for gain in (1.0, 0.5, 1.0):
        change(gain)
        assert relative(mf.q_map(activation, PRIOR, 2.0), q_map_of_tanh(gain, 2.0)) <= 1e-13
        if wrapped:  # compiled by the user, the activation an argument
            assert relative(compiled(activation), q_map_of_tanh(gain, 2.0)) <= 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_entrance_takes_a_function_as_it_is_now(x64, tmp_path, monkeypatch, wrapped):
    monkeypatch.setenv("MEANFIELD_CACHE", str(tmp_path / "cache"))
    fn, change = by_cell()
    activation = mf.Activation(fn) if wrapped else fn
    for number, gain in enumerate((1.0, 0.5, 1.0)):
        change(gain)
        point = mf.fixed_point(activation, PRIOR)
        table = mf.tabulate(activation)
        found = {
            "fixed_point": point.q,
            "propagate": mf.propagate(activation, PRIOR, depth=400).q[-1],
            "tabulate": mf.fixed_point(table, PRIOR).q,
        }
        for name, q in found.items():
            assert relative(q_map_of_tanh(gain, float(q)), q) <= 1e-12, name
        diagram = mf.phase_diagram(activation, **AXES)
        stored = mf.sweep(activation, tmp_path / f"{number}.zarr", **AXES).to_xarray()
        at = mf.NormalPrior(AXES["weight_var"][7], AXES["bias_var"][3])
        expected = mf.fixed_point(table, at).q
        assert relative(diagram.q[7, 3], expected) <= 1e-12
        assert relative(stored.q.values[7, 3], expected) <= 1e-12


def test_kinks_that_were_searched_for_move_with_the_function(x64):
    width = [1.0]
    searched = mf.Activation(lambda x: jnp.clip(x, -width[0], width[0]))
    declared = mf.Activation(lambda x: jnp.clip(x, -width[0], width[0]), kinks=(-1.0, 1.0))
    width[0] = 0.5
    assert as_activation(searched).kinks == (-0.5, 0.5)
    assert as_activation(declared).kinks == (-1.0, 1.0)


def test_a_table_is_that_of_the_function_it_was_made_for(x64):
    fn, change = by_cell()
    table = mf.tabulate(fn, q=(0.5, 0.6))
    change(0.5)
    assert as_activation(table).program is table.program
    assert relative(mf.q_map(table, PRIOR, 2.0), q_map_of_tanh(1.0, 2.0)) <= 1e-13


def test_equal_functions_are_one_program():
    first, second = (as_activation(lambda x: jnp.tanh(0.7 * x)) for _ in range(2))
    assert first.program is second.program
    assert jax.tree.structure(first) == jax.tree.structure(second)


DIFFERENT = {
    "a constant": lambda x: jnp.tanh(0.7 * x),
    "another": lambda x: jnp.tanh(0.7000000000000001 * x),
    "the sign of a zero": lambda x: jnp.tanh(0.7 * x) / 0.0,
    "of the other": lambda x: jnp.tanh(0.7 * x) / -0.0,
    "an array": lambda x: jnp.sum(x * jnp.asarray([0.2, 0.3])),
    "another array": lambda x: jnp.sum(x * jnp.asarray([0.2, 0.4])),
    "a branch": lambda x: jax.lax.cond(True, jnp.sin, jnp.cos, x),
    "another branch": lambda x: jax.lax.cond(True, jnp.cos, jnp.sin, x),
    "a derivative": lambda x: jax.nn.relu(x),
    "another derivative": lambda x: jnp.maximum(x, 0.0),
    "order": lambda x: jnp.arctan2(x, 2 * x + 1),
    "the other order": lambda x: jnp.arctan2(2 * x + 1, x),
}


def test_functions_that_differ_are_different_programs():
    from meanfield.activations.programs import fingerprint

    with jax.enable_x64(True):
        keys = [fingerprint(fn, jax.make_jaxpr(fn)(1.0), 0) for fn in DIFFERENT.values()]
    assert len(set(keys)) == len(DIFFERENT)


def straight_through(slope):
    @jax.custom_jvp
    def step(x):
        return jnp.sign(x) + x

    step.defjvp(lambda primals, tangents: (step(primals[0]), slope * tangents[0]))
    return step


def test_a_derivative_of_its_own_is_part_of_a_function():
    one, two, again = (as_activation(straight_through(slope)).program for slope in (1.0, 2.0, 1.0))
    assert one is not two and one is again


def test_a_program_is_what_was_traced(x64):
    fn, change = by_cell()
    program = as_activation(fn).program
    change(0.5)
    x = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)
    np.testing.assert_array_equal(program(x), jnp.tanh(x))
    slopes = (jax.grad(lambda x, f=f: f(x).sum())(x) for f in (program, jnp.tanh))
    np.testing.assert_array_equal(*slopes)
    assert program(jnp.float32(1.0)).dtype == jnp.float32


def test_a_quantile_function_is_taken_as_it_is_now():
    power = [1.0]

    def quantile(u):
        return u ** power[0]

    first = as_special_weight(quantile)
    power[0] = 2.0
    second = as_special_weight(quantile)
    assert first != second
    assert [law.moment(1) for law in (first, second)] == pytest.approx([1 / 2, 1 / 3])
    power[0] = 1.0
    assert as_special_weight(quantile) == first


def test_the_nodes_of_one_parameter_are_not_those_of_another(x64):
    def wiggle(a):
        return mf.Activation(lambda x, a: x + jnp.sin(a * x) ** 2 / a, kinks=(), params=(a,))

    prior = mf.NormalPrior(1.0, 0.0, 1.0)
    for a in (0.5, 10.0):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", mf.QuadratureWarning)
            found = mf.q_map(wiggle(a), prior, 1.0)
        expected = gaussian_mean(lambda x: (x + np.sin(a * x) ** 2 / a) ** 2, 1.0)  # noqa: B023
        expected -= gaussian_mean(lambda x: x + np.sin(a * x) ** 2 / a, 1.0) ** 2  # noqa: B023
        assert relative(found, expected) <= 1e-10 or warned


def test_parameters_may_be_arrays(x64):
    gains = np.array([0.5, 1.0, 2.0])
    found = mf.q_map(mf.Activation(lambda x, a: jnp.tanh(a * x), kinks=(), params=(gains,)), PRIOR, 1.0)
    assert relative(found, [q_map_of_tanh(a, 1.0) for a in gains]) <= 1e-13


CONTENT = """
import jax, jax.numpy as jnp
from meanfield.activations.names import as_activation
from meanfield.dual.tables.build import _content_key
functions = ["gelu", "elu(0.5)", lambda x: jax.nn.relu(x) + 0.3 * jnp.where(x > 1, jnp.sin(x), x)]
keys = [_content_key(as_activation(f)) for f in functions]
"""


def test_a_key_on_disk_is_the_same_in_every_process():
    here: dict = {}
    exec(CONTENT, here)
    there = subprocess.run(
        [sys.executable, "-c", f"{CONTENT}print(keys)"], capture_output=True, text=True, check=True
    ).stdout
    assert there.strip() == str(here["keys"])
    assert len({*here["keys"], None}) == 4


def test_a_key_on_disk_holds_what_lies_between_the_points_of_any_grid():
    bump = lambda height: lambda x: jnp.tanh(x) + height * jnp.exp(-((x - 0.3) ** 2) * 1e12)
    assert _content_key(as_activation(bump(1.0))) != _content_key(as_activation(bump(2.0)))
