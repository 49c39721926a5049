"""A wrong argument raises one clear error, which names the argument and the value."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import meanfield as mf

PRIOR = mf.NormalPrior(1.5, 0.1)
AXIS = np.linspace(0.5, 2.0, 3)


def diagram(**changes):
    arguments = dict(weight_var=AXIS, anticorrelation=AXIS / 2, bias_var=0.1) | changes
    return mf.phase_diagram("relu", **arguments)


def not_of_jax():
    """Functions that are no elementwise function of JAX operations, at several entrances."""
    elementwise = ["activation", "elementwise"]
    kinds = {
        "of NumPy": (np.tanh, ["'tanh'", "JAX operations", "use jnp.tanh"]),
        "of math": (math.tanh, ["'tanh'", "JAX operations", "use jnp.tanh"]),
        "of SciPy": (scipy.special.erf, ["'erf'", "JAX operations", "use jax.scipy.special.erf"]),
        "that calls NumPy": (lambda x: 2 * np.tanh(x), ["JAX operations", "jnp.tanh in place of np.tanh"]),
        "with an if": (lambda x: x if x > 0 else 0 * x, ["JAX operations", "jnp.where in place of if"]),
        "softmax": (jax.nn.softmax, ["'softmax'", "one number", "axis"]),
        "softmax inside": (lambda x: jax.nn.softmax(x), ["one number", "axis"]),
        "that centres": (lambda x: x - jnp.mean(x), ["one by one"]),
        "that accumulates": (lambda x: jnp.cumsum(jnp.atleast_1d(x)).reshape(x.shape), ["one by one"]),
        "of truth values": (lambda x: x > 0, ["floating-point", "bool", "astype"]),
        "of integers": (lambda x: (x > 0).astype(int), ["floating-point", "int", "astype"]),
        "of complex numbers": (lambda x: jnp.exp(1j * x), ["floating-point", "complex"]),
        "constant": (lambda x: 1.0, ["(3,)", "()"]),
    }
    pairs = [
        (f"function {kind}: {name}", lambda call=call, fn=fn: call(fn), TypeError, elementwise + words)
        for kind, (fn, words) in kinds.items()
        for name, call in ENTRANCES.items()
    ]
    returns = {"a pair": (lambda x: (x, x), "tuple"), "nothing": (lambda x: None, "NoneType")}
    return pairs + [
        (f"function that returns {kind}", lambda fn=fn: mf.q_map(fn, PRIOR, 1.0), TypeError, ["return", what])
        for kind, (fn, what) in returns.items()
    ]


ENTRANCES = {
    "Activation": mf.Activation,
    "declared": lambda fn: mf.Activation(fn, kinks=()),
    "q_map": lambda fn: mf.q_map(fn, PRIOR, 1.0),
    "fixed_point": lambda fn: mf.fixed_point(fn, PRIOR),
    "diagram": lambda fn: mf.phase_diagram(fn, weight_var=AXIS, bias_var=AXIS),
    "sweep": lambda fn: mf.sweep(fn, "never written", weight_var=AXIS),
    "tabulate": mf.tabulate,
    "inside jit": lambda fn: jax.jit(lambda v: mf.q_map(fn, mf.NormalPrior(v), 1.0))(1.0),
}


def cases():
    """(what is wrong, the call, the error, words that its message must hold)."""
    nan, inf = float("nan"), float("inf")
    point, prior = mf.fixed_point, mf.NormalPrior
    return [
        ("negative weight_var", lambda: prior(-1.0), ValueError, ["weight_var", "-1"]),
        ("NaN weight_var", lambda: prior(nan), ValueError, ["weight_var", "nan"]),
        ("infinite bias_var", lambda: prior(1.0, inf), ValueError, ["bias_var", "inf"]),
        (
            "negative in an array",
            lambda: prior(1.0, np.array([0.1, -0.25])),
            ValueError,
            ["bias_var", "-0.25"],
        ),
        ("kappa above 1", lambda: prior(1.0, 0.1, 1.5), ValueError, ["anticorrelation", "1.5", "at most 1"]),
        ("NaN kappa", lambda: prior(1.0, 0.1, nan), ValueError, ["anticorrelation", "nan"]),
        ("weight_var a string", lambda: prior("2"), TypeError, ["weight_var", "'2'"]),
        ("weight_var None", lambda: prior(None), TypeError, ["weight_var", "None"]),
        ("weight_var a truth value", lambda: prior(True), TypeError, ["weight_var", "True"]),
        ("weight_var complex", lambda: prior(1j), TypeError, ["weight_var", "1j"]),
        ("weight_var a ragged list", lambda: prior([[1.0], [1.0, 2.0]]), TypeError, ["weight_var"]),
        ("weight_var empty", lambda: prior(np.array([])), ValueError, ["weight_var", "(0,)"]),
        (
            "shapes that do not broadcast",
            lambda: prior(np.ones(2), np.ones(3)),
            ValueError,
            ["weight_var (2,)", "bias_var (3,)"],
        ),
        ("misspelt name", lambda: point("tahn", PRIOR), ValueError, ["tahn", "did you mean 'tanh'"]),
        (
            "misspelt family",
            lambda: point("leeky_relu(0.1)", PRIOR),
            ValueError,
            ["did you mean 'leaky_relu'"],
        ),
        ("unknown name", lambda: point("xyzzy", PRIOR), ValueError, ["xyzzy", "relu"]),
        (
            "parameter where none is",
            lambda: point("tanh(2)", PRIOR),
            ValueError,
            ["tanh(2)", "no parameters"],
        ),
        ("parameter not a number", lambda: point("elu(big)", PRIOR), ValueError, ["elu(big)", "numbers"]),
        ("too many parameters", lambda: point("elu(1, 2)", PRIOR), ValueError, ["elu(1, 2)"]),
        ("activation a number", lambda: point(3, PRIOR), TypeError, ["activation", "int"]),
        ("activation None", lambda: point(None, PRIOR), TypeError, ["activation", "None"]),
        ("not elementwise", lambda: mf.Activation(jnp.sum), TypeError, ["sum", "elementwise", "()"]),
        ("lambda not elementwise", lambda: point(lambda x: x[:1], PRIOR), TypeError, ["elementwise", "(1,)"]),
        ("activation of two arguments", lambda: point(lambda x, y: x, PRIOR), TypeError, ["lambda", "y"]),
        *not_of_jax(),
        ("fn not callable", lambda: mf.Activation(3.0), TypeError, ["fn", "3.0"]),
        (
            "kinks not numbers",
            lambda: mf.Activation(jnp.tanh, kinks=("a",)),
            (TypeError, ValueError),
            ["kinks"],
        ),
        ("kinks one number", lambda: mf.Activation(jnp.tanh, kinks=0.5), TypeError, ["kinks", "0.5"]),
        ("infinite kink", lambda: mf.Activation(jnp.tanh, kinks=(inf,)), ValueError, ["kinks", "inf"]),
        ("negative scale", lambda: mf.Activation(jnp.tanh, scale=-1.0), ValueError, ["scale", "-1.0"]),
        ("NaN scale", lambda: mf.Activation(jnp.tanh, scale=nan), ValueError, ["scale", "nan"]),
        ("no coefficients", lambda: mf.activations.polynomial(), ValueError, ["coefficient"]),
        ("prior missing", lambda: point("tanh"), TypeError, ["prior", "NormalPrior", "None"]),
        ("prior a number", lambda: point("tanh", 1.5), TypeError, ["prior", "1.5"]),
        ("arguments swapped", lambda: point(PRIOR, "tanh"), TypeError, ["activation", "NormalPrior"]),
        ("negative q0", lambda: point("relu", PRIOR, q0=-1.0), ValueError, ["q0", "-1"]),
        ("q0 a string", lambda: point("relu", PRIOR, q0="one"), TypeError, ["q0", "'one'"]),
        ("c0 above 1", lambda: point("relu", PRIOR, c0=1.01), ValueError, ["c0", "1.01", "between -1 and 1"]),
        ("NaN c0", lambda: point("relu", PRIOR, c0=nan), ValueError, ["c0", "nan"]),
        (
            "most a fraction",
            lambda: mf.fixed_points("cos", PRIOR, most=2.5),
            (TypeError, ValueError),
            ["most", "2.5"],
        ),
        ("most zero", lambda: mf.fixed_points("cos", PRIOR, most=0), ValueError, ["most", "0"]),
        (
            "most true",
            lambda: mf.fixed_points("cos", PRIOR, most=True),
            (TypeError, ValueError),
            ["most", "True"],
        ),
        ("negative q", lambda: mf.q_map("relu", PRIOR, -0.5), ValueError, ["q", "-0.5"]),
        (
            "q zero in c_map",
            lambda: mf.c_map("relu", PRIOR, c=0.5, q=0.0),
            ValueError,
            ["q", "greater than 0"],
        ),
        ("c below -1", lambda: mf.c_map("relu", PRIOR, c=-1.2, q=1.0), ValueError, ["c", "-1.2"]),
        ("q2 negative", lambda: mf.c_map("relu", PRIOR, c=0.2, q=1.0, q2=-3.0), ValueError, ["q2", "-3"]),
        ("depth a fraction", lambda: mf.propagate("relu", PRIOR, depth=1.5), TypeError, ["depth", "1.5"]),
        ("depth negative", lambda: mf.propagate("relu", PRIOR, depth=-1), ValueError, ["depth", "-1"]),
        ("depth true", lambda: mf.propagate("relu", PRIOR, depth=True), TypeError, ["depth", "True"]),
        ("critical q zero", lambda: mf.critical_line("tanh", 0.0), ValueError, ["q", "greater than 0"]),
        ("critical kappa", lambda: mf.critical_line("tanh", 1.0, 2.0), ValueError, ["anticorrelation", "2"]),
        ("critical bias", lambda: mf.critical_weight_var("tanh", -0.1), ValueError, ["bias_var", "-0.1"]),
        ("kernel of one axis", lambda: PRIOR.kernel_init()(None, (3,)), ValueError, ["kernel", "(3,)"]),
        (
            "kernel of many priors",
            lambda: mf.NormalPrior(AXIS).kernel_init(),
            ValueError,
            ["scalars", "(3,)"],
        ),
        ("three axes", lambda: diagram(bias_var=AXIS), ValueError, ["weight_var, bias_var, anticorrelation"]),
        ("one axis", lambda: diagram(anticorrelation=0.1), ValueError, ["two of", "weight_var"]),
        ("no axis", lambda: diagram(weight_var=1.0, anticorrelation=0.1), ValueError, ["two of", "none"]),
        ("empty axis", lambda: diagram(weight_var=[]), ValueError, ["weight_var", "empty"]),
        (
            "axis of two dimensions",
            lambda: diagram(weight_var=np.ones((2, 2))),
            ValueError,
            ["weight_var", "(2, 2)"],
        ),
        ("axis with NaN", lambda: diagram(weight_var=[1.0, nan]), ValueError, ["weight_var", "nan"]),
        ("axis above 1", lambda: diagram(anticorrelation=AXIS), ValueError, ["anticorrelation", "1.25"]),
        ("axis of words", lambda: diagram(weight_var=["a", "b"]), TypeError, ["weight_var", "'a'"]),
        ("no weight_var", lambda: mf.phase_diagram("relu", bias_var=AXIS), TypeError, ["weight_var"]),
        ("q0 an array", lambda: diagram(q0=AXIS), ValueError, ["q0", "(3,)"]),
        ("c0 above 1 in a diagram", lambda: diagram(c0=2.0), ValueError, ["c0", "2"]),
        ("bias_var None is 0, a word is not", lambda: diagram(bias_var="a"), TypeError, ["bias_var", "'a'"]),
    ]


@pytest.mark.parametrize("call, error, words", [pytest.param(*case[1:], id=case[0]) for case in cases()])
def test_a_wrong_argument_is_named_with_its_value(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert len(message) < 400
    assert caught.type in (TypeError, ValueError)


def test_an_unknown_name_in_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="fixed_pont"):
        mf.fixed_pont  # noqa: B018


def test_a_layer_takes_no_second_prior():
    layer = mf.Dense("relu", PRIOR)
    with pytest.raises(TypeError, match="prior"):
        mf.fixed_point(layer, PRIOR)


@pytest.mark.parametrize("good", [1, 1.5, np.float32(1.5), np.int64(2), np.ones(3), [0.5, 1.0], (0.5, 1)])
def test_every_kind_of_real_number_is_a_weight_var(good):
    assert np.all(np.asarray(mf.NormalPrior(good).weight_var) > 0)


def test_integers_in_an_array_are_numbers_too():
    found = mf.fixed_point("relu", mf.NormalPrior(np.array([1, 3]), 1))
    assert found.status.tolist() == [mf.Status.CONVERGED, mf.Status.UNBOUNDED]
