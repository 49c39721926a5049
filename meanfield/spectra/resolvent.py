r"""The curve on which free probability makes the spectrum of a deep Jacobian real.

With S-transforms S(m) of d^2 and of W W^T, the squared singular values x of L layers obey
x = (1 + m)/m [S_D(m) S_W(m)]^-L, where m = E lambda/(x - lambda) has an imaginary part
-+ pi times their density per unit of log x. Instead of m the unknown here is the point y at
which m = psi(y) = E y d^2/(1 - y d^2): no function is then inverted, and with

    v = E 1/(1 - y d^2) = 1 + m,    u = E d^2/(1 - y d^2) = m/y,    e = -s_1

(e = 1 for Gaussian and 0 for orthogonal weights)

    log x = (L - 1) log(u/v) + e L log v - log y + L log sigma_w^2.

With k = 1/(1 - y d^2) all that spreads the spectrum comes as variances (Lagrange's identity), of
which nothing cancels: Im(u v*) = r sin(theta) [E|k|^2 E d^4|k|^2 - (E d^2|k|^2)^2], y = r exp(i theta).

On a ray y = exp(s + i theta) the imaginary part of this divided by theta falls strictly from
theta = 0 to pi, where it is -1: u/v and v are exponentials of functions
with a positive spectral measure on t > 0, and r sin(theta)/theta / |t - y|^2 falls. So every s
has exactly one theta in [0, pi) at which x is real, whatever phi, L and e: a scalar
root with a bracket, no branch to be chosen. theta = 0 lies outside the spectrum; x falls as
s grows. At large L theta comes within pi/L of pi: tan(theta/2) is the variable, in which
neither end loses digits.

The probability of squared singular values above x is then a formula,

    pi P = arg v + L [B - (1 - e) arg v - e Im m],    B = -E arg(1 - y d^2).

Sources: THEORY section 11; Pennington, Schoenholz & Ganguli, arXiv:1802.09979; Belinschi &
Bercovici, Math. Z. 248 (2004); the parametrisation by y and the survival function are derived here.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from meanfield.pytrees import register_dataclass
from meanfield.spectra.slopes import SlopeLaw

_STEPS = 80


@register_dataclass
@dataclass(frozen=True, eq=False)
class Product:
    """What a product of independent layers is made of; scalars beside the law.

    depth: L, a real number of at least 1. exponent: e above.
    """

    slopes: SlopeLaw
    depth: Array
    exponent: Array

    @property
    def longest(self) -> float:
        """The largest s that squares of exp(s) do not overflow at."""
        return 300.0 if jnp.finfo(self.slopes.square.dtype).bits >= 64 else 40.0

    # --- on the real axis -------------------------------------------------------

    def real_slope(self, s, past_atom=False):
        """lim (imaginary part of log x)/theta as theta -> 0, at real y = exp(s) outside the spectrum.

        past_atom: s is looked for between a pole of v and its zero, beyond which this returns 1.
        """
        law = self.slopes
        gap = _gap(law.square, s)
        k = 1 / jnp.where(gap == 0, jnp.finfo(gap.dtype).tiny ** 0.25, gap)
        v, u = jnp.sum(law.weight * k), jnp.sum(law.weight * law.square * k)
        weight = law.weight * k**2
        total, mean, variance = _moments(weight, law.square)
        slope = (self.depth - 1) * total * variance * (total / u) / v
        slope = jnp.exp(s) * (slope + self.exponent * self.depth * total * mean / v) - 1
        return jnp.where(past_atom & (v >= 0), 1.0, slope)

    def real_log(self, s):
        """log x at real y = exp(s) outside the spectrum, less L log(sigma_w^2 largest d^2)."""
        law = self.slopes
        k = 1 / _gap(law.square, s)
        v = jnp.sum(law.weight * k)
        ratio = jnp.sum(law.weight * law.square * k) / v
        log_v = jnp.log(jnp.abs(v))
        return (self.depth - 1) * jnp.log(jnp.abs(ratio)) + self.exponent * self.depth * log_v - s

    # --- on the curve -----------------------------------------------------------

    def half_angle(self, s):
        """log tan(theta/2) of the point on the curve at each s, shape (points,).

        Differentiable by the implicit function theorem.
        """
        lowest, highest = -30.0, 30.0

        def gap(w):
            return self.at(s, w).log_excess

        def solve(gap, start):
            def step(state):
                w, low, high, _, count = state
                value, slope = jax.jvp(gap, (w,), (jnp.ones_like(w),))
                low, high = jnp.where(value > 0, w, low), jnp.where(value > 0, high, w)
                new = w - value / jnp.where(slope == 0, -1.0, slope)
                # Every third step halves the bracket, whatever Newton's method would do.
                newton = (new > low) & (new < high) & (count % 3 < 2)
                new = jnp.where(newton, new, (low + high) / 2)
                # Where theta -> 0 the gap has no slope left; the bracket decides.
                done = jnp.abs(value) <= 4 * jnp.finfo(w.dtype).eps
                return jnp.where(done, w, new), low, high, jnp.where(done, 0.0, jnp.abs(new - w)), count + 1

            def unfinished(state):
                tolerance = 8 * jnp.finfo(start.dtype).eps * jnp.maximum(1, jnp.abs(state[0]))
                return jnp.any(state[3] > tolerance) & (state[4] < _STEPS)

            state = (start, jnp.full_like(start, lowest), jnp.full_like(start, highest))
            return jax.lax.while_loop(unfinished, step, (*state, jnp.full_like(start, jnp.inf), 0))[0]

        start = jnp.zeros_like(s)
        return jax.lax.custom_root(gap, start, solve, lambda g, y: y / _nonzero(g(jnp.ones_like(y))))

    def at(self, s, w) -> "CurvePoint":
        """The sums over the law at y = exp(s + i theta), w = log tan(theta/2); shape (points,)."""
        return CurvePoint(self, s, w)


class CurvePoint:
    """u, v and what follows from them at points y; everything of shape (points,)."""

    def __init__(self, product: Product, s, w):
        law = product.slopes
        self.product, self.s = product, s
        tangent = jnp.exp(w)
        self.theta = 2 * jnp.arctan(tangent)
        self.sine = 2 * tangent / (1 + tangent**2)
        self.half_sine_square = tangent**2 / (1 + tangent**2)
        self.a = jnp.exp(s)[:, None] * law.square
        gap = _gap(law.square, s[:, None])
        # 1 - y d^2 = real - i imaginary, without cancellation wherever y lies.
        self.real = gap + 2 * self.a * self.half_sine_square[:, None]
        self.imaginary = self.a * self.sine[:, None]
        size = gap**2 + 4 * self.a * self.half_sine_square[:, None]
        size = jnp.where(size == 0, 1.0, size)
        self.k = self.real / size, self.imaginary / size
        self.u, self.v = (tuple(part @ w for part in self.k) for w in (law.weight * law.square, law.weight))
        self.v_square = self.v[0] ** 2 + self.v[1] ** 2
        # Im(u v*) = r sin(theta) (N_0 N_2 - N_1^2), N_k = E d^2k/|1 - y d^2|^2: a variance.
        total, self.centre, variance = _moments(law.weight / size, law.square)
        imaginary = jnp.exp(s) * self.sine * total * variance * (total / self.v_square)
        self.ratio = (self.u[0] * self.v[0] + self.u[1] * self.v[1]) / self.v_square, imaginary

    @property
    def log_excess(self):
        """log of [(L - 1) arg(u/v) + e L arg v]/theta: zero on the curve, falling in theta."""
        p = self.product
        turned = (p.depth - 1) * jnp.arctan2(self.ratio[1], self.ratio[0]) + p.exponent * p.depth * self.arg_v
        tiny = jnp.finfo(self.theta.dtype).tiny
        return jnp.log(jnp.maximum(turned, tiny) / self.theta)

    @property
    def arg_v(self):
        return jnp.arctan2(self.v[1], self.v[0])

    @property
    def log_x(self):
        """log of the squared singular value, less L log(sigma_w^2 largest d^2)."""
        p = self.product
        log_ratio = jnp.log(self.ratio[0] ** 2 + self.ratio[1] ** 2) / 2
        return (p.depth - 1) * log_ratio + p.exponent * p.depth * jnp.log(self.v_square) / 2 - self.s

    @property
    def density(self):
        """Probability per unit of log x."""
        return self.v[1] / jnp.pi

    @property
    def survival(self):
        """Probability of larger values."""
        p = self.product
        turn = jnp.arctan2(self.imaginary, self.real) @ p.slopes.weight
        lost = (1 - p.exponent) * self.arg_v + p.exponent * self.v[1]
        return (self.arg_v + p.depth * (turn - lost)) / jnp.pi

    @property
    def stretch(self):
        """-d log x / ds along the curve."""
        p, law = self.product, self.product.slopes
        k = self.k[0] + 1j * self.k[1]
        v, u = self.v[0] + 1j * self.v[1], self.u[0] + 1j * self.u[1]
        weight = law.weight * k**2
        off = law.square - self.centre[:, None]
        m0, m1, m2 = (jnp.sum(weight * off**n, axis=-1) for n in (0, 1, 2))
        y = jnp.exp(self.s) * (1 - 2 * self.half_sine_square + 1j * self.sine)
        slope = (p.depth - 1) * (m0 / v * m2 - m1 / v * m1) / u
        slope = y * (slope + p.exponent * p.depth * (m1 + self.centre * m0) / v) - 1
        # log x stays real: d theta = -Im/Re ds.
        return -(slope.real**2 + slope.imag**2) / _nonzero(slope.real)


def _moments(weight, value):
    """Sum of the weights, mean and variance of the values under them, over the last axis."""
    total = jnp.sum(weight, axis=-1)
    mean = jnp.sum(weight * value, axis=-1) / total
    return total, mean, jnp.sum(weight * (value - mean[..., None]) ** 2, axis=-1) / total


def _gap(square, s):
    """1 - exp(s) square, exact where both factors are near 1."""
    return (1 - square) - square * jnp.expm1(s)


def _nonzero(x):
    return jnp.where(x == 0, 1.0, x)
