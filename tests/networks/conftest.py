"""The same weights and inputs for every test of the networks."""

import pytest
import torch


@pytest.fixture(autouse=True)
def a_seed():
    torch.manual_seed(0)
