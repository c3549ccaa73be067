"""Checkpoints: what is read is what was written, or an error says why not."""

import errno
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.trainings import alone, assert_same, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.models.likelihoods import ImageScale
from hpcauxvae.runtime.stop_requests import FINISHED
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(4, dtype=torch.float64)[::2]}


def test_tensors_and_state_come_back(tmp_path):
    checkpoint.write(tmp_path / "x", TENSORS, {"epoch": 3, "names": ["u"]})
    tensors, state = checkpoint.read(tmp_path / "x")
    assert state == {"epoch": 3, "names": ["u"]}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_damage_is_found(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(checkpoint.Damaged, match="damaged"):
        checkpoint.read(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(checkpoint.Damaged, match="checksum"):
        checkpoint.read(path)
    path.write_bytes(whole.replace(b'epoch\\": 3', b'epoch\\": 4'))
    assert path.read_bytes() != whole
    with pytest.raises(checkpoint.Damaged, match="checksum"):
        checkpoint.read(path)
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "y")


def test_another_format_version_is_refused(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 3})
    save_file(load_file(path), path, {"format_version": "99", "state": "{}", "sha256": ""})
    with pytest.raises(InputError, match="format_version 99; allowed: 3, that of this version of hpcauxvae, and 2"):
        checkpoint.read(path)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 1})
    with pytest.raises(InputError, match="cannot be written"):
        limited(path)
    assert checkpoint.read(path)[1] == {"epoch": 1}


def limited(path):
    """Writes a checkpoint larger than this process may write files, in a child that then ends."""
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            checkpoint.write(path, {"big": torch.zeros(100_000)}, {"epoch": 2})
            queue.put(None)
        except InputError as error:
            queue.put(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    message = queue.get()
    process.join()
    if message:
        raise InputError(message)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    path, mark = tmp_path / "x", tmp_path / "unpickled"
    trap = pickle.dumps(Trap(mark))
    pickle.loads(pickle.dumps(Trap(tmp_path / "works")))
    assert (tmp_path / "works").is_dir()
    checkpoint.write(path, TENSORS, {"epoch": 3})
    whole = path.read_bytes()
    torch.save({"trap": Trap(mark)}, tmp_path / "torch")
    header = safe_open(path, "pt").metadata()
    save_file(load_file(path) | {"pickle": torch.frombuffer(bytearray(trap), dtype=torch.uint8)}, path, header)
    added = path.read_bytes()
    for content in (whole + trap, trap, (tmp_path / "torch").read_bytes(), added):
        path.write_bytes(content)
        with pytest.raises(checkpoint.Damaged):
            checkpoint.read(path)
    assert not mark.exists()


def test_the_newest_the_best_and_the_permanent_are_kept(tmp_path):
    folder = checkpoint.Checkpoints(tmp_path, keep_last=2, permanent=lambda step: step % 40 == 0)
    best = None
    for step in range(10, 101, 10):
        if step == 30:
            best = {"step": 30, "loss": 1.0}
        folder.save(TENSORS, {"step": step, "best": best})
    assert folder.steps() == [100, 90, 80, 40, 30]
    assert checkpoint.read(tmp_path / checkpoint.LAST)[1]["step"] == 100
    assert checkpoint.read(tmp_path / checkpoint.BEST)[1]["step"] == 30
    folder.save(TENSORS, {"step": 110, "best": {"step": 110, "loss": 0.5}})
    assert folder.steps() == [110, 100, 80, 40]
    assert checkpoint.read(tmp_path / checkpoint.BEST)[1]["step"] == 110


def test_without_symbolic_links_last_and_best_are_read_and_set_as_well(tmp_path, monkeypatch):
    def symlink(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "symlink", symlink)
    folder = checkpoint.Checkpoints(tmp_path, keep_last=1, permanent=lambda step: False)
    for step in (10, 20):
        folder.save(TENSORS, {"step": step, "best": {"step": 10, "loss": 1.0}})
    assert checkpoint.read(tmp_path / checkpoint.LAST)[1]["step"] == 20
    assert checkpoint.read(tmp_path / checkpoint.BEST)[1]["step"] == 10
    (tmp_path / "checkpoints" / "step-000000010.safetensors").unlink()
    with pytest.raises(InputError, match=r"step-000000010\.safetensors: no such checkpoint"):
        checkpoint.read(tmp_path / checkpoint.BEST)


def test_files_of_other_names_are_left_alone(tmp_path):
    folder = checkpoint.Checkpoints(tmp_path, keep_last=1, permanent=lambda step: False)
    (tmp_path / "checkpoints").mkdir()
    for name in ("step-000000007-mine", "step-", "step-000000007 (copy)"):
        (tmp_path / "checkpoints" / f"{name}.safetensors").write_text("mine")
    folder.save(TENSORS, {"step": 10, "best": None})
    assert folder.steps() == [10]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_what_is_written_behind_damaged_ones_stays(tmp_path):
    """However many there are: with later steps in their names they would pass for newer."""
    folder = checkpoint.Checkpoints(tmp_path, keep_last=1, permanent=lambda step: step == 10)
    for step in (10, 30, 40):
        folder.save(TENSORS, {"step": step, "best": {"step": 10, "loss": 1.0}})
    newest = tmp_path / "checkpoints" / "step-000000040.safetensors"
    for damaged in (newest, newest.with_name("step-000000030.safetensors")):
        damaged.write_bytes(newest.read_bytes()[:100])
    assert folder.newest() == newest.with_name("step-000000010.safetensors")
    for step in (12, 15):
        folder.save(TENSORS, {"step": step, "best": {"step": 10, "loss": 1.0}})
        assert checkpoint.read(tmp_path / checkpoint.LAST)[1]["step"] == step
    assert folder.newest() == newest.with_name("step-000000015.safetensors")
    folder.save(TENSORS, {"step": 50, "best": {"step": 10, "loss": 1.0}})
    assert folder.steps() == [50, 10]


def test_damaged_checkpoints_are_passed_over_with_a_warning(tmp_path, capsys):
    folder = checkpoint.Checkpoints(tmp_path, keep_last=3, permanent=lambda step: False)
    assert folder.newest() is None
    for step in (10, 20, 30):
        folder.save(TENSORS, {"step": step, "best": None})
    paths = [tmp_path / "checkpoints" / f"step-{step:09d}.safetensors" for step in (10, 20, 30)]
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    assert folder.newest() == paths[1]
    assert f"warning: {paths[2]}: damaged" in capsys.readouterr().err
    paths[1].write_bytes(b"")
    paths[0].write_bytes(b"x")
    with pytest.raises(InputError, match="none of its checkpoints is whole"):
        folder.newest()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3, "nothing is thrown away"


def as_of_format_2(path: Path, monkeypatch: pytest.MonkeyPatch, *lacks: str) -> None:
    """The same checkpoint as the version before wrote it, and without these tensors."""
    tensors, state = checkpoint.read(path)
    del state["cycles"]
    for name in ("model.scale.limits", "model.scale.counts", *lacks):
        del tensors[name]
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "FORMAT_VERSION", 2)
        checkpoint.write(path, tensors, state)


def test_a_run_of_the_version_before_is_evaluated_and_goes_on(run_copy, blobs_file, tmp_path, monkeypatch):
    """As if this version had made it."""
    earlier = Path(shutil.copytree(run_copy, tmp_path / "earlier", symlinks=True))
    as_of_format_2((earlier / checkpoint.LAST).resolve(), monkeypatch)
    images = open_set(blobs_file).images[:5]
    codes = [load_run(run).encode(images, np.zeros((5, 2))) for run in (run_copy, earlier)]
    np.testing.assert_array_equal(*codes)
    for run in (run_copy, earlier):
        assert alone(config(load_run(run).config.data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(run_copy, earlier)
    assert load_run(earlier).state["cycles"] == [2, 3]


@pytest.mark.parametrize("scale", ["linear", "range", "anscombe"])
def test_what_format_2_left_out_is_what_it_did(tmp_path, monkeypatch, scale):
    made = ImageScale(scale).double()
    made.fit(100.0, -3.0)
    expected = {f"model.scale.{name}": tensor for name, tensor in made.state_dict().items()}
    earlier = {name: tensor for name, tensor in expected.items() if not name.endswith(("limits", "counts"))}
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 2)
    checkpoint.write(tmp_path / "x", earlier, {"config": {"epochs": 5, "resolved_objective": {"scale": scale}}})
    monkeypatch.undo()
    tensors, state = checkpoint.read(tmp_path / "x")
    assert tensors.keys() == expected.keys() and state["cycles"] == [5]
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=0, check_dtype=False)


@pytest.mark.parametrize("part", ["model.scale.maximum", "model.decoder"])
def test_anything_else_that_an_earlier_checkpoint_lacks_is_named(run_copy, monkeypatch, part):
    path = (run_copy / checkpoint.LAST).resolve()
    name = next(key for key in sorted(load_file(path)) if key.startswith(part))
    as_of_format_2(path, monkeypatch, name)
    with pytest.raises(InputError, match=f"tensor {name} is missing"):
        alone(config(Path(checkpoint.read(path)[1]["config"]["data"]), run_copy, epochs=3, resume="auto"))
    with pytest.raises(InputError, match=f"tensor {name.removeprefix('model.')} is needed by this version"):
        load_run(run_copy)


def test_a_run_of_another_version_is_read_and_not_gone_on_with(run_copy: Path) -> None:
    """Of which only the training needs more, or less, than it kept."""
    path = (run_copy / checkpoint.LAST).resolve()
    tensors, state = checkpoint.read(path)
    again = config(Path(state["config"]["data"]), run_copy, epochs=3, resume="auto")
    gone = {name: tensor for name, tensor in tensors.items() if "independence.labels" not in name}
    told = r"by {} version of hpcauxvae, whose .* \({}\): its training cannot be continued. evaluate, .* another --out$"
    for kept, by, named in (
        (gone, "an earlier", "model.independence.labels.attainable_D and 4 more tensors"),
        ({name: tensor for name, tensor in tensors.items() if name != "model.unit"}, "an earlier", "model.unit"),
        (tensors | {"model.independence.new": torch.ones(1)}, "another", "model.independence.new"),
    ):
        checkpoint.write(path, kept, state)
        with pytest.raises(InputError, match=told.format(by, named)):
            alone(again)
        assert load_run(run_copy).state["step"] == state["step"]


def refused_by_both(run: Path, data: Path, said: str) -> None:
    """By who reads the run, and by who goes on with it."""
    for read in (lambda: load_run(run), lambda: alone(config(data, run, epochs=3, resume="auto"))):
        with pytest.raises(InputError, match=said):
            read()


def test_a_constant_of_another_version_is_named(run_copy: Path) -> None:
    path = (run_copy / checkpoint.LAST).resolve()
    tensors, state = checkpoint.read(path)
    objective = state["config"]["resolved_objective"] | {"guide": 0.3}
    checkpoint.write(path, tensors, state | {"config": state["config"] | {"resolved_objective": objective}})
    said = r"config: objective 'tuned' had guide = 0.3 and has 0\.\d+ in this version of hpcauxvae; train again"
    refused_by_both(run_copy, Path(state["config"]["data"]), said)


def test_a_tensor_of_another_shape_is_one_line(run_copy):
    """As where a later version keeps more of something under the same name."""
    path = (run_copy / checkpoint.LAST).resolve()
    tensors, state = checkpoint.read(path)
    name = next(key for key in sorted(tensors) if key.startswith("model.decoder") and tensors[key].ndim > 1)
    checkpoint.write(path, tensors | {name: tensors[name][:-1]}, state)
    said = f"{name.removeprefix('model.')}: .* that of this version of hpcauxvae: the run is of another; [^\n]* again$"
    refused_by_both(run_copy, Path(state["config"]["data"]), said)
