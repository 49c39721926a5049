"""A checker of annotations: ``pytest --jaxtyping-packages=meanfield,annotations.checked`` runs with it.

jaxtyping hands it every function of the package, so that shapes and types are those that are written.
"""

from typing import Any, Self

from beartype import BeartypeConf, BeartypeHintOverrides, beartype

# An integer will do for a number. Methods come without their class, which ``Self`` would stand for.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({Self: Any})))
