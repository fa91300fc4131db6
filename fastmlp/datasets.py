"""Data that ships with the package."""

from importlib import resources

import numpy as np

__all__ = ["load_digits"]


def load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Handwritten digits: 1797 images of 8 x 8 pixels, in a fixed split of 1438 for training and 359 for testing.

    Returns
    -------
    X_train, Y_train, X_test, Y_test : ndarray of float32
        X (samples, 64): the pixels of an image row by row, in [0, 1]. Y (samples, 10): one-hot targets.

    Notes
    -----
    The test part of E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0. Every fifth image is for testing.
    """
    with resources.files("fastmlp").joinpath("data/digits.npz").open("rb") as file, np.load(file) as data:
        images, labels = data["images"], data["labels"]
    X = images.reshape(-1, 64).astype(np.float32) / 16
    Y = one_hot(labels, 10)
    test = np.arange(len(X)) % 5 == 4
    return X[~test], Y[~test], X[test], Y[test]


def one_hot(labels, classes) -> np.ndarray:
    """(samples, classes) of 0, and 1 in the column that each of the whole-number `labels` names."""
    targets = np.zeros((len(labels), classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1
    return targets
