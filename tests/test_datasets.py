"""`datasets`: the digits are the data that the note beside them describes, in a split that never changes."""

import re
from importlib import resources

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import load_digits

FOLDER = resources.files("fastmlp") / "data"


@pytest.fixture(scope="module")
def raw():
    with (FOLDER / "digits.npz").open("rb") as file, np.load(file) as data:
        return data["images"], data["labels"]


def test_shapes_and_dtypes_are_those_documented():
    train, test = map(int, re.search(r"(\d+) for training and (\d+) for testing", load_digits.__doc__).groups())
    arrays = load_digits()
    assert [array.shape for array in arrays] == [(train, 64), (train, 10), (test, 64), (test, 10)]
    assert train + test == 1797
    for array in arrays:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_pixels_are_sixteenths_from_0_to_1():
    for X in load_digits()[::2]:
        assert set(np.unique(X * 16)) == set(range(17))


def test_targets_are_one_hot():
    for Y in load_digits()[1::2]:
        assert set(np.unique(Y)) == {0, 1}
        assert (Y.sum(1) == 1).all()


def test_every_fifth_image_is_for_testing(raw):
    """So results of different versions and machines can be compared."""
    images, labels = raw
    X_train, Y_train, X_test, Y_test = load_digits()
    np.testing.assert_array_equal(X_test * 16, images[4::5].reshape(-1, 64))
    np.testing.assert_array_equal(Y_test.argmax(1), labels[4::5])
    X, Y = np.empty((1797, 64)), np.empty((1797, 10))
    for all_of_it, train, test in ((X, X_train, X_test), (Y, Y_train, Y_test)):
        all_of_it[4::5] = test
        all_of_it[np.arange(1797) % 5 < 4] = train
    np.testing.assert_array_equal(X.reshape(-1, 8, 8) * 16, images)
    np.testing.assert_array_equal(Y.argmax(1), labels)


def test_the_images_are_those_of_the_repository(raw):
    """The first is the 0 that scikit-learn's documentation shows; how often each digit occurs is its table."""
    images, labels = raw
    np.testing.assert_array_equal(images[0][:2], [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]])
    assert labels[:10].tolist() == list(range(10))
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.sum() == 561718


def test_each_call_gives_arrays_of_its_own():
    first, second = load_digits(), load_digits()
    for mine, others in zip(first, second, strict=True):
        assert mine.flags.writeable
        expected = others.copy()
        mine[:] = 7
        np.testing.assert_array_equal(others, expected)
    np.testing.assert_array_equal(load_digits()[0], second[0])


def test_source_and_licence_lie_beside_the_data(raw):
    """The licence asks for the attribution, wherever the data go."""
    images, labels = raw
    note = (FOLDER / "digits.txt").read_text()
    for part in (
        *("Alpaydin", "Kaynak", "UCI Machine Learning Repository", "https://doi.org/10.24432/C50P49"),
        *("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "Changes"),
        *(str(images.shape), f"({len(labels)},)"),
    ):
        assert part in note
    assert images.dtype == labels.dtype == np.uint8
    assert re.search(r"10\.24432/C50P49.*CC BY 4\.0", re.sub(r"\s+", " ", load_digits.__doc__))


def test_public_names():
    assert datasets.__all__ == ["load_digits"]


@pytest.mark.parametrize("labels", [[2, 0, 2], np.array([2, 0, 2], np.uint8)], ids=str)
def test_one_hot(labels):
    targets = datasets.one_hot(labels, 3)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
