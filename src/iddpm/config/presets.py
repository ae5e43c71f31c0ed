"""Settings that go together, by the name of what they are for; any of them can be stated anew."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Nichol & Dhariwal 2021 (improved-diffusion): eps, AdamW at 1e-4 without warm-up or decay of
    # the rate, an average of 0.9999, and no dropout, as for ImageNet 64 x 64 (CIFAR-10 had 0.3).
    # The cosine schedule and the hybrid loss with a learned variance are theirs too, and our
    # defaults. They train for 500,000 steps and more; 20,000 are ours. They give no levels a
    # probability.
    "published": {
        "model": {"dropout": 0.0},
        "diffusion": {"predicts": "eps", "neighborhood": 0},
        "training": {
            "steps": 20_000,
            "learning_rate": 1e-4,
            "warmup_steps": 0,
            "anneal": "none",
            "ema_rates": [0.9999],
            "validate_every": 1000,
            "preview_every": 1000,
        },
    },
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
