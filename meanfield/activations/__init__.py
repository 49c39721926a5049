"""Activations: by name, as families, from any callable."""

from meanfield.activations.names import (
    FAMILIES as FAMILIES,
)
from meanfield.activations.names import (
    FIXED as FIXED,
)
from meanfield.activations.names import (
    NAMES as NAMES,
)
from meanfield.activations.names import (
    abs as abs,
)
from meanfield.activations.names import (
    arctan as arctan,
)
from meanfield.activations.names import (
    as_activation as as_activation,
)
from meanfield.activations.names import (
    celu as celu,
)
from meanfield.activations.names import (
    cos as cos,
)
from meanfield.activations.names import (
    elu as elu,
)
from meanfield.activations.names import (
    erf as erf,
)
from meanfield.activations.names import (
    gelu as gelu,
)
from meanfield.activations.names import (
    gelu_tanh as gelu_tanh,
)
from meanfield.activations.names import (
    hard_swish as hard_swish,
)
from meanfield.activations.names import (
    hard_tanh as hard_tanh,
)
from meanfield.activations.names import (
    leaky_relu as leaky_relu,
)
from meanfield.activations.names import (
    linear as linear,
)
from meanfield.activations.names import (
    log_sigmoid as log_sigmoid,
)
from meanfield.activations.names import (
    mish as mish,
)
from meanfield.activations.names import (
    polynomial as polynomial,
)
from meanfield.activations.names import (
    relu as relu,
)
from meanfield.activations.names import (
    relu6 as relu6,
)
from meanfield.activations.names import (
    selu as selu,
)
from meanfield.activations.names import (
    sigmoid as sigmoid,
)
from meanfield.activations.names import (
    silu as silu,
)
from meanfield.activations.names import (
    sin as sin,
)
from meanfield.activations.names import (
    snake as snake,
)
from meanfield.activations.names import (
    softplus as softplus,
)
from meanfield.activations.names import (
    softsign as softsign,
)
from meanfield.activations.names import (
    squared_relu as squared_relu,
)
from meanfield.activations.names import (
    squareplus as squareplus,
)
from meanfield.activations.names import (
    tanh as tanh,
)
