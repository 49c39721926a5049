"""What a result prints as: a short table, with statuses and phases by name."""

import jax
import numpy as np
import pytest

import meanfield as mf

PRIOR = mf.NormalPrior(weight_var=2.3, bias_var=0.1, anticorrelation=0.9)


def rows(result):
    return {line.split("  ")[1]: line.split()[1:] for line in repr(result).splitlines()[1:]}


def test_codes_print_as_their_names():
    assert str(mf.Status(3)) == f"{mf.Status(3)}" == "MARGINAL" and str(mf.Phase(1)) == "CRITICAL"
    assert mf.Status(3) == 3 and repr(mf.Status(3)) == "<Status.MARGINAL: 3>"


def test_a_fixed_point_prints_its_numbers_and_the_names_of_its_codes():
    point = mf.fixed_point("relu", PRIOR)
    table = rows(point)
    assert float(table["q*"][0]) == pytest.approx(float(point.q), rel=1e-6)
    assert table["status"] == ["CONVERGED"] and table["phase"] == ["CHAOTIC"]
    assert len(table) == 11


def test_many_fixed_points_print_ranges_and_counts():
    weight_var = np.linspace(1.0, 3.5, 50)
    points = mf.fixed_point("relu", mf.NormalPrior(weight_var, 0.1, 0.9))
    assert repr(points).startswith("FixedPoint, shape (50,)\n")
    bounded = int(np.sum(points.status == mf.Status.CONVERGED))
    assert f"CONVERGED {bounded}, UNBOUNDED {50 - bounded}" in repr(points)


def test_a_trajectory_prints_its_first_layers_and_its_last():
    path = mf.propagate("relu", PRIOR, depth=30)
    assert list(rows(path)) == ["layer", "0", "1", "2", "5", "10", "20", "30"]
    assert float(rows(path)["30"][0]) == pytest.approx(float(path.q[-1]), rel=1e-5)


def test_a_phase_diagram_prints_its_axes_and_how_much_of_it_is_what():
    grid = dict(weight_var=np.linspace(1, 3, 21), bias_var=np.linspace(0.1, 1, 11), anticorrelation=0.5)
    text = repr(mf.phase_diagram("relu", **grid))
    assert text.splitlines()[0] == (
        "PhaseDiagram: relu, weight_var 1 to 3 (21) x bias_var 0.1 to 1 (11), anticorrelation = 0.5"
    )
    assert "CONVERGED 154, UNBOUNDED 77" in text


def test_inside_a_transformation_results_still_print():
    seen = []

    def look(bias_var):
        prior = mf.NormalPrior(2.0, bias_var)
        seen.extend([repr(mf.fixed_point("relu", prior)), repr(mf.propagate("relu", prior, depth=30))])
        return bias_var

    jax.jit(look)(0.1)
    assert all("Tracer" in text for text in seen)
    assert "foo" in repr(jax.tree.map(lambda _: "foo", mf.fixed_point("relu", PRIOR)))


@pytest.mark.parametrize("prior", [mf.NormalPrior, mf.OrthogonalPrior, mf.AsymmetricPrior])
def test_standard_deviations_are_refused_by_name_with_the_mend(prior):
    with pytest.raises(TypeError, match=r"no argument sigma_w: give weight_var = sigma_w\^2"):
        prior(sigma_w=2)
