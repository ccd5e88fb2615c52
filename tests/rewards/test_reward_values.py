"""What a reward function may return: every kind of number and of container, and none besides."""

import math

import numpy as np
import pytest
import torch

from r1omni.rewards import RewardSpec, score
from r1omni.types import R1OmniError

HERE = __name__
RETURNED = {}

NUMPY_NUMBERS = [code for code in np.typecodes["All"] if np.dtype(code).kind in "biuf"]
NUMPY_OTHERS = [code for code in np.typecodes["All"] if np.dtype(code).kind in "cSUVMm"]
TORCH_DTYPES = sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype)}, key=str)


def returns(completions, labels, **columns):
    return RETURNED["value"]


async def returns_later(completions, labels, **columns):
    return RETURNED["value"]


def rewards(value, function="returns"):
    """The rewards of two completions, "ab" of sample x and "cd" of sample y."""
    RETURNED["value"] = value
    columns = {"sample_ids": ["x", "y"]}
    found = score([RewardSpec(f"{HERE}:{function}")], ["ab", "cd"], [None] * 2, **columns)
    assert found.dtype == torch.float32 and not found.requires_grad
    return found[:, 0].tolist()


def refusal(value, function="returns"):
    """The message, one line that names the reward."""
    with pytest.raises(R1OmniError) as caught:
        rewards(value, function)
    message = str(caught.value)
    assert f"'{HERE}:{function}'" in message and "\n" not in message
    assert len(message) < 400
    return message


def test_there_are_all_kinds():
    assert set(map(np.dtype, NUMPY_NUMBERS + NUMPY_OTHERS)) >= {
        np.dtype(kind) for kind in np.sctypeDict.values() if np.dtype(kind) != object
    }
    assert len(TORCH_DTYPES) > 20


@pytest.mark.parametrize("code", NUMPY_NUMBERS)
def test_numbers_of_numpy(code):
    array = np.array([0, 1], dtype=code)
    for value in (array, list(array), tuple(array), [np.array(v, dtype=code) for v in array]):
        assert rewards(value) == [0, 1]


@pytest.mark.parametrize("code", NUMPY_OTHERS)
def test_what_is_no_number_of_numpy(code):
    array = np.zeros(2, dtype=code + {"M": "8[s]", "m": "8[s]"}.get(code, "1" * (code in "SUV")))
    for value in (array, [1.0, array[1]], [1.0, array[1:].reshape(())]):
        message = refusal(value)
        assert "completion 0 of sample 'x'" in message or "completion 1 of sample 'y'" in message


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_tensors_of_every_dtype(dtype):
    try:
        tensor = torch.tensor([1, 1]).to(dtype)
        numbers = [float(v) for v in tensor]
    except (RuntimeError, TypeError):  # torch itself reads no number from this dtype
        try:
            tensor = torch.empty(2, dtype=dtype)
            list(tensor)
        except RuntimeError:
            tensor = None  # and makes none
        numbers = None
    if numbers is not None and not dtype.is_complex:
        assert rewards(tensor) == numbers
        assert rewards([None, tensor[1]])[1] == numbers[1]
        assert rewards([None, torch.tensor(1.0, requires_grad=True)])[1] == 1
    elif tensor is not None:
        assert "for completion 0 of sample 'x', 'ab'" in refusal(tensor)
    meta = torch.empty(2, dtype=torch.float32, device="meta")
    assert "returned" in refusal(meta)


@pytest.mark.parametrize("function", ["returns", "returns_later"])
def test_none_may_stand_among_numbers(function):
    for value in ([None, 2], (None, np.float32(2)), np.array([None, 2.0], dtype=object)):
        first, second = rewards(value, function)
        assert math.isnan(first) and second == 2


def test_the_largest_number_of_float32_is_taken():
    largest = torch.finfo(torch.float32).max
    assert rewards([largest, -largest]) == [largest, -largest]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39])
def test_what_is_not_finite_is_named(bad):
    values = {
        "number": [0.0, bad],
        "numpy number": [0.0, np.float64(bad)],
        "array": np.array([0.0, bad]),
        "array in a list": [0.0, np.array(bad)],
        "tensor": torch.tensor([0.0, bad], dtype=torch.float64),
        "tensor in a list": [0.0, torch.tensor(bad, dtype=torch.float64)],
    }
    for kind, value in values.items():
        message = refusal(value)
        assert f"{bad}" in message, kind
        assert "for completion 1 of sample 'y', 'cd'" in message, kind


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1.0], "1 values for 2 completions"),
        (np.zeros(3), "3 values for 2 completions"),
        (torch.zeros(3), "3 values for 2 completions"),
        (np.zeros((2, 1)), "ndarray of shape (2, 1)"),
        (np.float32(1), "np.float32(1.0)"),
        (torch.zeros(2, 1), "Tensor of shape (2, 1)"),
        (torch.tensor(1.0), "1.0"),
        (None, "None"),
        (1.0, "1.0"),
        ("ab", "'ab'"),
        (b"ab", "b'ab'"),
        ({0: 1.0, 1: 0.0}, "{0: 1.0, 1: 0.0}"),
        ({1.0, 0.0}, "{0.0, 1.0}"),
        ((v for v in (1.0, 0.0)), "<generator"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_list_of_one_value_each(value, shown):
    message = refusal(value)
    assert f"returned {shown}" in message
    assert "expected a list, tuple, array or tensor" in message


@pytest.mark.parametrize(
    "value", ["1.0", b"1", 1j, [1.0], {}, np.zeros(1), torch.zeros(1), object, 10**400, "a\nb"]
)
def test_a_member_that_is_no_number_is_named(value):
    assert "for completion 1 of sample 'y', 'cd'" in refusal([0.0, value])
