"""Pictures for TensorBoard during a training: validation images beside their reconstructions, guided latents against
their factors. They draw from no generator of the training, and their cost is counted.

Shape suffixes: N images, C channels, H height, W width, P shades of a picture.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.runtime.devices import free_memory
from hpcauxvae.runtime.files import whole
from hpcauxvae.train.tracking import RECONSTRUCTIONS
from hpcauxvae.train.trainer import Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from hpcauxvae.data.drawing import Look

_SHARE = 0.008
"""Of the time since the start, that pictures may take."""
_FIRST_S = 1.0
"""What the first of them are taken to cost: matplotlib is loaded for them."""
_TIMES, _IMAGES = 20, 8  # of a run; side by side
_SIDE, _GAP = 96, 4  # pixels of an image in the picture, at least where it can be enlarged; between two
_FACTORS, _CELLS = 8, 64  # whose codes are drawn; in each direction
_BELOW, _ABOVE = -0.25, 1.25  # of a latent, whose factor is scaled to [0, 1]


class Pictures:
    """Of a training that this rank records."""

    def __init__(self, trainer: Trainer, board: "SummaryWriter | None", folder: Path) -> None:
        """board: None: nothing is drawn. folder: the run's, which has the newest reconstructions as a file too."""
        self.trainer, self.board, self.folder = trainer, board, folder
        self._began, self._spent, self._next = time.monotonic(), 0.0, _FIRST_S
        self._every = max(1, -(-trainer.config.epochs // _TIMES))

    def draw(self, codes: Codes | None) -> None:
        """After an epoch, if it is their turn and they cost no more than their share; a fault ends them, nothing else.

        codes: of the validation split.
        """
        epoch, now = self.trainer.epoch, time.monotonic()
        turn = epoch % self._every == 0 or epoch == self.trainer.config.epochs
        if self.board is None or not turn or self._spent + self._next > _SHARE * (now - self._began):
            return
        try:
            self._draw(self.board, codes)
        except Exception as error:  # of hours of training for a picture
            print(f"warning: no more pictures for TensorBoard: {error}", file=sys.stderr, flush=True)
            self.board = None
        self._next = time.monotonic() - now
        self._spent += self._next

    def _draw(self, board: "SummaryWriter", codes: Codes | None) -> None:
        from PIL import Image

        from hpcauxvae.data import drawing

        validation, epoch = self.trainer.validation_index, self.trainer.epoch
        originals_NCHW, drawn_NCHW = self._reconstructed(validation[drawing.spread(len(validation), _IMAGES)])
        picture_HWP = beside(originals_NCHW, drawn_NCHW, drawing.look_of(self.trainer.samples.data))
        board.add_image("reconstructions", picture_HWP, epoch, dataformats="HWC")
        with whole(self.folder / RECONSTRUCTIONS) as part:
            Image.fromarray(picture_HWP).save(part, "png")
        if codes is not None and self.trainer.model.GUIDED:
            for column, name in enumerate(codes.aux_names[:_FACTORS]):
                shades_HW = scatter(codes.aux_ND[:, column], codes.mean_NZ[:, column])
                board.add_image(f"codes/{name}", shades_HW, epoch, dataformats="HW")

    @torch.no_grad()
    def _reconstructed(self, index_N: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """These images and what the decoder makes of their means, upright, NaN where a pixel is missing."""
        from hpcauxvae.data import drawing

        trainer, model, device = self.trainer, self.trainer.model, self.trainer.processes.device
        batch, training = trainer.samples.batch(index_N), model.training
        own = {"device_type": device.type} if free_memory(device) is not None else {}
        with torch.random.fork_rng([device] if own else [], **own):  # of a model that draws where others do not
            model.eval()
            try:
                drawn = model.decode(model.encode(batch.shown(), model.factors(batch)).mean)
            finally:
                model.train(training)
        both = (images.double().cpu().numpy() for images in (batch.shown(), drawn))
        originals_NCHW, drawn_NCHW = (drawing.upright(images, trainer.samples.data) for images in both)
        return originals_NCHW, drawn_NCHW


def beside(originals_NCHW: NDArray, drawn_NCHW: NDArray, look: "Look") -> NDArray[np.uint8]:
    """(H, W, 3): originals over reconstructions on one scale, that of the originals, as `evaluate` draws them.

    look: of their set (data/drawing.py).
    """
    from hpcauxvae.data import drawing

    drawn_NCHW = look.hidden(drawn_NCHW)
    scale = drawing.scale_of(originals_NCHW, look)
    if originals_NCHW.shape[2] == 1:
        figure, axes = drawing.sheet(2, len(originals_NCHW), 1.5 * len(originals_NCHW), 2.2)
        for ax, image_CHW in zip(axes.flat, (*originals_NCHW, *drawn_NCHW), strict=True):
            drawing.bare(ax)
            drawing.stamp(ax, image_CHW, scale)
        figure.canvas.draw()
        return np.array(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    times = max(1, _SIDE // max(originals_NCHW.shape[2:]))
    rows = [np.concatenate([_framed(drawing.shade(image, scale), times) for image in images], 1)
            for images in (originals_NCHW, drawn_NCHW)]  # fmt: skip
    return np.concatenate(rows)


def _framed(shades_HWP: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """An image of red, green, blue, so many times as large, with white on its right and below."""
    large_HWP = shades_HWP[..., :3].repeat(times, 0).repeat(times, 1)
    return np.pad(large_HWP, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)


def scatter(u_N: NDArray, z_N: NDArray) -> NDArray[np.float64]:
    """(H, W) from 0, most samples, to 1, none: a factor in [0, 1] to the right, its latent up, a line where they agree.

    Samples without the factor are left out; latents beyond -0.25 to 1.25 lie on the edge.
    """
    known_N = ~np.isnan(u_N)
    z_N = z_N[known_N].clip(_BELOW, _ABOVE)
    counts, _, _ = np.histogram2d(z_N, u_N[known_N].clip(0, 1), bins=_CELLS, range=[[_BELOW, _ABOVE], [0, 1]])
    shades = 1 - np.sqrt(counts / max(1, counts.max()))
    centres = (np.arange(_CELLS) + 0.5) / _CELLS
    rows = ((centres - _BELOW) / (_ABOVE - _BELOW) * _CELLS).astype(int)
    shades[rows, np.arange(_CELLS)] = np.minimum(shades[rows, np.arange(_CELLS)], 0.85)
    return np.kron(shades[::-1], np.ones((3, 3)))
