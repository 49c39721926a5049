"""MNIST-1D, generated: ten digit-like curves, moved, scaled, sheared and hidden in noise.

Source: S. Greydanus, "Scaling down deep learning", arXiv:2011.14439: the templates and
the constants are the paper's; random numbers are our own, so images differ from the
published file's one by one, not in law.
"""

import numpy as np

# Height of the pen, by digit, at twelve equal steps of time.
_TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
LENGTH = 40  # of a sample
_PADDING = (36, 60)
_LONG = len(_TEMPLATES[0]) + _PADDING[1]
_LARGEST_SHIFT = 48
_SCALE, _SHEAR = 0.4, 0.75
_CORRELATED_NOISE, _NOISE = 0.25, 0.02
_SMOOTHING = 2.0  # in samples, of the correlated noise


def mnist1d(samples: int = 5000, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """``samples`` curves of 40 values, float32, zero mean and unit variance, and their digits.

    As many of each digit (up to rounding), in random order.
    """
    random = np.random.default_rng(seed)
    digits = random.permutation(np.arange(samples) % 10)
    curves = np.stack([_sample(random, template) for template in _drawn_templates()[digits]])
    return ((curves - curves.mean()) / curves.std()).astype(np.float32), digits.astype(np.int32)


def _drawn_templates() -> np.ndarray:
    heights = np.array(_TEMPLATES, float)
    heights -= heights.mean(axis=1, keepdims=True)
    heights /= heights.std(axis=1, keepdims=True)
    return (heights - heights[:, :1]) / 6


def _sample(random, template) -> np.ndarray:
    blank = random.integers(_PADDING[0], _PADDING[1] + 1)
    drawn = np.concatenate([np.ones(len(template), bool), np.zeros(blank, bool)])
    curve = _stretched(np.concatenate([template, np.zeros(blank)]), _LONG)
    drawn = _stretched(drawn.astype(float), _LONG) > 0
    curve *= 1 + _SCALE * (random.random() - 0.5)
    shift = random.integers(_LARGEST_SHIFT)
    curve, drawn = np.roll(curve, shift), np.roll(drawn, shift)
    curve = np.where(drawn, curve, _smooth(_CORRELATED_NOISE * random.standard_normal(_LONG)))
    curve += _NOISE * random.standard_normal(_LONG)
    curve -= _SHEAR * (random.random() - 0.5) * np.linspace(-0.5, 0.5, _LONG)
    return _stretched(curve, LENGTH)


def _stretched(values: np.ndarray, count: int) -> np.ndarray:
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(values)), values)


def _smooth(values: np.ndarray) -> np.ndarray:
    reach = int(4 * _SMOOTHING)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTHING) ** 2)
    return np.convolve(np.pad(values, reach, mode="symmetric"), weights / weights.sum(), mode="valid")
