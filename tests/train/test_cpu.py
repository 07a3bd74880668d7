"""The quicker steps on a CPU: dropout with the right share and scale, reproducible, and everything put back."""

from __future__ import annotations

import pytest
import torch
import toy
from torch import nn

from warmstart.train.cpu import dropout, quick_steps

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(200, 1001, dtype=dtype)
    out = dropout(values, p)
    kept = out != 0
    assert out.dtype == dtype
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.004)
    assert torch.allclose(out[kept].float(), torch.tensor(1 / (1 - p)), rtol=1e-2 if dtype == torch.bfloat16 else 1e-3)
    assert kept.float().mean(0).std().item() == pytest.approx((p * (1 - p) / 200) ** 0.5, rel=0.1)  # columns unalike


def test_gradient_passes_where_values_do() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 7, requires_grad=True)
    out = dropout(values, 0.3)
    out.sum().backward()
    assert torch.allclose(values.grad, torch.where(out != 0, 1 / 0.7, 0.0), rtol=1e-3)


def test_the_random_state_decides() -> None:
    values = torch.ones(64, 64)
    state = torch.get_rng_state()
    first, second = dropout(values, 0.5), dropout(values, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(first, dropout(values, 0.5))
    assert torch.equal(second, dropout(values, 0.5))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_are_torchs(p: float) -> None:
    assert torch.equal(dropout(torch.ones(5), p), torch.full((5,), 1 - p))
    assert torch.equal(dropout(torch.ones(5), 0.5, training=False), torch.ones(5))
    assert dropout(torch.ones(0, 3), 0.5).shape == (0, 3)
    with pytest.raises(ValueError, match="dropout probability"):
        dropout(torch.ones(5), 1.5)


@pytest.mark.parametrize("name", ["bert", "vit", "llama", "efficientnet_lite"])
def test_everything_is_put_back_and_outputs_are_the_same(name: str) -> None:
    task = toy.task(name, 6, 6)
    model = task.classifier().eval()
    batch = task.train.batch(range(6))
    before, own = model(**batch).logits, nn.functional.dropout
    implementation = model.backbone.config._attn_implementation
    with quick_steps(model, CPU):
        assert nn.functional.dropout is dropout
        assert torch.allclose(model(**batch).logits, before, atol=1e-5)
    assert nn.functional.dropout is own
    assert model.backbone.config._attn_implementation == implementation
    assert torch.equal(model(**batch).logits, before)
