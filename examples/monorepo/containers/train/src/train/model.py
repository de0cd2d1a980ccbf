"""Ridge regression by gradient descent."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Model:
    """Weights, the last one of which is the intercept."""

    weights: Array

    def predict(self, features: Array) -> Array:
        return features @ self.weights[:-1] + self.weights[-1]


def sample(rows: int, seed: int) -> tuple[Array, Array]:
    """Made-up customers whose spending is known but for some noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 3))
    return features, features @ np.array([3.0, -1.5, 0.5]) + 10.0 + rng.normal(scale=0.1, size=rows)


def fit(features: Array, target: Array, epochs: int, rate: float = 0.1, ridge: float = 1e-4) -> Model:
    """Descends for `epochs` steps."""
    with_one = np.hstack([features, np.ones((len(features), 1))])
    weights = np.zeros(with_one.shape[1])
    for _ in range(epochs):
        gradient = with_one.T @ (with_one @ weights - target) / len(target) + ridge * weights
        weights -= rate * gradient
    return Model(weights)
