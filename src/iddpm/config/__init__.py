"""Validated settings, one file per section; no torch here."""

from iddpm.config.condition_config import ConditionConfig
from iddpm.config.data import DataConfig
from iddpm.config.degradation import DegradationConfig
from iddpm.config.diffusion import DiffusionConfig, HybridLoss, OwnLoss, SimpleLoss, VLBLoss
from iddpm.config.model import ModelConfig
from iddpm.config.resolved import OwnModel, ResolvedConfig, UNetModel, settle
from iddpm.config.sampling import SamplingConfig
from iddpm.config.settings import (
    Config,
    read_config,
    read_yaml,
    to_yaml,
    validate,
    validate_sampling,
)
from iddpm.config.training import TrainingConfig

__all__ = [
    "ConditionConfig",
    "Config",
    "DataConfig",
    "DegradationConfig",
    "DiffusionConfig",
    "HybridLoss",
    "ModelConfig",
    "OwnLoss",
    "OwnModel",
    "ResolvedConfig",
    "SamplingConfig",
    "SimpleLoss",
    "TrainingConfig",
    "UNetModel",
    "VLBLoss",
    "read_config",
    "read_yaml",
    "settle",
    "to_yaml",
    "validate",
    "validate_sampling",
]
