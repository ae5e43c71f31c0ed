"""The optimizer of a network."""

from collections.abc import Iterator

import torch
from torch import nn

from iddpm.builders.load_choice import load
from iddpm.config import ResolvedConfig
from iddpm.config.choices import OPTIMIZERS
from iddpm.config.resolved import ResolvedTraining
from iddpm.networks.costs import edge_layers
from iddpm.training.muon import Muon

_CONVOLUTIONS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def build_optimizer(config: ResolvedConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of ``training.optimizer``.

    Distillation takes RAdam (Geng et al. 2024), whose first steps are small without a warm-up.
    """
    training = config.training
    if config.distillation is not None:
        return torch.optim.RAdam(
            network.parameters(),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
            decoupled_weight_decay=True,
        )
    optimizer: torch.optim.Optimizer = load(OPTIMIZERS[training.optimizer].home)(network, training)
    return optimizer


def adamw(network: nn.Module, training: ResolvedTraining) -> torch.optim.Optimizer:
    """Build AdamW, fused: one pass over all weights."""
    return torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )


def muon(network: nn.Module, training: ResolvedTraining) -> torch.optim.Optimizer:
    """Build Muon for the hidden matrices of a network, and AdamW for its other parameters."""
    matrices = dict(hidden_matrices(network))
    return Muon(
        [p for p in network.parameters() if p not in matrices],
        [p for p, transposed in matrices.items() if not transposed],
        [p for p, transposed in matrices.items() if transposed],
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
    )


def hidden_matrices(network: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield the weights that Muon trains, and whether a transposed convolution has them.

    These are the weights of linear layers and convolutions, without those that embed the time and
    conditions, and the first and the last layer, which meet the data
    (:func:`~iddpm.networks.costs.edge_layers`).
    """
    excluded = {id(inner) for layer in edge_layers(network) for inner in layer.modules()}
    seen: set[nn.Parameter] = set()
    for module in network.modules():
        if id(module) in excluded or not isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
            continue
        weight = module.weight
        if isinstance(weight, nn.Parameter) and weight not in seen:
            seen.add(weight)
            yield weight, isinstance(module, _TRANSPOSED)
