"""Validated settings, one file per section; no torch here."""

from iddpm.config.condition_config import ConditionConfig as ConditionConfig
from iddpm.config.data import DataConfig as DataConfig
from iddpm.config.degradation import DegradationConfig as DegradationConfig
from iddpm.config.diffusion import DiffusionConfig as DiffusionConfig
from iddpm.config.diffusion import HybridLoss as HybridLoss
from iddpm.config.diffusion import OwnLoss as OwnLoss
from iddpm.config.diffusion import SimpleLoss as SimpleLoss
from iddpm.config.diffusion import VLBLoss as VLBLoss
from iddpm.config.model import ModelConfig as ModelConfig
from iddpm.config.resolved import OwnModel as OwnModel
from iddpm.config.resolved import ResolvedConfig as ResolvedConfig
from iddpm.config.resolved import UNetModel as UNetModel
from iddpm.config.resolved import settle as settle
from iddpm.config.sampling import SamplingConfig as SamplingConfig
from iddpm.config.settings import Config as Config
from iddpm.config.settings import read_config as read_config
from iddpm.config.settings import read_yaml as read_yaml
from iddpm.config.settings import to_yaml as to_yaml
from iddpm.config.settings import validate as validate
from iddpm.config.settings import validate_sampling as validate_sampling
from iddpm.config.training import TrainingConfig as TrainingConfig
