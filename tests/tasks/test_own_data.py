"""Training on arrays, tensors and datasets in memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import iddpm
from iddpm.data.fingerprint import read_fingerprint
from iddpm.data.sources.memory import open_memory
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import assert_same_state, images

MORE = ("data.held_out=0.2", "training.steps=2")


def train(data, out, tiny, *settings, **options):
    return iddpm.train(
        data, out=out, settings=[*tiny, *MORE, *settings], reporter=SilentReporter(), **options
    )


class Items(Dataset):
    def __init__(self, make, count=40):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index)


class Stream(IterableDataset):
    def __iter__(self):
        yield from images()


def test_an_array_trains_as_its_file_does_and_is_required_again(tmp_path, tiny):
    array = images()
    np.save(tmp_path / "x.npy", array)
    train(tmp_path / "x.npy", tmp_path / "file", tiny)
    run = train(array, tmp_path / "run", tiny)
    assert_same_state(tmp_path / "file", tmp_path / "run")
    facts = read_fingerprint(tmp_path / "run")["memory"]
    assert facts == {"kind": "array", "shape": [60, 8, 8, 1], "dtype": "uint8"}
    bound = iddpm.likelihood(run, steps=3).total.mean
    opened = iddpm.load(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"trained on the array of shape \(60, 8, 8, 1\), uint8, in"
    ):
        iddpm.likelihood(opened, steps=3)
    with pytest.raises(ValueError, match="pass it again"):
        iddpm.evaluate(opened, n=8)
    assert iddpm.likelihood(opened, array, steps=3).total.mean == bound
    assert iddpm.likelihood(opened, array, steps=3).facts["data"].startswith("held-out items")
    assert iddpm.evaluate(opened, array, n=8).report["samples"]
    assert iddpm.likelihood(run, images(8) // 2, steps=3).facts["items"] == 8
    for other, message in (
        (array[:-1], "59 items instead of 60"),
        (255 - array, "other values"),
        (images(size=16), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            iddpm.likelihood(opened, other, steps=3)
        with pytest.raises(ValueError, match=r"has changed|trained with another|is set"):
            train(other, tmp_path / "run", tiny, "training.steps=4", resume=True)
    with pytest.raises(ValueError, match="pass it again"):
        train(None, tmp_path / "run", tiny, resume=True)
    train(array, tmp_path / "run", tiny, "training.steps=4", resume=True)
    train(tmp_path / "x.npy", tmp_path / "file", tiny, "training.steps=4", resume=True)
    assert_same_state(tmp_path / "file", tmp_path / "run")
    with pytest.raises(ValueError, match="leave data out"):
        train(array, tmp_path / "file", tiny, "training.steps=6", resume=True)


def test_items_of_every_form_are_read_alike(tmp_path):
    array = images(channels=3)
    expected = open_memory(array)
    labels = torch.arange(60) % 3
    pictures = [Image.fromarray(x) for x in array]
    for data in (
        torch.from_numpy(array),
        list(array),
        pictures,
        TensorDataset(torch.from_numpy(array)),
        TensorDataset(torch.from_numpy(array), labels),
        Items(lambda i: {"x": pictures[i], "y": "abc"[i % 3]}, 60),
    ):
        source = open_memory(data)
        assert (len(source), source.shape, source.bits) == (60, (3, 8, 8), 8)
        assert np.array_equal(source.read_many([3, 59]), expected.read_many([3, 59]))
        if source.labels is not None:
            assert source.labels.tolist() == labels.tolist()
    assert source.class_names == ("a", "b", "c")


def test_a_dict_brings_labels_conditions_and_given_data(tmp_path, tiny):
    array = images(40)

    def item(index):
        conditions = {"age": index + 0.5, "sex": "fm"[index % 2] if index else None}
        return {
            "x": array[index],
            "y": index % 2,
            "conditions": conditions,
            "given": 255 - array[index],
        }

    run = train(Items(item), tmp_path / "run", tiny, "model.class_conditional=true")
    assert run.config.model.conditions.keys() == {"age", "sex"}
    assert run.config.model.given_channels == 1
    split = run.open_split()
    assert np.array_equal(split.source.given.read(7), 255 - split.source.read(7))
    assert np.isnan(split.source.conditions[0, 1])
    assert iddpm.likelihood(run, steps=3).total.mean > 0
    again = iddpm.load(tmp_path / "run", data=Items(item))
    assert iddpm.likelihood(again, steps=3).total.mean == iddpm.likelihood(run, steps=3).total.mean


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "data is a Stream, whose items cannot be read again"),
        ((x for x in images()), "data is a generator"),
        (iter([1]), "data is a list_iterator"),
        (["a.png", "b.png"], "data is a list of paths or words"),
        ([], "data is a list without items"),
        ({"x": 1}, "data is a dict"),
        (3, "data is a int"),
        (DataLoader(Items(lambda i: 0)), "give its dataset"),
        (np.array([None, "a"], dtype=object), "the array holds object"),
        (np.array(["a", "b"]), "the array holds <U1"),
        (np.zeros((4, 5, 6)), "which may mean NCL or NLC"),
        (np.zeros((4, 8), complex), "complex128"),
        (np.ma.masked_array(np.zeros((4, 8)), np.ones((4, 8))), "masked array"),
        (torch.zeros(4, 8).to_sparse(), "sparse"),
        (torch.zeros(4, 8, dtype=torch.bool), "holds bool"),
        (Items(lambda i: images(1, size=8 + i % 2)[0]), "item 1 .* has shape"),
        (Items(lambda i: images(1)[0].astype("u1" if i < 9 else "f4")), "item 9 .* holds float32"),
        (Items(lambda i: (images(1)[0], 1, 2)), "a tuple of 3"),
        (Items(lambda i: {"image": images(1)[0]}), "a dict of image: its keys must be x"),
        (Items(lambda i: (images(1)[0], 0.5)), "the label of item 0 is a float"),
        (Items(lambda i: (images(1)[0], None if i else 1)), "several kinds"),
        (Items(lambda i: [1, 2]), "item 0 of the dataset is a list"),
        (Items(lambda i: 1 // (3 - i)), "item 0 of the dataset is a int"),
        (Items(lambda i: images(1)[0] // (1 if i < 5 else None)), "item 5 .* TypeError"),
        (
            Items(lambda i: np.random.default_rng().random((1, 8, 8))),
            "differs between two readings",
        ),
        ([Image.new("L", (8, 8)), Image.new("L", (9, 8))], "item 1 .* set data.image_size"),
    ],
)
@pytest.mark.filterwarnings("ignore:the dataset holds floats")
def test_other_data_is_refused_in_a_sentence(tmp_path, tiny, data, message):
    with pytest.raises(ValueError, match=message) as error:
        train(data, tmp_path / "run", tiny)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_settings_of_files_are_refused_and_others_hold(tmp_path, tiny):
    for setting in ("data.cache=auto", "data.column=x", "data.path=y", "data.labels=folder"):
        with pytest.raises(ValueError, match=setting.split("=")[0]):
            train(images(), tmp_path / "run", tiny, setting)
    run = train(np.zeros((20, 5, 8)), tmp_path / "a", tiny, "data.layout=NLC")
    assert run.shape == (8, 5)
    run = train(list(images(size=10)), tmp_path / "b", tiny, "data.image_size=8")
    assert run.shape == (1, 8, 8)
