"""What one process and two have to do alike: ``torchrun ... two_ranks.py FOLDER PARALLEL...``.

Three say whether a resumed run is that which went on, bit for bit.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses
from iddpm.networks import UNet
from iddpm.runtime.processes import joined_ranks
from iddpm.runtime.seeds import stream
from iddpm.training.checkpoints.checkpoint import Checkpoint, load_checkpoint
from iddpm.training.checkpoints.ema_snapshots import write_snapshot
from iddpm.training.checkpoints.saver import Saver
from iddpm.training.checkpoints.state import TrainState
from iddpm.training.checkpoints.weights import hash_weights
from iddpm.training.ema import EMA
from iddpm.training.muon import Muon
from iddpm.training.parallel import alone, replicate, shard, whole, whole_weights
from iddpm.training.power import PowerEMA
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep
from iddpm.training.timesteps import LossSecondMomentTimesteps, UniformTimesteps
from iddpm.training.validation import held_out_loss

CPU = torch.device("cpu")
BATCH = 6
adamw = partial(torch.optim.AdamW, lr=1e-3, fused=True)
sgd = partial(torch.optim.SGD, lr=0.05)


def muon(parameters):
    """Muon for all matrices."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.dim() > 1]
    return Muon([p for p in parameters if p.dim() < 2], matrices, lr=1e-3)


def make(
    ranks, parallel, optimizer=adamw, dropout=0.0, timesteps=None, self_condition=False, **options
):
    """Return the state and the step of a network with labels, recomputation and two averages."""
    torch.manual_seed(0)
    network = UNet(
        in_channels=2 if self_condition else 1,
        out_channels=2,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_downsampling=(2,),
        num_classes=3,
        dropout=dropout,
        use_checkpoint=True,
        checkpoint_engine="torch" if parallel == "fsdp" else "function",
    )
    for parameter in network.parameters():  # zeroed layers would hide differences
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    emas = [EMA(network, 0.9), PowerEMA(network, 0.1)]
    called, sharing = network, alone
    if ranks.count > 1 and parallel == "fsdp":
        sharing = shard(network, ranks, CPU)
        for ema in emas:
            shard(ema.network, ranks, CPU)
    elif ranks.count > 1:
        called, sharing = replicate(network, CPU)
    optimizer = optimizer(network.parameters())
    timesteps = timesteps or UniformTimesteps(20)
    precision = Precision("float32", CPU)
    step = TrainStep(
        Denoiser(called, GaussianDiffusion(cosine(20)), self_condition=self_condition),
        network,
        losses.hybrid,
        timesteps,
        optimizer,
        emas,
        precision,
        ranks=ranks,
        sharing=sharing,
        rehearse=called is not network,
        **options,
    )
    return TrainState(network, optimizer, emas, timesteps, precision), step


def data(step):
    generator = torch.Generator().manual_seed(step)
    x = (torch.rand(BATCH, 1, 8, 8, generator=generator) * 255).round() / 127.5 - 1
    return x, torch.randint(-1, 3, (BATCH,), generator=generator)


def take(state, step, count):
    """Take steps and return the mean loss of each."""
    found = []
    for _ in range(count):
        x, y = data(state.step)
        own = step.ranks.share(BATCH)
        result = step(x[own], state.step, y=y[own])
        assert not result.skipped
        assert len(result.loss) == len(result.t) == BATCH
        state.step += 1
        found.append(float(result.loss.mean()))
    return found


def gradients(step):
    named = step.network.named_parameters()
    return {name: whole(p.grad).detach().clone() for name, p in named}


def seen(ranks, parallel):
    """Return what the loss was given in two steps, by all ranks."""
    calls = []

    def loss(denoiser, x0, t, noise, **conditioning):
        calls.append((x0, t, noise, conditioning["y"]))
        return losses.hybrid(denoiser, x0, t, noise, **conditioning)

    state, step = make(ranks, parallel)
    step.loss = loss
    take(state, step, 2)
    names = ("x0", "t", "noise", "y")
    calls = calls[-2:]  # the first may have been rehearsed
    per_step = [dict(zip(names, map(ranks.joined, parts), strict=True)) for parts in calls]
    return {f"{name}/{k}": v for k, parts in enumerate(per_step) for name, v in parts.items()}


def first_gradient(ranks, parallel, **options):
    state, step = make(ranks, parallel, sgd, gradient_clip=None, **options)
    state.step = next(k for k in range(9) if stream(0, "self-condition", step=k).random() < 0.5)
    take(state, step, 1)
    return gradients(step)


def with_a_bad_item(ranks, parallel):
    """Return, by rank, whether a step was left out whose last item is not finite."""
    state, step = make(ranks, parallel, timesteps=LossSecondMomentTimesteps(20))
    before = {name: value.clone() for name, value in everything(state).items()}
    x, y = data(0)
    x[-1] = float("nan")
    own = ranks.share(BATCH)
    result = step(x[own], 0, y=y[own])
    after = everything(state)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert result.loss.isfinite().tolist() == [True] * (BATCH - 1) + [False]
    return ranks.gathered(result.skipped and result.bad)


def weights_by_muon(ranks):
    """Return the hash of each rank's weights after steps of Muon."""
    state, step = make(ranks, "ddp", muon)
    take(state, step, 4)
    return ranks.gathered(hash_weights(state.network.state_dict()))


def sampler_with_history():
    timesteps = LossSecondMomentTimesteps(20)
    for _ in range(10):
        timesteps.update(torch.arange(20), torch.linspace(0.1, 3, 20))
    return timesteps


def compare(ranks, parallel):
    """Return what has to be alike on one process and on two: tensors, and numbers."""
    tensors = {f"seen/{name}": value for name, value in seen(ranks, parallel).items()}
    variants = {
        "whole": {},
        "microbatch_1": {"microbatch": 1},
        "microbatch_2": {"microbatch": 2},
        "importance": {"timesteps": sampler_with_history()},
        "self_condition": {"self_condition": True, "microbatch": 2},
        # One process that takes as many at once as each of two draws the same units.
        "dropout": {"dropout": 0.3, "microbatch": BATCH // 2},
    }
    for variant, options in variants.items():
        for name, value in first_gradient(ranks, parallel, **options).items():
            tensors[f"gradient/{variant}/{name}"] = value
    timesteps = variants["importance"]["timesteps"]
    tensors["history"] = torch.from_numpy(timesteps.losses.copy())
    skipped = with_a_bad_item(ranks, parallel)
    state, step = make(ranks, parallel, sgd, gradient_clip=1.0)
    take(state, step, 8)
    for name, value in step.network.state_dict().items():
        tensors[f"weights/{name}"] = whole(value)
    for name, value in step.emas[0].network.state_dict().items():
        tensors[f"average/{name}"] = whole(value)

    def held_out(start, stop):
        x, y = data(0)
        return x[start:stop], {"y": y[start:stop]}

    numbers = {
        "skipped": skipped,
        "muon": weights_by_muon(ranks) if parallel == "ddp" else None,
        "held_out": held_out_loss(
            Denoiser(step.emas[0].network, GaussianDiffusion(cosine(20))),
            step.loss,
            held_out,
            BATCH - 1,  # three batches for two ranks, the last of one item
            step.precision,
            batch_size=2,
            ranks=ranks,
        ),
    }
    return tensors, numbers


def everything(state):
    """Return all tensors of a state as one process would have them."""
    return {f"{g}/{k}": whole(v) for g, named in state.tensors().items() for k, v in named.items()}


def save(ranks, directory, state):
    with Saver(directory, keep=9, ranks=ranks) as saver:
        saver.save(state.step, state.tensors(), state.numbers())
        saver.finish()
    write_snapshot(directory, state.step, state.emas, ranks)


def resumed(ranks, parallel, directory):
    state, step = make(ranks, parallel, timesteps=LossSecondMomentTimesteps(20))
    state.restore(load_checkpoint(directory, ranks=ranks))
    return state, step


def resume_is_exact(ranks, parallel):
    """Say whether steps taken by a new process are, bit for bit, those of one that went on."""
    state, step = make(ranks, parallel)
    take(state, step, 2)
    groups = {
        group: {name: whole(value).clone() for name, value in named.items()}
        for group, named in state.tensors().items()
    }
    again, anew = make(ranks, parallel)
    again.restore(Checkpoint(Path("memory"), state.step, groups, state.numbers()))
    take(state, step, 1)
    take(again, anew, 1)
    first, second = everything(state), everything(again)
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def main(folder, kinds):
    with joined_ranks("cpu", 86400) as ranks:
        if ranks.count > 2:  # of two numbers there is but one order
            exact = {kind: resume_is_exact(ranks, kind) for kind in kinds}
            if ranks.first:
                (folder / "exact.json").write_text(json.dumps(exact))
            return
        for parallel in kinds:
            tensors, numbers = compare(ranks, parallel)
            state, step = resumed(ranks, parallel, folder / "one")
            numbers["same_as_saved"] = all(
                torch.equal(value, load_checkpoint(folder / "one").tensors[g][k])
                for g, named in state.tensors().items()
                for k, value in ((k, whole(v)) for k, v in named.items())
            )
            numbers["curve"] = take(state, step, 4)
            save(ranks, folder / parallel, state)
            weights = {k: v.clone() for k, v in whole_weights(step.network, ranks).items()}
            numbers["after"] = take(state, step, 4)
            if ranks.first:
                save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{parallel}.t")
                save_file(weights, folder / f"{parallel}.w")
                (folder / f"{parallel}.json").write_text(json.dumps(numbers))
        crossed = {}
        for saved, parallel in zip(kinds, reversed(kinds), strict=True):
            state, step = resumed(ranks, parallel, folder / saved)
            crossed[saved] = take(state, step, 4)
        if ranks.first:
            (folder / "crossed.json").write_text(json.dumps(crossed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
