"""Every dataclass of the package is a pytree of its own kind."""

import dataclasses
import importlib
import inspect
import itertools
import pkgutil

import jax

import meanfield
from meanfield.dual.homogeneous import Homogeneous1, Homogeneous2


def registered_classes():
    for module in pkgutil.walk_packages(meanfield.__path__, "meanfield."):
        if not module.name.endswith("__main__"):
            for cls in filter(inspect.isclass, vars(importlib.import_module(module.name)).values()):
                if cls.__module__ == module.name and "__dataclass_fields__" in vars(cls):
                    empty = object.__new__(cls)
                    for field in dataclasses.fields(cls):
                        object.__setattr__(empty, field.name, 0.0)
                    if not jax.tree_util.all_leaves([empty]):
                        yield empty


def test_two_classes_never_have_one_structure():
    """jax.tree_util.register_dataclass of jaxlib 0.10.2 compares fields and forgets the class."""
    structures = {type(x): jax.tree.structure(x) for x in registered_classes()}
    assert len(structures) > 35
    for (a, one), (b, other) in itertools.combinations(structures.items(), 2):
        assert one != other, (a, b)


def test_compiled_functions_tell_apart_classes_with_the_same_fields():
    assert jax.tree.structure(Homogeneous1(0.0, 1.0)) != jax.tree.structure(Homogeneous2(0.0, 1.0))
    assert jax.tree.structure(Homogeneous1(0.0, 1.0)) == jax.tree.structure(Homogeneous1(2.0, 3.0))


def test_static_fields_are_part_of_the_structure_and_paths_name_the_fields():
    one, other = (
        meanfield.PhaseDiagram(*[0.0] * n_fields(), names=(), activation=a) for a in ("relu", "tanh")
    )
    assert jax.tree.structure(one) != jax.tree.structure(other)
    path, _ = jax.tree_util.tree_leaves_with_path(Homogeneous1(0.0, 1.0))[1]
    assert jax.tree_util.keystr(path) == ".right"


def n_fields():
    fields = dataclasses.fields(meanfield.PhaseDiagram)
    return sum(not f.metadata.get("static") for f in fields)
