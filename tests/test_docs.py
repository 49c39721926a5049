"""Every code block of every page runs, and every public name is in the reference."""

import re
import shlex
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

import meanfield as mf
from meanfield.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def with_blocks(language):
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=[str(p.relative_to(ROOT)) for p in pages])


@pytest.fixture(autouse=True)
def reader(tmp_path, monkeypatch):
    """An empty directory; whatever a page does to JAX's precision is undone."""
    monkeypatch.chdir(tmp_path)
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)
    plt.close("all")


@with_blocks("python")
def test_every_python_block_of_a_page_runs_in_order(page):
    names = {"__name__": "page"}
    for i, text in enumerate(blocks(page, "python")):
        exec(compile(text, f"{page.name}, block {i + 1}", "exec"), names)


def test_the_readme_is_of_one_screen_and_its_output_is_what_it_prints(capsys):
    text = PAGES[0].read_text()
    assert len(text.split()) <= 700
    (code,) = blocks(PAGES[0], "python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.split()
    shown = " ".join(line[1:] for line in code.splitlines() if line.startswith("# ")).split()
    assert len(shown) == len(printed)
    for word, expected in zip(shown, printed, strict=True):
        if re.fullmatch(r"[\d.]+", expected):
            assert float(word) == pytest.approx(float(expected), rel=1e-5)
        else:
            assert word == expected


@pytest.mark.slow
def test_the_gains_page_has_the_gains_of_the_library(x64):
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|", (ROOT / "docs" / "gains.md").read_text(), re.M
    )
    assert {name for name, *_ in rows} == set(mf.activations.NAMES) - {"polynomial"}
    for name, keeps, gamma in rows:
        assert float(keeps) == pytest.approx(float(mf.preserving_weight_var(name)), abs=2e-6)
        apart = float(mf.preserving_weight_var(name, anticorrelation=1.0)) ** 0.5
        assert float(gamma) == pytest.approx(apart, abs=2e-6)


@with_blocks("sh")
def test_every_command_of_a_page_runs(page):
    for text in blocks(page, "sh"):
        for line in text.strip().splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "meanfield", line
            assert main(arguments) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_code_that_is_not_run_is_marked_as_such(page):
    """Python and shell say so; what has no language installs, serves, or is output."""
    kinds = {kind for kind, _ in BLOCK.findall(page.read_text())}
    assert kinds <= {"python", "sh", ""}
    for text in (text for kind, text in BLOCK.findall(page.read_text()) if kind == ""):
        assert re.match(r"(pip install|meanfield) ", text), text


def test_every_public_name_is_in_the_reference():
    text = "\n".join(p.read_text() for p in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: meanfield\.([\w.]+)$", text, re.MULTILINE))
    modules = {"activations", "empirical", "special_weights"}
    assert set(mf.__all__) - modules <= shown
    assert {f"empirical.{name}" for name in mf.empirical.__all__} <= shown


def test_every_named_activation_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "activations.md").read_text()
    assert set(mf.activations.NAMES) <= set(re.findall(r"`(\w+)(?:\([^`]*\))?`", text))


def test_every_command_is_in_the_reference():
    from typer.main import get_command

    from meanfield.cli.app import app

    text = (ROOT / "docs" / "reference" / "command_line.md").read_text()
    assert set(get_command(app).commands) == set(re.findall(r"\| `meanfield ([\w-]+)` \|", text))


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"^ +- ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {str(p.relative_to(ROOT / "docs")) for p in PAGES[1:]} == listed
