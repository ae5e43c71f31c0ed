"""From settings to objects: networks, the diffusion process, sampling plans and data."""

from iddpm.builders.condition_columns import attach_conditions, check_class_left_open, conditions_of
from iddpm.builders.data_facts import (
    default_run_directory,
    form_of,
    open_data,
    resolve,
    values_of,
)
from iddpm.builders.flops import count_flops
from iddpm.builders.guides import Guides, build_gradient, build_weaker, check_guidance, guide
from iddpm.builders.low_resolution import (
    add_low_res,
    build_degradation,
    check_low_res,
    held_out_low_res,
    low_res_size,
    scale_of,
    training_low_res,
)
from iddpm.builders.memory_footprint import Footprint, footprint
from iddpm.builders.network import (
    build_denoiser,
    build_diffusion,
    build_encoder,
    build_network,
    place,
)
from iddpm.builders.paired_inputs import attach_paired_data, check_given, read_given
from iddpm.builders.proposal import Proposal, fit, propose
from iddpm.builders.sampling_plan import (
    SamplingPlan,
    build_sampling_plan,
    build_sampling_schedule,
    requested_sampling,
)
from iddpm.builders.task import Task, task_of
from iddpm.builders.tiling import Tiling, build_sample_tiling, build_tiling
from iddpm.builders.training_parts import (
    build_augmentations,
    build_averages,
    build_loop_settings,
    build_loss,
    build_optimizer,
    build_timesteps,
    check_flip,
    check_sharing,
)

__all__ = [
    "Footprint",
    "Guides",
    "Proposal",
    "SamplingPlan",
    "Task",
    "Tiling",
    "add_low_res",
    "attach_conditions",
    "attach_paired_data",
    "build_augmentations",
    "build_averages",
    "build_degradation",
    "build_denoiser",
    "build_diffusion",
    "build_encoder",
    "build_gradient",
    "build_loop_settings",
    "build_loss",
    "build_network",
    "build_optimizer",
    "build_sample_tiling",
    "build_sampling_plan",
    "build_sampling_schedule",
    "build_tiling",
    "build_timesteps",
    "build_weaker",
    "check_class_left_open",
    "check_flip",
    "check_given",
    "check_guidance",
    "check_low_res",
    "check_sharing",
    "conditions_of",
    "count_flops",
    "default_run_directory",
    "fit",
    "footprint",
    "form_of",
    "guide",
    "held_out_low_res",
    "low_res_size",
    "open_data",
    "place",
    "propose",
    "read_given",
    "requested_sampling",
    "resolve",
    "scale_of",
    "task_of",
    "training_low_res",
    "values_of",
]
