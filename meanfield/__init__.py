"""Mean-field theory of signal propagation in random neural networks, in JAX.

Names resolve when first used: ``import meanfield`` costs little over ``import jax``. Which there are, and
where they live, says ``__init__.pyi``.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
