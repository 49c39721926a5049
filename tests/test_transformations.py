"""Everything composes with JAX's transformations, shapes and precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf

PRIOR = mf.NormalPrior(2.3, 0.1, 0.9)
FLOATS = ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp")


def same(one, other, tolerance=1e-14):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["relu", "cos"])
def test_jit_and_vmap_change_nothing(x64, name):
    weight_vars = jnp.array([0.4, 1.5, 2.6])
    plain = mf.fixed_point(name, mf.NormalPrior(weight_vars, 0.1, 0.9))
    solve_at = lambda w: mf.fixed_point(name, mf.NormalPrior(w, 0.1, 0.9))
    same(jax.jit(solve_at)(weight_vars), plain, 1e-12)
    same(jax.vmap(solve_at)(weight_vars), plain, 1e-12)
    same(jax.jit(jax.vmap(jax.jit(solve_at)))(weight_vars), plain, 1e-12)


def test_a_prior_can_be_mapped_over_some_of_its_leaves(x64):
    prior = mf.NormalPrior(jnp.array([0.4, 1.5, 2.6]), 0.1, 0.9)
    in_axes = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(prior), [0, None, None])
    found = jax.vmap(lambda p: mf.fixed_point("relu", p), in_axes=(in_axes,))(prior)
    same(found, mf.fixed_point("relu", prior))


@pytest.mark.parametrize(
    "shapes, expected",
    [
        (((), (), ()), ()),
        (((3,), (), ()), (3,)),
        (((3, 1), (2,), ()), (3, 2)),
        (((1,), (), ()), (1,)),
        (((2, 1, 1), (3, 1), (4,)), (2, 3, 4)),
    ],
)
def test_leaves_broadcast(shapes, expected):
    leaves = [np.full(s, x) for s, x in zip(shapes, (2.3, 0.1, 0.9), strict=True)]
    prior = mf.NormalPrior(*leaves)
    found = mf.fixed_point("relu", prior)
    assert {x.shape for x in jax.tree.leaves(found)} == {expected}
    assert mf.q_map("relu", prior, 1.0).shape == expected
    assert mf.c_map("relu", prior, c=0.5, q=1.0).shape == expected
    assert mf.propagate("relu", prior, depth=2).c.shape == (3, *expected)
    assert mf.depth_scales("relu", prior).c.shape == expected


def test_the_start_broadcasts_with_the_prior():
    found = mf.fixed_point("erf", mf.NormalPrior(np.ones((3, 1)), 0.1), q0=np.ones(2), c0=np.zeros((4, 1, 1)))
    assert found.c.shape == (4, 3, 2)
    assert mf.fixed_points("cos", mf.NormalPrior(np.ones((3, 1)), np.ones(2))).q.shape == (3, 2, 8)
    assert mf.critical_line("erf", np.ones((3, 1)), np.zeros(2)).q.shape == (3, 2)
    assert mf.critical_weight_var("erf", np.ones((3, 1)), np.zeros(2)).shape == (3, 2)


def test_shapes_of_prior_and_start_that_do_not_broadcast_raise_one_error():
    with pytest.raises(ValueError, match=r"3.*2|2.*3"):
        mf.fixed_point("relu", mf.NormalPrior(np.ones(3)), q0=np.ones(2))


def test_an_array_of_activation_parameters_broadcasts_too(x64):
    slopes = jnp.array([0.0, 0.2, 0.5])
    found = mf.fixed_point(mf.activations.leaky_relu(slopes), mf.NormalPrior(1.2, 0.1))
    np.testing.assert_allclose(found.q, 0.1 / (1 - 0.6 * (1 + slopes**2)), rtol=1e-14)


def test_results_are_pytrees_of_their_fields():
    found = mf.fixed_point("relu", PRIOR)
    assert len(jax.tree.leaves(found)) == 11
    assert isinstance(jax.tree.map(lambda x: x[None], found), mf.FixedPoint)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), found, mf.fixed_point("relu", mf.NormalPrior(1.0)))
    assert stacked.status.tolist() == [mf.Status.CONVERGED, mf.Status.VANISHING]
    for result in (
        mf.propagate("relu", PRIOR),
        mf.depth_scales("relu", PRIOR),
        mf.lyapunov_exponents("relu", PRIOR),
    ):
        assert type(jax.tree.map(jnp.negative, result)) is type(result)


def test_a_prior_is_rebuilt_from_any_leaves_without_validation():
    structure = jax.tree.structure(PRIOR)
    for leaf in (object(), None, -1.0, "text", jnp.nan):
        rebuilt = jax.tree.unflatten(structure, [leaf] * 3)
        assert rebuilt.weight_var is leaf
    assert jax.tree.map(lambda x: -x, PRIOR).weight_var == -2.3
    assert jax.tree.leaves(PRIOR) == [2.3, 0.1, 0.9]


def test_a_layer_is_a_pytree_and_stands_for_its_activation_and_prior(x64):
    layer = mf.Dense("erf", mf.NormalPrior(2.5, 0.1))
    same(mf.fixed_point(layer), mf.fixed_point("erf", mf.NormalPrior(2.5, 0.1)))
    same(jax.jit(mf.fixed_point)(layer), mf.fixed_point(layer), 1e-13)
    same(mf.q_map(layer, q=0.5), mf.q_map("erf", mf.NormalPrior(2.5, 0.1), 0.5))


@pytest.mark.parametrize("name", ["relu", "erf", "cos"])
def test_single_precision_in_gives_single_precision_out(x64, name):
    prior = mf.NormalPrior(*(jnp.float32(x) for x in (2.3, 0.1, 0.9)))
    found = mf.fixed_point(name, prior, q0=jnp.float32(1), c0=jnp.float32(0))
    for field in FLOATS:
        assert getattr(found, field).dtype == jnp.float32, field
    assert found.status.dtype == found.phase.dtype == jnp.int32
    assert mf.q_map(name, prior, jnp.float32(1)).dtype == jnp.float32
    path = mf.propagate(name, prior, q0=jnp.float32(1), c0=jnp.float32(0.5), depth=3)
    assert path.q.dtype == path.c.dtype == jnp.float32


def test_single_precision_is_double_precision_rounded_where_there_are_tables():
    weight_var = np.linspace(0.7, 3, 9, dtype=np.float32)
    found = mf.fixed_point("tanh", mf.NormalPrior(weight_var, np.float32(0.125)))
    with jax.enable_x64(True):
        exact = mf.fixed_point("tanh", mf.NormalPrior(weight_var.astype(float), 0.125))
    for field in FLOATS:
        np.testing.assert_array_equal(getattr(found, field), np.float32(getattr(exact, field)))


@pytest.mark.slow
def test_a_large_array_is_solved_as_a_diagram_is(x64):
    weight_var, bias_var = np.linspace(0.5, 3, 150), np.linspace(0, 0.5, 150)  # two chunks, in two threads
    diagram = mf.phase_diagram("tanh", weight_var=weight_var, bias_var=bias_var)
    found = mf.fixed_point("tanh", mf.NormalPrior(weight_var[:, None], bias_var))
    for field in FLOATS:
        np.testing.assert_allclose(
            getattr(found, field), getattr(diagram, field), rtol=1e-9, atol=1e-12, err_msg=field
        )
    np.testing.assert_array_equal(found.status, diagram.status)


def test_without_x64_everything_is_single_precision():
    assert mf.fixed_point("relu", PRIOR).q.dtype == jnp.float32
    assert mf.fixed_point("relu", mf.NormalPrior(np.float64(2.3), 0.1)).q.dtype == jnp.float32


def test_double_precision_is_used_where_it_is_asked_for(x64):
    assert mf.fixed_point("relu", PRIOR).q.dtype == jnp.float64
    assert mf.fixed_point("relu", mf.NormalPrior(2, 1)).q.dtype == jnp.float64


def test_derivatives_compose_with_vmap(x64):
    slope = jax.grad(lambda w: mf.fixed_point("relu", mf.NormalPrior(w, 0.1)).q)
    weight_vars = jnp.array([0.5, 1.0, 1.5])
    np.testing.assert_allclose(
        jax.vmap(slope)(weight_vars), 0.1 * 0.5 / (1 - weight_vars / 2) ** 2, rtol=1e-13
    )


def test_a_scan_may_hold_a_fixed_point(x64):
    weight_vars = jnp.array([0.5, 1.0, 1.5])
    _, q = jax.lax.scan(
        lambda _, w: (None, mf.fixed_point("erf", mf.NormalPrior(w, 0.1)).q), None, weight_vars
    )
    np.testing.assert_allclose(q, mf.fixed_point("erf", mf.NormalPrior(weight_vars, 0.1)).q, rtol=1e-13)
