"""What the training task hands to its loop, and what a step does with it."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import iddpm
import iddpm.tasks.train as task
import iddpm.tasks.training_setup as setup
from iddpm.builders import build_optimizer, build_timesteps, task_of
from iddpm.runtime.processes import Ranks
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.stop import Stop
from tests.builders.settings.effect import numbers
from tests.conftest import TINY, images


class Handed(NamedTuple):
    """What the loop is handed by the task."""

    directory: Any
    state: Any
    step: Any
    batches: Any
    settings: Any
    options: dict[str, Any]


def data(folder):
    np.savez(folder / "data.npz", arr_0=images(), arr_1=np.arange(60) % 3)


def handed(scene, look, *, reach=lambda run: None):
    """Start a training whose loop is ``look``; return what it, or ``reach`` of the run, returns."""
    seen = []

    def loop(directory, state, step, batches, settings, **options):
        seen.append(look(Handed(directory, state, step, batches, settings, options)))
        return Stop.FINISHED

    scene.patch.setattr(task, "train_loop", loop)
    run = iddpm.train(
        out=scene.folder / "run", settings=scene.assignments, reporter=SilentReporter()
    )
    found = reach(run)
    return seen[0] if found is None else found


def of_loop(name):
    """Look at the arguments of the loop."""
    return lambda scene: handed(scene, lambda h: getattr(h.settings, name))


def first_batch(scene):
    return handed(scene, lambda h: numbers(next(iter(h.batches))[0]))


def shown_augmentation(scene):
    """How many of a batch are augmented, and the length of the vectors that a network takes."""

    def look(h):
        layer = h.state.network.augment_emb
        vectors = next(iter(h.batches))[1].get("augment")
        assert (layer is None) == (vectors is None)
        if vectors is None:
            return [0, 0]
        return [int(vectors.any(dim=1).sum()), layer.in_features]

    return handed(scene, look)


def batch_facts(scene):
    def look(h):
        batches = list(h.batches)
        return [len(batches), {len(x) for x, _ in batches}]

    return handed(scene, look)


def passes(scene):
    """How many items the network is given in each pass of a step."""

    def look(h):
        sizes = []
        h.state.network.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        x, conditioning = next(iter(h.batches))
        h.step(x, 0, **conditioning)
        return sizes

    return handed(scene, look)


def clipped(scene):
    """Whether the gradient was cut, and how long it is after a step."""

    def look(h):
        x, conditioning = next(iter(h.batches))
        norm = h.step(x, 0, **conditioning).gradient_norm
        after = torch.stack([p.grad.norm() for p in h.state.network.parameters()]).norm()
        return [round(min(norm, 9e9) / float(after), 3) == 1, round(float(after), 4) == 0.01]

    return handed(scene, look)


def averages(scene):
    """The share of the weights before that each average keeps at the first update."""

    def look(h):
        start = list(h.state.network.parameters())[-1].detach().clone()
        x, conditioning = next(iter(h.batches))
        h.step(x, 0, **conditioning)
        now = list(h.state.network.parameters())[-1].detach()
        shares = []
        for ema in h.state.emas:
            mean = list(ema.network.parameters())[-1]
            shares.append(round(float(((mean - now) / (start - now)).mean()), 2))
        return shares

    return handed(scene, look)


def hidden(scene):
    """Share of the labels that are hidden from the network, to a tenth."""

    def look(h):
        labels = torch.cat([conditioning["y"] for _, conditioning in h.batches])
        return round(float((labels == -1).float().mean()), 1)

    return handed(scene, look)


def noisiest(scene):
    """How many of 40 items spread evenly have the last of 50 timesteps."""
    drawn = build_timesteps(scene.config).sample(np.arange(40) / 40)
    assert bool((drawn.weights == 1).all())
    return int((drawn.t == 49).sum())


def clean(scene):
    return float(
        (task_of(scene.config).timesteps().sample(np.linspace(0, 0.999, 1000)).t == 0).sum()
    )


def adam(scene):
    """A weight that starts at 1, after gradients of 1 and then of -0.5."""
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(module.weight)
    optimizer = build_optimizer(scene.config, module)
    for gradient in (1.0, -0.5):
        module.weight.grad = torch.full_like(module.weight, gradient)
        optimizer.step()
    return round(float(module.weight.detach()), 9)


def muon_rates(scene):
    """The learning rates of the groups of Muon."""
    config = with_settings(scene, (*scene.assignments, "training.optimizer=muon")).config
    return {group["lr"] for group in build_optimizer(config, nn.Linear(2, 2)).param_groups}


def adam_by_hand(rate=1e-3, betas=(0.9, 0.999), decay=0.0):
    """AdamW as Loshchilov & Hutter (2019, algorithm 2) write it."""
    weight, first, second = 1.0, 0.0, 0.0
    for n, gradient in enumerate((1.0, -0.5), start=1):
        weight -= rate * decay * weight
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        mean, square = first / (1 - betas[0] ** n), second / (1 - betas[1] ** n)
        weight -= rate * mean / (square**0.5 + 1e-8)
    return round(weight, 9)


def rates(scene):
    """The learning rate of every step, in thousandths."""
    return handed(scene, lambda h: [round(1e3 * h.settings.learning_rate_at(n), 4)
                                    for n in range(6)])  # fmt: skip


def compiled(scene):
    """Whether the network was compiled, and how blocks save memory then."""
    given = []

    def compile_(network):
        given.append(network)
        return network

    scene.patch.setattr(torch, "compile", compile_)

    def look(h):
        engines = {m.checkpoint_engine for m in h.state.network.modules()
                   if hasattr(m, "checkpoint_engine")}  # fmt: skip
        return [given == [h.state.network], engines]

    return handed(scene, look)


def computed_in(scene):
    """The dtype of what the network gives in a step, and the printed name."""

    def look(h):
        seen = set()
        h.state.network.input_blocks[0][0].register_forward_hook(
            lambda *args: seen.add(str(args[2].dtype))
        )
        x, conditioning = next(iter(h.batches))
        h.step(x, 0, **conditioning)
        return [h.step.precision.name, sorted(seen)]

    return handed(scene, look)


def fast_layers(scene):
    """The layers that may use faster kernels than PyTorch's."""

    def look(h):
        return sorted({type(m).__name__ for m in h.state.network.modules()
                       if getattr(m, "fast", False)})  # fmt: skip

    return handed(scene, look)


def device(scene):
    try:
        return handed(scene, lambda h: str(h.step.precision.device))
    except ValueError as error:
        return "nonsense" in str(error) and "cannot be used" in str(error)


def threads(scene):
    before = torch.get_num_threads()
    try:
        return handed(scene, lambda h: torch.get_num_threads())
    finally:
        torch.set_num_threads(before)


def seeded(what):
    """What follows from the seed: first weights, order of the items, noise of a step."""

    def look(h):
        if what == "weights":
            return numbers(next(iter(h.state.network.parameters())).detach())
        x, conditioning = next(iter(h.batches))
        if what == "order":
            return numbers(x)
        return h.step(x, 0, **conditioning).t.tolist()

    return lambda scene: handed(scene, look)


def followed(scene):
    """Which trackers are opened, with what."""
    opened = []

    def open_trackers(directory, start, *, tensorboard, wandb, settings):
        opened.append([tensorboard, wandb])
        return []

    scene.patch.setattr(task, "open_trackers", open_trackers)
    scene.patch.setattr(
        setup, "check_trackers", lambda **wanted: opened.append(list(wanted.values()))
    )
    handed(scene, lambda h: None, reach=lambda run: True)
    return opened


def patience(scene):
    """How long ranks wait for each other."""
    limits = []
    scene.patch.setattr(Ranks, "limit", lambda self, seconds: limits.append(seconds))
    handed(scene, lambda h: None, reach=lambda run: True)
    return limits


def shared_by(scene):
    """Whether two processes share a network by copies or by parts."""

    class Two(Ranks):
        """Two processes of which this one does all the talking."""

        by_first = staticmethod(lambda work: work())
        together = staticmethod(nullcontext)
        talking = staticmethod(nullcontext)
        limit = staticmethod(lambda seconds: None)
        gathered = staticmethod(lambda value: [value, value])

    called = []

    def replicate(network, device, *, own):
        called.append("copies")
        return network, nullcontext

    def shard(network, ranks, device, *, own):
        called.append("parts")
        return nullcontext

    scene.patch.setattr(task, "joined_ranks", lambda *_: nullcontext(Two(0, 2)))
    scene.patch.setattr(setup, "replicate", replicate)
    scene.patch.setattr(setup, "shard", shard)
    engine = handed(scene, lambda h: h.state.network.middle_block[0].checkpoint_engine)
    return [engine, called]


def drawn_by_run(scene):
    """Draw five samples from a run: how many at once, and in what the network computes."""
    seen = set()

    def reach(run):
        run.denoiser.network.input_blocks[0][0].register_forward_hook(
            lambda *args: seen.add(str(args[2].dtype))
        )
        sizes = [len(batch.x) for batch in run.sample_batches(5)]
        return [sizes, sorted(seen)]

    data(scene.folder)
    path = f"data.path={scene.folder / 'data.npz'}"
    own = with_settings(scene, (*TINY, path, *(a for a in scene.assignments if "sampling." in a)))
    return handed(own, lambda h: None, reach=reach)


def with_settings(scene, assignments):
    return type(scene)(tuple(assignments), scene.folder, scene.patch)
