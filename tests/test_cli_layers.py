"""The command line with layers that a function in a file of the user's makes."""

import re

import numpy as np
import pytest

import meanfield as mf

FILE = """
import meanfield as mf
from beside import GAIN

number = 3

def block(weight_var, keep, scale=0.7):
    branch = mf.Chain(mf.RMSNorm(GAIN), "relu", mf.Dropout(keep), mf.NormalPrior(weight_var))
    return mf.Residual(branch, skip=0.9, scale=scale)

def none(x):
    return x

def failing(x):
    return undefined

def refused(x):
    return mf.Chain("tanh", mf.Dropout(2.0), mf.NormalPrior(x))

def tokens(x):
    return mf.Transformer(mf.Chain("linear", mf.NormalPrior(x)), beta=1.0, tokens=4)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("GAIN = 1.2\n")
    (tmp_path / "own.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    return tmp_path


def block(weight_var, keep, scale=0.7):
    """That of the file."""
    branch = mf.Chain(mf.RMSNorm(1.2), "relu", mf.Dropout(keep), mf.NormalPrior(weight_var))
    return mf.Residual(branch, skip=0.9, scale=scale)


def test_a_diagram_over_the_arguments_of_a_function(call, here):
    axes = ("-p", "keep=0.5:1:4", "-p", "weight_var=0.5:4:5", "-p", "scale=0.6")
    code, out, err = call("phase-diagram", "--layer", "own.py:block", *axes, "--quantity", "chi_perp")
    assert (code, err) == (0, "") and "block, weight_var x keep (5 x 4)" in out
    found = mf.PhaseDiagram.load(here / "phase_diagram_block.npz")
    expected = mf.phase_diagram(
        lambda weight_var, keep: block(weight_var, keep, 0.6),
        weight_var=np.linspace(0.5, 4, 5),
        keep=np.linspace(0.5, 1, 4),
    )
    assert found.names == expected.names == ("weight_var", "keep")
    np.testing.assert_allclose(found.q, expected.q, rtol=1e-12)
    np.testing.assert_allclose(found.chi_perp, expected.chi_perp, rtol=1e-12)
    assert (here / "phase_diagram_block.png").exists()


def test_a_fixed_point_of_a_function(call, x64):
    code, out, err = call("fixed-point", "--layer", "./own.py:block", "-p", "weight_var=2", "-p", "keep=0.9")
    assert (code, err) == (0, "")
    found = float(re.search(r"q\*\s+(\S+)", out)[1])
    assert found == pytest.approx(float(mf.fixed_point(block(2.0, 0.9)).q), rel=1e-10)


ONE = ("-p", "x=1")
WRONG = {
    "no such file": (("none.py:block", *ONE), "there is no file none.py"),
    "no such function": (("own.py:blok", *ONE), "own.py has no function blok"),
    "no function named": (("own.py", *ONE), "file.py:function, got 'own.py'"),
    "not a file of Python": (("own.txt:block", *ONE), "file.py:function, got 'own.txt:block'"),
    "not a function": (("own.py:number", *ONE), "number in own.py is no function, but 3"),
    "a file that raises": (("broken.py:block", *ONE), "broken.py raises ModuleNotFoundError"),
    "a function that raises": (("own.py:failing", *ONE), "failing in own.py raises NameError"),
    "a layer that is refused": (("own.py:refused", *ONE), "own.py raises ValueError: keep must be"),
    "no layer": (("own.py:none", *ONE), "none in own.py must return a layer.*got 1.0"),
    "a transformer": (("own.py:tokens", *ONE), "is not a layer.*use token_phases"),
    "an argument without a value": (("own.py:block", "-p", "keep=1"), "weight_var of block has no value"),
    "an unknown argument": (("own.py:none", *ONE, "-p", "y=2"), "none has the arguments x, but not y"),
    "a range": (("own.py:none", "-p", "x=0:1:3"), "x must be a number: one fixed point has no axes"),
    "an activation": (("own.py:none", "-a", "tanh", *ONE), "--activation has no place beside --layer"),
    "a prior": (("own.py:none", "--weight-var", "2", *ONE), "--weight-var has no place beside --layer"),
    "a special weight": (("own.py:none", "--special-weight", "1", *ONE), "--special-weight has no place"),
    "no range": (("own.py:none", "-p", "x"), "name=number or name=start:stop:count, got 'x'"),
}  # fmt: skip


def refused(call, message, *arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"Error: [^\n]*\.\n", err)
    assert re.search(message, err, re.IGNORECASE), err


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_sentence(call, arguments, message):
    refused(call, message, "fixed-point", "--layer", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layer", "own.py:block", "-p", "keep=0:1:3", "-p", "weight_var=1"), "two of weight_var, keep"),
        (("--layer", "own.py:block", "-p", "keep=0.5:1:3"), "weight_var of block has no value"),
        (("--layer", "own.py:none", "-p", "x=0:1:3"), "two of x must be ranges"),
        (("-p", "keep=0:1:3"), "--parameter keep belongs to a function: name it with --layer"),
    ],
)  # fmt: skip
def test_diagrams_name_what_is_wrong_too(call, here, arguments, message):
    before = sorted(here.iterdir())
    refused(call, message, "phase-diagram", *arguments)
    assert [p for p in sorted(here.iterdir()) if p.name != "__pycache__"] == before
