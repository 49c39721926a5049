"""Means with their intervals."""

import numpy as np

LEVEL = 0.95  # of all intervals


def interval_of_mean(samples: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and the ends of its 95% interval (Student's t)."""
    from scipy import stats

    count = samples.shape[axis]
    with np.errstate(invalid="ignore"):
        mean = np.mean(samples, axis=axis)
        half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.std(samples, axis=axis, ddof=1) / count**0.5
        return mean, mean - half, mean + half
