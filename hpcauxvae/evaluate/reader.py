"""A network that reads the factors of an image, trained once for a data set on its training split alone.

It knows no run: what it finds in a decoded image tells whether the image shows what was asked for (control.py), and
what it finds in real test images is the ceiling. Shape legend in types.py; R numbers that are read: a
factor each, of a periodic one, both ends of which look the same, its cosine and sine, and of a categorical one that
guides by its classes the columns by which it does.
"""

import copy
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.splits import parts
from hpcauxvae.data.stored import images_in, in_pieces
from hpcauxvae.metrics.codes import columns_of
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.train import checkpoint
from hpcauxvae.types import By, Fold, InputError, Kind

READ = ("continuous", "ordinal", "periodic")
"""Kinds of factors that are read. Numbers stand for them, but not for the classes of a categorical factor, unless these
guide."""
FEWEST = 200
"""Training images without which there is no reader."""
_VERSION = 2  # of the network and its training: a reader of another version is trained anew
_PIXELS = 3.0e8  # shown in all, channels not counted: about a minute of one core
_MOST_EPOCHS = 40
_MOST_BYTES = 256 << 20  # of images held in memory
_SCALE_BYTES = 32 << 20  # of images, in float32, that the scales are taken from
_SIDE, _ROW = 64, 4096  # larger images, and longer ones of one row, are averaged down to it
_BATCH = 64
_LOOKS, _PATIENCE = 25, 8  # at the validation images
_RATE = 2e-3
_VALIDATION = _KNOWN = 2048


class Network(nn.Module):
    """(B, C, H, W) in linear data units -> R numbers, standardised.

    The image is seen on three scales: less the mean pixel over the standard deviation of all, the same through asinh,
    and divided by its own largest value. Convolutions of stride 2 halve it down to 4 pixels, and hidden layers follow;
    an image of at most 8 pixels has the hidden layers alone.
    """

    mean: Tensor
    deviation: Tensor
    centre_R: Tensor
    spread_R: Tensor

    def __init__(self, shape: tuple[int, int, int], numbers: int) -> None:
        super().__init__()
        channels, *size = shape
        self.pool = -(-max(size) // (_SIDE if min(size) > 1 else _ROW))
        for name, start in (("mean", 0), ("deviation", 1)):
            self.register_buffer(name, torch.full((channels, 1, 1), float(start)))
        for name, start in (("centre_R", 0), ("spread_R", 1)):
            self.register_buffer(name, torch.full((numbers,), float(start)))
        side = [-(-pixels // self.pool) for pixels in size]
        layers: list[nn.Module] = []
        before, widths = 3 * channels, [16, 32, 48, 64]
        while max(side) > (4 if layers else 8):
            after = widths.pop(0) if widths else 64
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
            before, side = after, [(pixels + 1) // 2 for pixels in side]
        layers.append(nn.Flatten())
        for inputs, outputs in ((before * side[0] * side[1], 256), (256, 64)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(64, numbers))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Standardised numbers (B, R)."""
        if self.pool > 1:
            images_BCHW = functional.avg_pool2d(images_BCHW, self.pool, ceil_mode=True, count_include_pad=False)
        scaled = (images_BCHW - self.mean) / self.deviation
        largest = images_BCHW.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(scaled.dtype).tiny)
        seen = torch.cat([scaled, torch.asinh(10 * scaled), images_BCHW / largest], 1)
        return torch.as_tensor(self.layers(seen))

    def features(self, images: NDArray) -> NDArray[np.float32]:
        """What the first hidden layer gives, (N, 256), of images (N, C, H, W) in linear data units."""
        first = next(number for number, layer in enumerate(self.layers) if isinstance(layer, nn.Linear))
        found: list[Tensor] = []
        hook = self.layers[first + 1].register_forward_hook(lambda _layer, _inputs, seen: found.append(seen))
        try:
            self.read(images, np.arange(len(images)))
        finally:
            hook.remove()
        return torch.cat(found).cpu().numpy()

    def standardise(self, images: NDArray, u_NR: NDArray) -> None:
        """Takes the scales from training images and numbers."""
        most = min(2048, images_in(_SCALE_BYTES, images.shape[1:]))
        some = images[:: -(-len(images) // most)].astype(np.float64)
        for buffer, values in (
            (self.mean, some.mean((0, 2, 3))[:, None, None]),
            (self.deviation, np.maximum(some.std((0, 2, 3)), 1e-30)[:, None, None]),
            (self.centre_R, np.nanmean(u_NR, 0)),
            (self.spread_R, np.nanstd(u_NR, 0)),
        ):
            buffer.copy_(torch.from_numpy(values))

    def standardised(self, u_NR: NDArray) -> Tensor:
        """Numbers as the network gives them."""
        return (self.tensor(u_NR) - self.centre_R) / self.spread_R

    @torch.no_grad()
    def read(self, images: Any, rows: NDArray) -> NDArray[np.float64]:
        """Numbers (N, R) of the images of these rows, (., C, H, W) in linear data units."""
        parts = [self(self.tensor(part)) for _, part in in_pieces(images, rows)]
        return (torch.cat(parts) * self.spread_R + self.centre_R).double().cpu().numpy()

    def tensor(self, values: NDArray) -> Tensor:
        """Numbers where the network is."""
        return torch.from_numpy(np.asarray(values)).to(self.centre_R.device, torch.float32)


class Reader(NamedTuple):
    """A trained network, and the factors that it reads."""

    network: Network
    columns: list[int]
    """Of the factors of the data set: first those that the network has numbers for, then those of `guides`."""
    kinds: list[Kind]
    """Of the first."""
    known_KF: NDArray[np.float32]
    """Features of training images."""
    guides: Sequence[tuple[Guide, int]] = ()
    """Whose columns follow from a factor that is read, and its place among the first."""

    def read(self, images: NDArray) -> NDArray[np.float64]:
        """Scaled factors (N, columns) of images (N, C, H, W) in linear data units; a periodic one in [0, 1)."""
        numbers, factors = iter(self.network.read(images, np.arange(len(images))).T), []
        for kind in self.kinds:
            first_N = next(numbers)
            factors.append(np.arctan2(next(numbers), first_N) / (2 * np.pi) % 1 if kind == "periodic" else first_N)
        for guide, place in self.guides:
            factors += list(guide.scaled(guide.factor.unscale(factors[place])).T)
        return np.stack(factors, 1)


def reader_of(
    data: ImageSet, split_seed: int, folder: Path, device: torch.device, by: By = "auto", fold: Fold | None = None
) -> Reader | None:
    """The reader of a data set: from the file beside it, or in `folder`; else it is trained, and kept there.

    folder: where it is kept if the folder of the data cannot be written; by, fold: how the set is split. None where
    too few training images are there. Raises InputError where no folder takes the file.
    """
    train, validation, _ = parts(data, split_seed, by, fold)
    columns = [number for number, factor in enumerate(data.factors[: data.own]) if factor.kind in READ]
    classes = [column for guide in data.guides if guide.by_classes for column in _columns(data, guide)]
    others = [guide for guide in data.guides if not (guide.plain or guide.by_classes)]
    places = [columns.index(data.column([guide.factor.name])[0]) for guide in others]
    columns += classes
    kinds = [data.factors[column].kind for column in columns]
    if len(train) < FEWEST or not columns:
        return None
    identity = {
        "reader": _VERSION,
        "fingerprint": data.fingerprint,
        "trained_on": hashlib.sha256(np.sort(train).astype("<i8").tobytes()).hexdigest()[:16],
        "factors": [data.factors[column].record() for column in columns],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(data.shape, len(columns) + kinds.count("periodic")).to(device)
    of = "" if fold is None else f"-fold{fold.number}of{fold.of}"
    of += f"-{hashlib.sha256(repr(identity['factors']).encode()).hexdigest()[:8]}" if classes else ""
    name = f"{data.path.stem}.reader-{data.fingerprint}-{split_seed}{of}.safetensors"
    paths = [place / name for place in (data.path.parent, folder)]
    if not any(_load(network, path, identity) for path in paths):
        its = "" if fold is None else f", fold {fold.number} of {fold.of}"
        print(f"training a reader of the factors, once for {data.path}{its}", file=sys.stderr, flush=True)
        _train(network, data, columns, train, validation)
        _keep(network, paths, identity)
    known = np.sort(np.random.default_rng(0).permutation(train)[: min(_KNOWN, images_in(_SCALE_BYTES, data.shape))])
    columns += [column for guide in others for column in _columns(data, guide)]
    features = network.features(np.array(data.images[known]))
    return Reader(network.eval(), columns, kinds, features, list(zip(others, places, strict=True)))


def _columns(data: ImageSet, guide: Guide) -> list[int]:
    return data.column([column.name for column in guide.columns])


def _keep(network: Network, paths: list[Path], identity: dict[str, Any]) -> None:
    for path in paths:
        try:
            checkpoint.write(path, network.state_dict(), identity)
        except InputError:
            if path == paths[-1]:
                raise
        else:
            print(f"the reader is kept as {path}", file=sys.stderr, flush=True)
            return


def _load(network: Network, path: Path, identity: dict[str, Any]) -> bool:
    """Whether a file holds the weights of this very reader, which the network then has."""
    if not path.is_file():
        return False
    try:
        tensors, state = checkpoint.read(path)
        if state != identity:
            return False
        network.load_state_dict(tensors)
    except (InputError, RuntimeError) as error:
        if memory_fault(error):
            raise
        print(f"warning: {error}; the reader is trained anew", file=sys.stderr, flush=True)
        return False
    return True


def _train(network: Network, data: ImageSet, columns: list[int], train: NDArray, validation: NDArray) -> None:
    """Least squares of the standardised numbers by Adam, a missing label left out; kept is what validates best.

    The number of steps depends on sizes alone, never on the clock.
    """
    rng = np.random.default_rng(0)
    most = max(FEWEST, _MOST_BYTES // (int(np.prod(data.shape)) * data.images.dtype.itemsize))
    shown, held_out = np.sort(rng.permutation(train)[:most]), np.sort(rng.permutation(validation)[:_VALIDATION])
    images, u_NF = np.array(data.images[shown]), data.scaled()
    u_NR = np.concatenate([columns_of(u_NF[:, column], data.factors[column].kind) for column in columns], 1)
    network.standardise(images, u_NR[shown])
    targets_NR = network.standardised(u_NR)
    pixels = int(np.prod([-(-side // network.pool) for side in data.shape[1:]]))
    steps = max(_LOOKS, int(min(_PIXELS / pixels, _MOST_EPOCHS * len(shown))) // _BATCH)
    order = np.concatenate([rng.permutation(len(shown)) for _ in range(-(-steps * _BATCH // len(shown)))])
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.2)
    best, weights, since = np.inf, network.state_dict(), 0
    with Progress(steps, "step", title="training a reader of the factors", lines_to=sys.stderr) as progress:
        for step in range(1, steps + 1):
            batch = order[(step - 1) * _BATCH : step * _BATCH]
            optimizer.zero_grad()
            _loss(network(network.tensor(images[batch])), targets_NR[shown[batch]]).backward()
            optimizer.step()
            schedule.step()
            progress.advance()
            if step % (steps // _LOOKS) == 0:
                error = float(_loss(network.standardised(network.read(data.images, held_out)), targets_NR[held_out]))
                if error < best:
                    best, weights, since = error, copy.deepcopy(network.state_dict()), -1
                since += 1
                if since == _PATIENCE:
                    break
            if progress.is_due():
                progress.say(f"validation error {best:.4f} of the variance")
    network.load_state_dict(weights)


def _loss(read_BR: Tensor, u_BR: Tensor) -> Tensor:
    """Mean squared error, labels that are missing left out."""
    measured = ~u_BR.isnan()
    return torch.where(measured, read_BR - u_BR.nan_to_num(), 0).square().sum() / measured.sum().clamp(min=1)
