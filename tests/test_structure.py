"""The house: imports go one way, rooms hold what they say, no solver asks what kind of moments it has."""

import ast
from pathlib import Path

import pytest

import meanfield

ROOT = Path(meanfield.__file__).parent

# Each room may import those before it. What stands together in one line is one step of the sentence.
ROOMS = (
    ("status", "support", "numerics"),
    ("activations",),
    ("dual",),
    ("priors",),
    ("layers",),
    ("maps",),
    ("fixed_points",),
    ("asymmetric",),
    ("plotting",),
    ("dead", "spectra"),
    ("advice",),
    ("grids",),
    ("empirical",),
    ("explorer",),
    ("cli",),
    ("__main__",),
)
ORDER = {room: step for step, rooms in enumerate(ROOMS) for room in rooms}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imported(path):
    """The modules of meanfield that a file imports, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module
                for a in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in MODULES and name != "meanfield")


GRAPH = {name: sorted(set(imported(path)) - {name}) for name, path in MODULES.items()}


def circle(graph):
    """A path that ends where it begins, or None."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        found = next(filter(None, map(visit, graph[name])), None)
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(visit, graph)), None)


def test_a_circle_would_be_found():
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_no_imports_go_in_a_circle():
    assert circle(GRAPH) is None


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"meanfield"}))
def test_a_room_imports_only_rooms_above_it(module):
    room = module.split(".")[1]
    for other in GRAPH[module]:
        other_room = other.split(".")[1]
        assert other_room == room or ORDER[other_room] < ORDER[room], (module, other)


def test_nothing_lies_about_outside_of_the_rooms():
    assert {p.stem for p in ROOT.glob("*.py")} == {"__init__", "__main__", "maps", "status"}


KINDS = {
    "dual": {"Dual", "Homogeneous1", "Homogeneous2", "QuadratureDual", "TabulatedDual", "PiecewiseLinear"}
}
KINDS["priors"] = {"Prior", "NormalPrior", "OrthogonalPrior"}
KINDS["asymmetric"] = {"AsymmetricPrior"}


@pytest.mark.parametrize("room", KINDS)
def test_only_the_room_that_defines_a_kind_asks_for_it(room):
    for module, path in MODULES.items():
        if module.split(".")[1:2] == [room]:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                assert not asked & KINDS[room], module
