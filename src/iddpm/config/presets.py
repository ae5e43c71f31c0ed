"""Settings that go together, by the name of what they are for; any of them can be stated anew."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A small network and a short training for CPUs and first tries (docs/choosing.md).
    "quick": {
        "model": {"model_channels": 32, "num_res_blocks": 1},
        "diffusion": {"predicts": "v"},
        "training": {
            "steps": 800,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "anneal": "linear",
            "ema_rates": [0.99],
            "validate_every": 200,
            "preview_every": 400,
        },
        "sampling": {"steps": 20},
    },
    # The best likelihood of data of at most 8 bits in a short training (docs/likelihood.md).
    "likelihood": {
        "diffusion": {
            "schedule": "log_snr",
            "predicts": "categorical",
            "variance": "fixed_small",
            "loss": "vlb",
        },
        "training": {
            "timestep_sampler": "low_discrepancy",
            "learning_rate": 1e-3,
            "betas": [0.9, 0.99],
            "warmup_steps": 50,
            "anneal": "linear",
            "ema_rates": [0.99],
        },
    },
}
