"""The settings of training: what the loop and a step of it do with each."""

from iddpm.training.noise_assignment import BOUND_SHARE
from tests.builders.settings.effect import DIFFERS, Effect
from tests.builders.settings.training_looks import (
    adam,
    adam_by_hand,
    averages,
    batch_facts,
    clean,
    clipped,
    compiled,
    computed_in,
    data,
    device,
    fast_layers,
    first_batch,
    followed,
    handed,
    hidden,
    muon_rates,
    noisiest,
    of_loop,
    passes,
    patience,
    rates,
    seeded,
    shared_by,
    shown_augmentation,
    threads,
)
from tests.conftest import TINY

BASE = (*TINY, "training.steps=6", "data.held_out=0.2", "data.path={folder}/data.npz")
CLASSES = ("model.class_conditional=true",)


def trained(name_or_look, also=()):
    look = name_or_look if callable(name_or_look) else of_loop(name_or_look)

    def effect(seen, *more, key=None):
        return Effect(look, seen, (*also, *more), data, key, BASE)

    return effect


HALF_AND_LESS = ("training.ema_warmup=false",)
ALWAYS = ("diffusion.loss=vlb",)

TRAINING = {
    "training.steps": [
        trained("total_steps")({"6": 6, "9": 9}),
        trained(batch_facts)({"6": [6, {8}], "9": [9, {8}]}),
    ],
    "training.epochs": [trained("total_steps")({"null": 6, "2": DIFFERS, "4": DIFFERS})],
    "training.max_time": [trained("max_seconds")({"null": None, "90s": 90.0, "2h": 7200.0})],
    "training.batch_size": [
        trained(batch_facts)({"8": [6, {8}], "5": [6, {5}]}), trained(passes)({"8": [8], "5": [5]}),
    ],
    "training.microbatch": [trained(passes)({"8": [8], "3": [3, 3, 2]})],
    "training.parallel": [
        trained(shared_by)({"ddp": ["function", ["copies"]],
                            "fsdp": ["torch", ["parts", "parts"]]}),
    ],
    "training.timeout": [trained(patience)({"600": [600.0], "7": [7.0]})],
    "training.optimizer": [
        trained(lambda s: handed(s, lambda h: [type(o).__name__ for o in
                                               (h.step.optimizer, h.state.optimizer)]))(
            {"adamw": ["AdamW"] * 2, "muon": ["Muon"] * 2}),
    ],
    "training.learning_rate": [
        Effect(muon_rates, {r: {float(r)} for r in ("1e-3", "0.2")}),
        Effect(adam, {r: adam_by_hand(float(r)) for r in ("1e-3", "0.2")}),
        trained(rates)({"1e-3": [1.0] * 6, "2e-3": [2.0] * 6}),
    ],
    "training.weight_decay": [
        Effect(adam, {d: adam_by_hand(decay=float(d)) for d in ("0", "0.5")}),
    ],
    "training.betas": [
        Effect(adam, {
            "[0.9,0.999]": adam_by_hand(),
            "[0.5,0.999]": adam_by_hand(betas=(0.5, 0.999)),
            "[0.9,0.5]": adam_by_hand(betas=(0.9, 0.5)),
        }),
    ],
    "training.warmup_steps": [
        trained(rates)({"0": [1.0] * 6, "4": [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]}),
    ],
    "training.anneal": [
        trained(rates)({"none": [1.0] * 6,
                        "linear": [1.0, 0.8333, 0.6667, 0.5, 0.3333, 0.1667],
                        "inverse_sqrt": [0.7746, 0.7746, 0.5477, 0.4472, 0.3873, 0.3464]}),
    ],
    "training.label_dropout": [
        trained(hidden, CLASSES)({"0": 0.0, "0.9": DIFFERS, "0.4": DIFFERS}),
    ],
    "training.clean_share": [
        Effect(clean, {"0": 20.0, "0.5": DIFFERS, "0.9": DIFFERS}, ("task=classification",)),
    ],
    "training.pure_noise_share": [
        Effect(noisiest, {"0": 0, "0.25": 10, "0.5": 20}, ("diffusion.predicts=v",)),
    ],
    "training.gradient_clip": [trained(clipped)({"null": [True, False], "0.01": [False, True]})],
    "training.ema_rates": [
        trained(averages, HALF_AND_LESS)({"[0.5]": [0.5], "[0.25,0.75]": [0.25, 0.75]}),
    ],
    "training.ema_warmup": [
        trained(averages, ("training.ema_rates=[0.75]",))({"false": [0.75], "true": [0.18]}),
    ],
    "training.posthoc_ema.lengths": [
        trained(lambda s: handed(s, lambda h: [e.name for e in h.state.emas]))(
            {"[0.1]": ["ema_0.9999", "power_0.1"],
             "[0.02,0.1]": ["ema_0.9999", "power_0.02", "power_0.1"]}),
    ],
    "training.posthoc_ema.every": [
        trained("snapshot_every")({"null": 1, "3": 3}),
        trained("snapshot_every", ("training.steps=200",))({"null": 10, "3": 3}),
    ],
    "training.timestep_sampler": [
        trained(lambda s: handed(s, lambda h: [type(t).__name__ for t in
                                               (h.step.timesteps, h.state.timesteps)]), ALWAYS)({
            "uniform": ["UniformTimesteps"] * 2,
            "low_discrepancy": ["LowDiscrepancyTimesteps"] * 2,
            "loss_second_moment": ["LossSecondMomentTimesteps"] * 2,
            "log_normal\ndiffusion.loss=hybrid\ndiffusion.predicts=v\n"
            "diffusion.loss.weighting=log_normal": ["LogNormalTimesteps"] * 2,
        }),
    ],
    "training.noise_assignment": [
        trained(lambda s: handed(s, lambda h: h.step.assignment and
                                 h.step.assignment.independent_share), also)(seen)
        for also, seen in (
            ((), {"none": None, "nearest": BOUND_SHARE}),
            (("diffusion.variance=fixed_small", "diffusion.loss=simple"),
             {"none": None, "nearest": 0.0}),
        )
    ],
    "training.precision": [
        trained(computed_in)({"float32": ["float32", ["torch.float32"]],
                              "bf16": ["bf16", ["torch.bfloat16"]]}),
    ],
    "training.kernels": [
        trained(fast_layers)({"plain": [],
                              "fast": ["AttentionBlock", "Dropout", "GroupNorm"]}),
    ],
    "training.compile": [
        trained(compiled)({"false": [False, {"function"}], "true": [True, {"torch"}]}),
    ],
    "training.device": [trained(device)({"cpu": "cpu", "nonsense": True})],
    "training.threads": [trained(threads)({"1": 1, "2": 2})],
    "training.seed": [
        trained(seeded(what))({"0": DIFFERS, "1": DIFFERS})
        for what in ("weights", "order", "noise")
    ],
    "training.log_every": [trained("log_every")({"50": 50, "7": 7})],
    "training.save_every": [trained("save_every")({"1000": 1000, "7": 7})],
    "training.save_minutes": [trained("save_seconds")({"null": None, "10": 600.0, "0.5": 30.0})],
    "training.keep_checkpoints": [trained("keep_checkpoints")({"3": 3, "7": 7})],
    "training.preview_every": [trained("preview_every")({"0": 0, "7": 7})],
    "training.validate_every": [trained("validate_every")({"0": 0, "7": 7})],
    "training.max_bad_steps": [trained("max_bad_steps")({"10": 10, "7": 7})],
    "training.spike_guard": [
        trained(lambda s: handed(s, lambda h: [g and g.limit for g in
                                               (h.step.guard, h.state.guard)]))(
            {"null": [None, None], "7": [7.0, 7.0]}),
    ],
    "training.on_out_of_memory": [
        trained(lambda s: handed(s, lambda h: h.step.halve))({"stop": False, "halve": True}),
    ],
    "training.tensorboard": [
        trained(followed)({"false": [[False, None]] * 2, "true": [[True, None]] * 2}),
    ],
    "training.wandb": [
        trained(followed)({"null": [[False, None]] * 2, "mine": [[False, "mine"]] * 2}),
    ],
    "data.augment": [
        trained(shown_augmentation)({"0": [0, 0], "0.12": DIFFERS, "0.9": DIFFERS}),
    ],
    "data.flip": [trained(first_batch)({"false": DIFFERS, "true": DIFFERS})],
    "data.random_crop": [trained(first_batch)({"false": DIFFERS, "true": DIFFERS})],
}  # fmt: skip
