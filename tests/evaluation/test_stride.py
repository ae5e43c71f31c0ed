from itertools import combinations, pairwise

import pytest
import torch

from iddpm.evaluation.stride import optimal_timesteps


def random_costs(steps, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.rand(steps, steps, dtype=torch.float64, generator=generator)
    pairs = torch.where(torch.ones(steps, steps).triu(1).bool(), pairs, torch.inf)
    return pairs, torch.rand(steps, dtype=torch.float64, generator=generator)


def cost(pairs, decoders, kept):
    return sum(float(pairs[s, t]) for s, t in pairwise(kept)) + float(decoders[kept[1]])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [2, 3, 9])
def test_it_is_the_best_of_all_subsets(steps, seed):
    pairs, decoders = random_costs(steps, seed)
    for count in range(2, steps + 1):
        kept = optimal_timesteps(pairs, decoders, count)
        everything = (
            [0, *inner, steps - 1] for inner in combinations(range(1, steps - 1), count - 2)
        )
        best = min(everything, key=lambda path: cost(pairs, decoders, path))
        assert kept == best


def test_the_ends_are_kept_and_bad_counts_refused():
    pairs, decoders = random_costs(9, 0)
    assert optimal_timesteps(pairs, decoders, 1) == [8]
    assert optimal_timesteps(pairs, decoders, 2) == [0, 8]
    assert optimal_timesteps(pairs, decoders, 9) == list(range(9))
    for count in (0, 10):
        with pytest.raises(ValueError, match=f"cannot take {count} steps of a process of 9"):
            optimal_timesteps(pairs, decoders, count)
