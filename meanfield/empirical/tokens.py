"""What a transformer's blocks do to tokens, tangents and gradients, layer by layer (THEORY of layers, 7)."""

import jax.numpy as jnp

from meanfield.layers.attention import Tokens, Transformer


def theory_of_tokens(block: Transformer, depth: int, c0, q0=1.0) -> dict:
    """q, one_minus_c, growth and gradient of ``depth`` blocks, as ``LayerStatistics`` has them.

    Tangents and gradients start with tokens that have nothing to do with one another.
    """
    states, matrices = [Tokens(jnp.asarray(float(q0)), q0 * (1 - jnp.asarray(float(c0))))], []
    for _ in range(depth):
        matrices.append(step_of_tangents(block, states[-1]))
        states.append(block.block(states[-1]))
    tangent = [jnp.array([1.0, 0.0])]
    for matrix in matrices:
        tangent.append(matrix @ tangent[-1])
    sizes = jnp.array([x[0] for x in tangent])
    gradient = [jnp.array([1.0, 0.0])]
    # A sum over pairs holds n - 1 of the second number for every one of the first.
    pairs = jnp.array([1.0, block.tokens - 1.0])
    for matrix in reversed(matrices):
        gradient.insert(0, (matrix.T @ (pairs * gradient[0])) / pairs)
    return dict(
        q=jnp.array([s.q for s in states]),
        one_minus_c=jnp.array([s.delta / s.q for s in states]),
        growth=jnp.append(1.0, sizes[1:] / sizes[:-1]),
        gradient=jnp.array([x[0] for x in gradient]),
    )


def step_of_tangents(block: Transformer, state: Tokens):
    """The 2 x 2 matrix by which a block multiplies (d0, d1) of tokens in a state."""
    (a, b), (c, d) = ((x**2, y**2) for x, y in (block.attention, block.feedforward))
    unit = jnp.eye(2)
    heads, _ = block.tangents(state.delta / state.q)
    between = block.mixed(state)
    mlp = block.tangents_of_mlp(between.delta / between.q)
    if block.norm == "pre":
        return (c * unit + d * mlp / between.q) @ (a * unit + b * heads / state.q)
    raw = a * state.q + b * block.attended(state.delta / state.q).q
    one = jnp.ones_like(state.q)
    behind = c + d * block.mlp.variance_map(one)
    return (c * unit + d * mlp) / behind @ (a * unit + b * heads) / raw
