"""Gaussian weights, independent or correlated within a row."""

from dataclasses import dataclass
from typing import ClassVar

from meanfield.priors.base import CorrelatedRows, initializer, register


@register
@dataclass(frozen=True, eq=False)
class NormalPrior(CorrelatedRows):
    r"""Gaussian weights, correlated within a row of N.

    Cov(W_ij, W_ik) = weight_var/N (delta_jk - anticorrelation/N).

    weight_var: sigma_w^2 >= 0, so that a weight has variance weight_var / fan_in.
    bias_var: sigma_b^2 >= 0.
    anticorrelation: kappa <= 1. Zero gives independent weights, 1 rows that sum to
        zero, negative values positively correlated weights. No random vector has
        kappa > 1: its covariance would not be positive.

    Each is a number or an array; they broadcast, and derivatives may be taken with
    respect to all. Raises TypeError or ValueError for what is out of range; values
    seen only inside a trace are reported by ``Status.INVALID`` instead.

    Source: D. Singh, thesis, IISER Pune 2021; Singh & Sreejith, arXiv:2103.12499.
    """

    # The S-transform of W W^T is (1 + m)^s_1 / weight_var (THEORY section 11).
    s_1: ClassVar[int] = -1

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last axis of the kernel counts neurons, the others their inputs. The draw
        is exact and costs O(fan_in) a neuron. The parameters must be scalars.
        """
        return initializer(self.gaussian_kernel, self)
