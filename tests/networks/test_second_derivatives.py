"""Second derivatives, as docs/networks.md says to take them."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from iddpm.networks.blocks import AttentionBlock


@pytest.mark.parametrize("shape", [(2, 32, 9), (1, 32, 4, 3)])
def test_attention_has_second_derivatives_under_the_math_kernel(shape):
    torch.manual_seed(0)
    block = AttentionBlock(32, num_heads=2).double()
    torch.nn.init.normal_(block.proj_out.weight)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(block, x, fast_mode=True)
