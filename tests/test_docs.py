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


# Sizes that take long, at sizes that do not.
SMALLER = {"200": "20", "width=256, depth=20": "width=32, depth=4, networks=8", "depth=25": "depth=5"}


@with_blocks("python")
def test_every_python_block_of_a_page_runs_in_order(page):
    names = {"__name__": "page"}
    for i, text in enumerate(blocks(page, "python")):
        if page.name == "README.md":
            for size, smaller in SMALLER.items():
                text = text.replace(size, smaller)
        exec(compile(text, f"{page.name}, block {i + 1}", "exec"), names)


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
