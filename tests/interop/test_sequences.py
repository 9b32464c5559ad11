"""Rows A20, A15: nested lists, tuples and ranges, and single numbers: what is built of them, and where what cannot be is.

What NumPy makes of the same values is the expected answer, where it does not round.
"""

import collections
import decimal
import enum
import fractions
import functools
import random

import numpy as np
import pytest
import torch

import freehold as fh
from producers import refused

pytestmark = pytest.mark.flat


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Level(enum.IntEnum):
    HIGH = 3


class Whole(int):
    """A number of a class of one's own."""


class Rows(list):
    """A list of a class of one's own."""


# -- what is built ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [Point(1, 2), [Point(1, 2), Point(3, 4)], Rows([1, 2]), [Rows([1.5]), (2,)], [Level.HIGH, 2], Whole(4), [Whole(4), 0.5],
     [range(3), range(3, 6)], range(9, 0, -4), [[range(0)]], [[], []], [True, 1.5, 2j], -(2**63), [2**64 - 1], [b"ab", b"cd"]],
)
def test_a20_values_of_any_class(values):
    """A20: subclasses of Python's own types are read as those; bytes are bytes, of which NumPy makes text."""
    expected = np.array([list(part) for part in values], "u1") if values == [b"ab", b"cd"] else np.array(values)
    ours = fh.copy(values, "numpy")
    assert ours.shape == expected.shape and ours.dtype == expected.dtype and ours.tobytes() == expected.tobytes()
    assert fh.copy(values, "torch").tolist() == expected.tolist()


NUMBERS = [True, False, 0, 1, -1, 2**53, -(2**53), 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 0.5, -0.0, 1e300, float("inf"), 2.5j]


def test_a20_mixtures_of_numbers_keep_every_value():
    """A20, A15: the common dtype holds each value exactly, or the first that it would round is named with its place."""
    choose = random.Random(7)
    for _ in range(40):
        values = [[choose.choice(NUMBERS) for _ in range(3)] for _ in range(2)]
        flat = [value for row in values for value in row]
        floats = any(isinstance(value, (float, complex)) for value in flat)
        signs = any(type(value) is int and value > 2**63 - 1 for value in flat) and any(type(value) is int and value < 0 for value in flat)
        rounded = [
            (i, value) for i, value in enumerate(flat) if type(value) is int and (floats or signs) and int(float(value)) != value
        ]
        if rounded and not any(isinstance(value, complex) for value in flat):
            i, value = rounded[0]
            assert f"x[{i // 3}][{i % 3}] = {value} is not exact" in str(refused("CA02", fh.copy, values))
            continue
        if rounded:
            continue
        made = fh.copy(values, "numpy")
        assert made.shape == (2, 3) and made.ravel().tolist() == flat


def test_a20_depth():
    """A20: as deep as a tensor has dimensions, and no deeper, however deep it is."""

    def nest(depth):
        return functools.reduce(lambda inner, _: [inner], range(depth), 1)

    assert fh.copy(nest(64)).shape == (1,) * 64
    for depth in (65, 5000):
        assert "64 levels" in str(refused("DT01", fh.copy, nest(depth)))


# -- where what cannot be is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "code", "where"),
    [
        ([[1, 2], [3]], "DT01", "x[1] has 1 elements where those before it have 2"),
        ([[1, 2], [3, 4], [5, 6, 7]], "DT01", "x[2] has 3 elements"),
        ([[[1, 2], [3, 4]], [[5, 6], [7]]], "DT01", "x[1][1] has 1 elements"),
        ([[1, 2], 3], "DT01", "x[1] is 3, and the elements before it are sequences"),
        ([1, [2]], "DT01", "x[1] is a sequence, and no element before it is"),
        ([[1, 2], ["a", 3]], "DT01", "x[1][0] is 'a', of type str"),
        ([[1, 2], [3, None]], "DT01", "x[1][1] is None"),
        ([{}], "DT01", "x[0] is {}, of type dict"),
        ([[1], [2**64]], "CA02", f"x[1][0] = {2**64} fits neither"),
        (-(2**63) - 1, "CA02", f"x = {-(2**63) - 1} fits neither"),
        ([[0.5, 1.0], [2.0, 2**53 + 1]], "CA02", f"x[1][1] = {2**53 + 1} is not exact"),
        ([-1, 2**64 - 1], "CA02", f"x[1] = {2**64 - 1} is not exact"),
        ([np.zeros(2), 1], "DT01", "x[1] is a number, and the elements before it are not"),
        ([1, np.zeros(2)], "DT01", "x[1] is an array, and the elements before it are not"),
        ([[np.zeros(2)], [np.zeros(3)]], "DT01", "x[1][0] is f64[3] numpy cpu, x[0][0] is f64[2] numpy cpu"),
        ([np.zeros(2), np.zeros(2), np.zeros(2, "f4")], "DT01", "x[2] is f32[2]"),
        ([np.float32(1), "a"], "DT01", "x[1] is 'a', of type str"),
    ],
)
def test_a20_the_place_is_named(values, code, where):
    """A20: the message has the place as Python writes it, and what is there."""
    error = refused(code, fh.copy, values)
    assert where in str(error), str(error)
    assert fh.plan(values, "numpy").codes == (code,)


@pytest.mark.parametrize(
    "values", [["1.5", "2"], [decimal.Decimal("1.5"), 2], [fractions.Fraction(3, 2)], [1, None], [2**70], [0.5, 2**53 + 1], [-1, 2**64 - 1]]
)
def test_a20_the_fix_runs(values):
    """A20: what NumPy can read as numbers is made numbers by the line that the message gives."""
    names = {"x": values}
    code = "CA02" if all(type(value) in (int, float) for value in values) else "DT01"
    exec(refused(code, fh.copy, values).fixes[0], names)
    assert np.array_equal(fh.copy(names["x"], "numpy"), np.array(values, "f8"), equal_nan=True)


class Says(list):
    """A list that has `says` elements by its own word, and gives `gives`."""

    def __init__(self, says, gives):
        super().__init__(range(says))
        self.says, self.gives = says, gives

    def __len__(self):
        return self.says

    def __iter__(self):
        return iter(range(self.gives))


@pytest.mark.parametrize(("says", "gives"), [(300, 1), (3, 0), (3, 4), (0, 2), (1, 1000)])
def test_a_sequence_that_says_another_length_than_it_has(says, gives):
    """The memory is as large as the shape: nobody's memory is read after the end of it."""
    for values in (Says(says, gives), [Says(says, gives)] * 2, [Says(says, says), Says(says, gives)]):
        error = refused("DT01", fh.copy, values)
        assert f"says that it has {says} elements and gives {'more' if gives > says else gives}" in str(error)
    assert fh.copy(Says(3, 3), "numpy").tolist() == [0, 1, 2]


def test_a_list_that_changes_while_it_is_read():
    """What an element is, is asked of its class, and that may be Python code."""

    kept = np.zeros(2)

    class Thief:
        def __getattr__(self, name):
            values.clear()
            return getattr(kept, name)

    values = [Thief(), kept, kept]
    assert "has 3 elements and gives 1" in str(refused("DT01", fh.copy, values)) and not values


def test_a20_a_loop_is_no_box():
    """A20: a list in itself ends with a refusal, and nothing is kept."""
    values = []
    values.append(values)
    refused("DT01", fh.copy, values)
    values.clear()


def test_a20_what_is_no_sequence():
    """A20: what can be a list is told so."""
    for thing in (collections.deque([1, 2]), collections.UserList([1, 2]), {1, 2}, {1: 2}.keys(), map(int, "12")):
        names = {"x": thing}
        exec(refused("OB01", fh.copy, thing).fixes[0], names)
        assert fh.copy(names["x"], "numpy").tolist() in ([1, 2], [1])
    for thing in ("text", {}, object(), None):
        assert "list(x)" not in refused("OB01", fh.copy, thing).fixes[0]


@pytest.mark.parametrize("value", [np.float32(1.5), np.int8(-3), np.bool_(True), np.uint64(2**64 - 1), np.complex64(1j), np.float16(0.1)])
def test_a20_numpys_scalars(value):
    """A20: a scalar of NumPy's keeps its dtype, alone and in lists of its kind."""
    for values in (value, [value, value], ((value,), (value,))):
        ours, theirs = fh.copy(values, "numpy"), np.array(values)
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
    assert fh.copy(value, "torch") == torch.tensor(np.array(value))
