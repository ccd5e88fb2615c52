import pytest
import torch

from r1omni.kernels import rows
from r1omni.ops import entropy, linear_logprob, selective_logprob
from r1omni.ops.logprobs import selective_logprob_and_entropy
from r1omni.types import UsageError


@pytest.fixture
def small_chunks(monkeypatch):
    """Two rows a chunk for a vocabulary of 7."""
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 14)


@pytest.fixture
def logits():
    return torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


IDS = torch.arange(15).reshape(3, 5) % 7


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_values_and_gradients(logits, temperature):
    expected = (logits / temperature).log_softmax(-1)
    chosen = expected.gather(-1, IDS[..., None]).squeeze(-1)
    torch.testing.assert_close(selective_logprob(logits, IDS, temperature), chosen)
    torch.testing.assert_close(entropy(logits, temperature), -(expected.exp() * expected).sum(-1))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: selective_logprob(x, IDS, temperature), logits)
    assert torch.autograd.gradcheck(lambda x: entropy(x, temperature), logits)


def test_the_distribution_of_the_model_itself_is_the_default(logits):
    """Temperature 1, for every one of them."""
    chosen, spread = selective_logprob(logits, IDS, 1.0), entropy(logits, 1.0)
    torch.testing.assert_close(selective_logprob(logits, IDS), chosen, rtol=0, atol=0)
    torch.testing.assert_close(entropy(logits), spread, rtol=0, atol=0)
    both = selective_logprob_and_entropy(logits, IDS)
    torch.testing.assert_close(both, (chosen, spread))
    weight = torch.eye(7, dtype=torch.float64)
    torch.testing.assert_close(linear_logprob(logits, weight, IDS), chosen)


def test_extreme_and_impossible_tokens():
    logits = torch.tensor([[1e4, -1e4, float("-inf")], [0.0, 0.0, float("-inf")]])
    logits.requires_grad_()
    values = selective_logprob(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(values, torch.tensor([-2e4, -0.6931472]))
    spread = entropy(logits)
    torch.testing.assert_close(spread, torch.tensor([0.0, 0.6931472]))
    (values.sum() + spread.sum()).backward()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(logits.grad[0], torch.tensor([-1.0, 1.0, 0.0]))


def test_half_precision_is_worked_in_float32(logits):
    half = logits.to(torch.bfloat16).requires_grad_()
    values = selective_logprob(half, IDS)
    assert values.dtype == entropy(half).dtype == torch.float32
    expected = half.detach().float().log_softmax(-1).gather(-1, IDS[..., None]).squeeze(-1)
    torch.testing.assert_close(values, expected)
    values.sum().backward()
    assert half.grad.dtype == torch.bfloat16


def test_empty_rows():
    empty = torch.zeros(0, 4, requires_grad=True)
    values = selective_logprob(empty, torch.zeros(0, dtype=torch.long))
    assert values.shape == entropy(empty).shape == (0,)


def test_bad_input(logits):
    with pytest.raises(UsageError, match="do not fit"):
        selective_logprob(logits, IDS[0])
    with pytest.raises(UsageError, match="temperature is 0"):
        selective_logprob(logits, IDS, 0)
    with pytest.raises(UsageError, match="temperature is -1"):
        entropy(logits, -1)
    with pytest.raises(UsageError, match="token id 7 is outside the vocabulary of 7"):
        selective_logprob(logits, IDS + 1)
    with pytest.raises(UsageError, match="do not fit"):
        linear_logprob(logits, torch.zeros(9, 6), IDS)
