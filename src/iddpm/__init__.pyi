"""The public names and where they live; ``__init__.py`` imports each when it is first used."""

from .data.writers.image_files import (
    save_gif as save_gif,
    save_grid as save_grid,
    save_images as save_images,
    save_npz as save_npz,
)
from .diffusion import (
    AnalyticVariance as AnalyticVariance,
    BitsPerDim as BitsPerDim,
    Denoise as Denoise,
    Denoiser as Denoiser,
    Gaussian as Gaussian,
    GaussianDiffusion as GaussianDiffusion,
    Level as Level,
    NoiseSchedule as NoiseSchedule,
    Prediction as Prediction,
    bits_per_dim as bits_per_dim,
    cosine as cosine,
    linear as linear,
    log_snr as log_snr,
    losses as losses,
    zero_terminal_snr as zero_terminal_snr,
)
from .diffusion.losses import LossTerms as LossTerms, hybrid as hybrid, simple as simple, vlb as vlb
from .diffusion.weighting import min_snr as min_snr, sigmoid as sigmoid
from .evaluation.distances import (
    FrechetStats as FrechetStats,
    frechet_distance as frechet_distance,
    frechet_estimate as frechet_estimate,
    kernel_distance as kernel_distance,
)
from .evaluation.features import (
    Extractor as Extractor,
    onnx_file as onnx_file,
    pixel_pca as pixel_pca,
)
from .evaluation.fidelity import psnr as psnr
from .evaluation.measures import class_accuracy as class_accuracy, measure as measure
from .evaluation.precision_recall import manifold as manifold
from .evaluation.similarity import ssim as ssim
from .networks import (
    EncoderUNet as EncoderUNet,
    LevelHead as LevelHead,
    SuperResUNet as SuperResUNet,
    UNet as UNet,
)
from .runs.run import Run as Run, load as load
from .sampling import (
    Consistency as Consistency,
    DDIM as DDIM,
    DDPM as DDPM,
    IPNDM as IPNDM,
    DPMSolverPP as DPMSolverPP,
    Heun as Heun,
    SampleNoise as SampleNoise,
    Sampler as Sampler,
    UniPC as UniPC,
    autoguided as autoguided,
    classifier_free as classifier_free,
    classifier_gradient as classifier_gradient,
    classifier_guided as classifier_guided,
    clip_x0 as clip_x0,
    even_timesteps as even_timesteps,
    inpaint as inpaint,
    inversion as inversion,
    invert as invert,
    karras_timesteps as karras_timesteps,
    keep_known as keep_known,
    log_snr_timesteps as log_snr_timesteps,
    redraw as redraw,
    sample as sample,
    slerp as slerp,
    space_timesteps as space_timesteps,
    threshold_x0 as threshold_x0,
    tiled as tiled,
    trajectory as trajectory,
)
from .sampling.operators import (
    Downscale as Downscale,
    Mask as Mask,
    Operator as Operator,
    Subsample as Subsample,
)
from .sampling.restoration import ddnm as ddnm, mmps as mmps, pigdm as pigdm
from .sampling.spectral_operators import (
    Convolution as Convolution,
    Matrix as Matrix,
    gaussian_kernel as gaussian_kernel,
)
from .tasks.distill import distill as distill
from .tasks.evaluate import evaluate as evaluate
from .tasks.likelihood import likelihood as likelihood
from .tasks.train import train as train
from .tasks.tune import TuneRequest as TuneRequest, tune as tune
from .training.checkpoints.state import TrainState as TrainState
from .training.ema import EMA as EMA
from .training.loop import train_loop as train_loop
from .training.loop_settings import LoopSettings as LoopSettings
from .training.power import PowerEMA as PowerEMA
from .training.precision import Precision as Precision
from .training.step import TrainStep as TrainStep
from .training.timesteps import (
    LossSecondMomentTimesteps as LossSecondMomentTimesteps,
    LowDiscrepancyTimesteps as LowDiscrepancyTimesteps,
    UniformTimesteps as UniformTimesteps,
)

__version__: str
