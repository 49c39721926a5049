"""What ``recommend`` promises for a depth, and the code it prints."""

import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations.names import as_activation
from meanfield.advice.snippets import _TORCH, FRAMEWORKS, _in_torch


@pytest.fixture(scope="module")
def tanh():
    return mf.recommend("tanh", 12)


def named(found):
    return {candidate.name: candidate for candidate in found.candidates}


def test_what_is_promised_is_what_propagate_gives(tanh, x64):
    best = tanh.best
    path = mf.propagate("tanh", best.prior, q0=best.start, c0=0.5, depth=12)
    np.testing.assert_allclose(best.outcome.q, path.q[-1], rtol=1e-9)
    np.testing.assert_allclose(best.outcome.one_minus_c, path.one_minus_c[-1], rtol=1e-8)


def test_the_best_prior_is_critical_and_keeps_gradients(tanh, x64):
    best = tanh.best
    point = mf.fixed_point("tanh", best.prior, q0=best.start)
    assert abs(point.chi_1 - 1) < 1e-9 and abs(point.q - best.start) < 1e-9
    assert best.outcome.gradient == pytest.approx(1, rel=1e-7)
    assert best.outcome.kept >= np.exp(-1) - 1e-3


def test_orthogonal_weights_change_the_spread_alone(tanh):
    independent, orthogonal = tanh.candidates[:2]
    assert isinstance(orthogonal.prior, mf.OrthogonalPrior)
    assert orthogonal.outcome == independent.outcome and orthogonal.spread < independent.spread


def test_a_deeper_network_is_started_at_a_smaller_variance(tanh):
    assert mf.recommend("tanh", 200).best.start < tanh.best.start


@pytest.mark.slow
def test_gelu_has_no_critical_variance_below_four_that_attracts():
    found = mf.recommend("gelu", 12)
    assert any("does not attract" in reason for reason in found.reasons)
    least = named(found)["critical, with bias"]
    assert least.start >= 3.65 and any("may lose the variance" in note for note in least.notes)


def test_a_start_that_is_not_settled_is_told():
    found = mf.recommend("tanh", 3, q0=50.0)
    assert any("on its way to q*" in note for note in named(found)["critical, with bias"].notes)


def test_relu_is_he(tanh):
    assert named(mf.recommend("relu", 12))["critical, no bias"].prior.weight_var == pytest.approx(
        2.0, rel=1e-12
    )


def test_a_layer_is_told_what_it_does():
    layer = mf.Dense("relu", mf.NormalPrior(1.0))
    (given,) = mf.recommend(layer, 10).candidates
    assert given.outcome.q == pytest.approx(2.0**-10, rel=1e-6)
    assert given.outcome.gradient == pytest.approx(2.0**-10, rel=1e-6)
    assert any("variance changes" in mf.recommend(layer, 10).best.notes[i] for i in range(2))


def variance_printed(text):
    return [float(number) for number in re.findall(r"\d+\.\d+(?:e-?\d+)?", text)]


def output_of(code, framework, folder):
    """What a program prints; PyTorch may live in another interpreter."""
    python = (
        os.environ.get("MEANFIELD_TORCH_PYTHON", sys.executable) if framework == "torch" else sys.executable
    )
    if (
        framework == "torch"
        and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
    ):
        assert "MEANFIELD_TORCH_PYTHON" not in os.environ, f"{python} was named for PyTorch and has none"
        pytest.skip("PyTorch is not installed")
    file = folder / "snippet.py"
    file.write_text(code)
    return subprocess.run([python, file], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_code_runs_as_printed_and_has_the_variance_that_it_promises(tanh, framework, tmp_path):
    for candidate in tanh.candidates[:2]:
        out = output_of(tanh.snippet(framework, candidate), framework, tmp_path)
        measured = np.mean(variance_printed(out))
        assert measured == pytest.approx(candidate.outcome.q, rel=0.25)  # of one network of width 512


@pytest.mark.slow
def test_in_pytorch_rows_that_sum_to_zero_have_the_variance_that_is_promised(tmp_path):
    found = mf.recommend("relu", 12)
    zero = named(found)["critical, rows sum to zero"]
    out = output_of(found.snippet("torch", zero), "torch", tmp_path)
    assert np.mean(variance_printed(out)) == pytest.approx(zero.outcome.q, rel=0.4)


def test_activations_in_pytorch_are_those_of_the_same_name(tmp_path):
    names = [f"{name}(0.3)" if "{0}" in text else name for name, text in _TORCH.items()]
    points = np.linspace(-7, 7, 57)
    calls = [f"({_in_torch(as_activation(name))})(x).tolist()" for name in names]
    code = "import json, torch\nfrom torch.nn import functional\n"
    code += (
        f"x = torch.tensor({points.tolist()}, dtype=torch.float64)\nprint(json.dumps([{', '.join(calls)}]))"
    )
    values = json.loads(output_of(code, "torch", tmp_path))
    for name, found in zip(names, values, strict=True):
        np.testing.assert_allclose(found, as_activation(name)(points), rtol=2e-5, atol=2e-6, err_msg=name)


def test_the_code_of_rows_that_sum_to_zero_says_so():
    found = mf.recommend("relu", 12)
    zero = named(found)["critical, rows sum to zero"]
    assert "kappa=1.0" in found.snippet("torch", zero)
    assert "anticorrelation=1.0" in found.snippet("nnx", zero)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mf.recommend("tanh", 0), "depth must be at least 1"),
        (lambda: mf.recommend("tanh", 5, c0=1.0), "c0 must be below 1"),
        (lambda: mf.recommend("tanh", 5, q0=0.0), "q0 must be"),
        (lambda: mf.recommend("tahn", 5), "did you mean 'tanh'"),
        (lambda: mf.recommend(mf.Dense("tanh", mf.NormalPrior(1.0)), 5).snippet(), "in your own code"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_framework_that_is_unknown_is_named(tanh):
    with pytest.raises(ValueError, match=r"framework 'flax' is unknown.*nnx, linen, torch"):
        tanh.snippet("flax")


@pytest.mark.slow
@pytest.mark.parametrize("activation, depth", [("tanh", 12), ("silu", 10), ("softplus", 10), ("relu", 50)])
def test_networks_keep_the_promise_within_their_error_bars(activation, depth):
    best = mf.recommend(activation, depth).best
    sizes = dict(width=512, depth=depth, networks=16, method="weightless")
    found = mf.empirical.compare(activation, best.prior, q0=best.start, c0=0.5, **sizes)
    assert found.p_value > 1e-3
    assert found.theory.values["q"][-1] == pytest.approx(best.outcome.q, rel=1e-5)
    assert not jax.config.jax_enable_x64
