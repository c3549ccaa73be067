"""The gradient in parts is that of the whole batch; coarse layers change little; a file read ahead is in order."""

import threading

import numpy as np
import pytest
import scipy.stats
import torch

from helpers.trainings import blobs, config
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.samples import Samples, noise, shuffled, split_mix
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.models.networks import Decoder
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Reduction


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return blobs(tmp_path_factory.mktemp("data") / "blobs.h5")


def trainer(data, **fields) -> Trainer:
    made = Trainer(config(data, data.parent / "run", **fields), start(find_world({}), "cpu"), open_set(data))
    made.connect()
    return made


def gradient(data, **fields) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Of the first batch."""
    made = trainer(data, **fields)
    batch, noise_BZ = next(made.batches())
    terms = made.gradient(batch, noise_BZ, Reduction(made.batch_size))
    return {name: float(value) for name, value in terms.items()}, [p.grad.clone() for p in made.parameters]


def test_a_gradient_in_parts_decodes_no_more_than_a_part_at_once(data, monkeypatch) -> None:
    """Else --accumulate saves no memory."""
    decoded = []
    decode = Decoder.forward
    monkeypatch.setattr(Decoder, "forward", lambda self, z_BZ: decoded.append(len(z_BZ)) or decode(self, z_BZ))
    gradient(data, batch_size=100, accumulate=4)
    assert len(decoded) == 8 and sorted(set(decoded)) == [6, 7, 25]  # one in four is asked of


@pytest.mark.parametrize(
    "fields",
    [
        *(
            {"model": model}
            for model in ("aux-vae", "beta-vae", "idvae", "cvae", "ci-ivae", "beta-tcvae", "dip-vae-ii")
        ),
        *({"objective": objective} for objective in ("paper", "reference")),
        {"model": "ar-vae", "network": "mlp"},
    ],
)
@pytest.mark.parametrize("parts", [4, 7])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(data, fields, parts):
    """Autograd on the whole batch is the reference; 100 samples do not divide evenly by 7."""
    whole_terms, whole = gradient(data, dtype="float64", batch_size=100, **fields)
    terms, found = gradient(data, dtype="float64", batch_size=100, accumulate=parts, **fields)
    assert terms == pytest.approx(whole_terms, rel=1e-12)
    for expected, value in zip(whole, found, strict=True):
        assert (value - expected).norm() <= 1e-6 * expected.norm()


def test_bfloat16_leaves_codes_and_losses_in_full_precision(data):
    full_terms, full = gradient(data, batch_size=100)
    terms, coarse = gradient(data, batch_size=100, bf16=True)
    assert terms == pytest.approx(full_terms, rel=0.05)
    for expected, value in zip(full, coarse, strict=True):
        assert value.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(value.flatten(), expected.flatten(), dim=0) > 0.9
    made = trainer(data, bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        mean_BZ = made.model.encode(made.samples.batch(torch.arange(50)).images).mean
    assert mean_BZ.dtype == torch.float32
    assert not torch.equal(mean_BZ, mean_BZ.bfloat16().float()), "not rounded to 8 bits"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_stream_gives_the_samples_in_order(data, in_memory, monkeypatch):
    monkeypatch.setattr("hpcauxvae.data.samples._BLOCK_BYTES", 3 * 16 * 33 * 33 * 4)  # blocks of three steps
    opened = open_set(data)
    samples = Samples(opened, torch.device("cpu"), torch.float32, in_memory)
    index_SB = torch.randperm(160)[:160].view(10, 16)
    batches = list(samples.stream(index_SB))
    assert len(batches) == 10
    for index_B, batch in zip(index_SB, batches, strict=True):
        assert torch.equal(batch.index, index_B)
        np.testing.assert_array_equal(batch.images.numpy(), opened.images[index_B.numpy()])
        np.testing.assert_allclose(batch.factors.numpy(), opened.scaled()[index_B.numpy()], rtol=1e-6)
    assert list(samples.stream(index_SB[:0])) == []
    left_early = samples.stream(index_SB)
    next(left_early)
    reading = [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    assert len(reading) == (0 if in_memory else 1)
    left_early.close()
    assert not any(thread.is_alive() for thread in reading)


def test_the_noise_is_normal_and_of_each_sample_alone():
    index = torch.arange(20_000)
    z = noise(index, 10, torch.float64, 7, 2, 3)
    assert scipy.stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    correlation = np.corrcoef(torch.cat([z, z.roll(1, 0)], 1).T.numpy())
    assert np.abs(correlation - np.eye(20)).max() < 5 / np.sqrt(len(index))
    for other in ((7, 2, 4), (8, 2, 3)):
        assert abs(np.corrcoef(z.flatten(), noise(index, 10, torch.float64, *other).flatten())[0, 1]) < 0.01
    some = torch.tensor([3, 19_999, 3])
    assert torch.equal(noise(some, 10, torch.float64, 7, 2, 3), z[some])
    assert torch.equal(noise(some, 4, torch.float64, 7, 2, 3), z[some, :4])


def test_split_mix_gives_its_published_numbers():
    """Those that the reference implementation draws from the state 1234567."""
    drawn = [int(bits) % 2**64 for bits in split_mix(1234567, torch.arange(1, 4))]
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_order_is_a_permutation_that_the_key_decides():
    index = torch.arange(100, 200)
    assert torch.equal(shuffled(index, 1, 2).sort().values, index)
    assert torch.equal(shuffled(index, 1, 2), shuffled(index, 1, 2))
    assert not torch.equal(shuffled(index, 1, 2), shuffled(index, 1, 3))


def test_learning_rates_scale_and_warm_up(data):
    assert trainer(data, batch_size=16).optimizer.param_groups[0]["max_lr"] == 2e-3
    for scaling, factor in (("sqrt", 0.5), ("linear", 0.25)):  # a batch of 16 against the objective's 64
        scaled = trainer(data, batch_size=16, lr_scaling=scaling)
        assert scaled.optimizer.param_groups[0]["max_lr"] == pytest.approx(2e-3 * factor)
    rising = trainer(data, objective="paper", batch_size=28, warmup_epochs=1.0)  # four steps an epoch
    rates = []
    for batch, noise_BZ in rising.batches():
        rates.append(rising.optimizer.param_groups[0]["lr"])
        rising.train_step(batch, noise_BZ)
    rates.append(rising.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])


def test_a_gradient_is_cut_at_what_the_model_says_and_its_own_norm_is_told(data, monkeypatch):
    monkeypatch.setattr(AuxVAE, "largest_norm", lambda model, norm: 1e-3 * norm)
    made = trainer(data)
    made.train_step(*next(made.batches()))
    after = torch.nn.utils.get_total_norm([parameter.grad for parameter in made.parameters])
    assert after.item() == pytest.approx(1e-3 * made.totals["gradient_norm"].item(), rel=1e-4)
