"""Evaluation of a run: `python -m hpcauxvae.evaluate runs/x` -> metrics.json, codes.h5 and pictures in its folder.

Shape legend in types.py. The scores are those of hpcauxvae/metrics, each beside its ceiling.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import hpcauxvae
from hpcauxvae.data import drawing
from hpcauxvae.data.beside import ids_bytes, put_ids
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.functions import functions_of
from hpcauxvae.data.guides import guided, guides_in, guiding, spans
from hpcauxvae.data.hdf5 import ImageSet, check_pixels, open_set, reopen, whole_file
from hpcauxvae.data.missing import Filled, scored_by, shown
from hpcauxvae.data.pixels import beyond
from hpcauxvae.evaluate import control, pictures, views
from hpcauxvae.evaluate.baselines import Baselines
from hpcauxvae.evaluate.by_factor import by_factor, in_units, in_words
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.curves import training_curves
from hpcauxvae.evaluate.effects import STILL, effects, follows, rows_of
from hpcauxvae.evaluate.factor_pictures import draw_factors
from hpcauxvae.evaluate.reader import Reader, reader_of
from hpcauxvae.evaluate.records import write_metrics
from hpcauxvae.evaluate.set_pictures import PICTURES
from hpcauxvae.evaluate.sets import check_noiseless, copies, looked_at, refuse_missing, same_samples, warn_if_unlike
from hpcauxvae.evaluate.training import training
from hpcauxvae.evaluate.traversal import traversal
from hpcauxvae.evaluate.verdicts import verdicts
from hpcauxvae.metrics import Codes, score_codes, score_images
from hpcauxvae.metrics.codes import FEWEST, correlated, off
from hpcauxvae.metrics.joint import joint
from hpcauxvae.metrics.objects import objects
from hpcauxvae.metrics.random_features import random_features
from hpcauxvae.metrics.reading import read, readings
from hpcauxvae.runtime.devices import device_of, place
from hpcauxvae.runtime.files import refuse_unwritable
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.threads import leave_room
from hpcauxvae.train import checkpoint
from hpcauxvae.train.preparation import about_reach
from hpcauxvae.train.run import Run, check_factors, load_run, summary_of, training_set
from hpcauxvae.train.tracking import history
from hpcauxvae.types import InputError


class Later:
    """Images (M, C, H, W), each read or decoded when it is asked for, by a slice or an index."""

    def __init__(self, make: Callable[[np.ndarray], np.ndarray], of: np.ndarray, shape: Sequence[int]) -> None:
        """make: the images of some rows of `of`."""
        self.make, self.of, self.shape = make, of, (len(of), *shape)

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.make(self.of[rows])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """One set of samples under a model."""

    name: str
    data: ImageSet
    index_N: np.ndarray
    """Which samples of the data set."""
    mean_NZ: np.ndarray
    logvar_NZ: np.ndarray
    originals: np.ndarray | Later
    """(M, C, H, W), the first M of the N samples; linear data units."""
    reconstructions: np.ndarray | Later
    """(M, C, H, W), decoded from the posterior means."""
    noiseless: np.ndarray | Later | None
    """(M, C, H, W), where there is such a file."""

    def weights(self) -> Later | None:
        """Of the M images, as Filled has them; None where none is missing and no noise is known."""
        found = self.data.images
        if not isinstance(found, Filled):
            return None
        return Later(lambda rows: scored_by(found, rows), self.index_N[: len(self.originals)], self.data.shape)

    def sampled(self, seed: int) -> np.ndarray:
        """Codes z drawn from the posteriors, (N, Z)."""
        noise_NZ = np.random.default_rng(seed).standard_normal(self.mean_NZ.shape)
        return np.asarray(self.mean_NZ + np.exp(self.logvar_NZ / 2) * noise_NZ)


class Evaluator:
    """A run, its data and the questions asked of it."""

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.run: Run = load_run(config.run, checkpoint.BY_NAME[config.checkpoint])
        self.device = device_of(find_world(), config.device)
        leave_room(find_world(), self.device)
        self.history = history(config.run)
        self.training = training(self.run, self.history, config.checkpoint)
        self.model = self.run.model
        place(self.model, self.device)
        self.data = training_set(self.run, config.data)
        check_pixels(self.data)
        self.aux = [self.data.factors[column].name for column in guiding(self.data, self.run.config.aux_names)]
        self.fresh = self._open_fresh(config.fresh) if config.fresh else None
        self.noiseless = [in_order_of(open_set(path), self.run.known) for path in config.noiseless]
        check_noiseless(self.noiseless, [self.data] if self.fresh is None else [self.data, self.fresh])
        self.parts = self.run.parts(self.data)
        self.data, seen = looked_at(self.data)
        self.seen = {"test": seen}
        if self.fresh is not None:
            self.fresh, self.seen["fresh"] = looked_at(self.fresh)
            warn_if_unlike(self.fresh, self.run, summary_of(self.run, self.data))
        self.copies = copies(self.data, self.fresh, self.seen, self.parts, self.run.config.split_seed)

    def _open_fresh(self, path: Path) -> ImageSet:
        fresh = in_order_of(open_set(path), self.run.known)
        check_pixels(fresh)
        check_factors(fresh, self.run)
        fresh = guided(fresh, self.run.guides)
        refuse_missing(fresh, self.run)
        if fresh.shape != self.data.shape:
            raise InputError(f"{path}: images of {fresh.shape}; allowed: those of {self.data.path}, {self.data.shape}")
        if fresh.fingerprint == self.data.fingerprint:
            raise InputError(f"{path}: is the data set that the run was trained on; allowed: another one")
        return fresh

    def sets(self) -> Iterator[Scored]:
        """The test split and, where given, the fresh set."""
        yield self._score_set("test", self.data, self.parts[2])
        if self.fresh is not None:
            yield self._score_set("fresh", self.fresh, np.arange(len(self.fresh)))

    def _score_set(self, name: str, data: ImageSet, index_N: np.ndarray) -> Scored:
        index_N = np.sort(index_N)
        labels_ND = data.scaled()[index_N][:, data.column(self.aux)]
        mean_NZ, logvar_NZ = self.run.encode(data.images, labels_ND, index_N)
        outside = beyond(data.images, index_N, *self.model.reach())
        for line in about_reach(self.model, self.run.config, outside, len(index_N), f"{name} pixels in {data.path}"):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        shown = index_N[: self.config.images]
        match = next((s for s in self.noiseless if same_samples(s, data)), None)
        return Scored(
            name=name,
            data=data,
            index_N=index_N,
            mean_NZ=mean_NZ,
            logvar_NZ=logvar_NZ,
            originals=_stored(data, shown),
            reconstructions=Later(self.run.decode, mean_NZ[: self.config.images], data.shape),
            noiseless=None if match is None else _stored(match, shown),
        )

    @cached_property
    def reader(self) -> Reader | None:
        """Of the factors of an image; trained on the first call unless it lies beside the data set."""
        folder = self.config.out or self.config.run
        own = self.run.config
        return reader_of(self.data, own.split_seed, folder, self.device, self.run.split, own.own_fold)

    def counterfactuals(self, scored: Scored) -> control.Counterfactuals | None:
        """Images of a set with the factors of others; None where they are not wanted, or cannot be asked for."""
        if not (self.config.control and self._guiding()):
            return None
        return control.counterfactuals(self.run, scored.data, scored.index_N, self.config.seed)

    def true_views(self, scored: Scored) -> views.Views | None:
        """Images asked to look as another of the same object; None as `counterfactuals`, or without objects."""
        if not (self.config.control and self._guiding()):
            return None
        train = self.parts[0] if scored.data is self.data else np.empty(0, np.int64)
        return views.views(self.run, scored.data, scored.index_N, train, self.aux, self.config.seed)

    def scores(
        self, scored: Scored, asked: control.Counterfactuals | None = None, turned: views.Views | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The block of metrics.json for a set, and the image scores of each of its M images.

        Beside these `regressed`, what the ridge regression says of the guided factors, (N, D) in their units.
        Without auxiliary factors there are no scores of codes.
        """
        maximum, factors = float(self.model.maximum), scored.data.factors
        aux, own = scored.data.column(self.aux), scored.data.column(self._guiding())
        weights = scored.weights()
        images = score_images(scored.originals, scored.reconstructions, maximum, self.run.at_once, weights)
        block: dict[str, Any] = {
            "data": str(scored.data.path),
            "training": self.training,
            "copies": self.copies.get(scored.name, []),
            "codes": {},
            "latents": self._latents(scored, len(own)),
            "images": images.means,
            "baselines": self.baselines.images(scored.originals, maximum, weights),
        }
        per_image = dict(images.per_image)
        if own:
            told_ND = self.baselines.regressed(scored.data, scored.index_N, own)
            columns = [factors[column] for column in own]
            per_image["regressed"] = in_units(told_ND, columns)
        if aux and _measured(scored, aux, "without it no code is scored") == aux:
            codes = self._codes(scored, aux)
            block |= {"codes": score_codes(codes), "correlated": correlated(codes)}
            if own:
                block["reading"] = readings(codes, columns)
                for c, told_N in zip(own, told_ND.T, strict=True):
                    plain = read(scored.data.scaled()[scored.index_N, c], told_N, factors[c])
                    block["reading"][factors[c].name]["regressor"] = {key: plain[key] for key in ("r", "error")}
                told = {
                    "latents": in_units(scored.mean_NZ[:, : len(own)], columns),
                    "regressor": per_image["regressed"],
                }
                block["factors"] = by_factor(scored.data.guides, scored.data.values[scored.index_N][:, own], told)
                block |= {"joint": joint(codes), "random_features": random_features(codes)}
        if scored.noiseless is not None:
            ceiling = score_images(scored.originals, scored.noiseless, maximum, self.run.at_once, weights)
            block["noiseless"] = ceiling.means
            per_image["ssim_noiseless"] = ceiling.per_image["ssim"]
        if asked is not None:
            block["control"] = control.score(asked, self.reader, scored.data, self.aux)
        if turned is not None:
            block["views"] = views.score(turned, maximum)
        block["verdicts"] = verdicts(block)  # last: they look at all the others
        return block, per_image

    def _latents(self, scored: Scored, guided: int) -> dict[str, Any]:
        """Which are off, and which of the others, unless a factor guides them, draw nothing; the rest is in use."""
        off_Z = off(scored.mean_NZ, scored.logvar_NZ)
        asked_Z = ~off_Z & (np.arange(len(off_Z)) >= guided)
        rows = rows_of(len(scored.index_N), scored.data.shape)  # no more are read
        seen = shown(scored.data.images, scored.index_N[rows])
        effect_Z = effects(self.run, seen, scored.mean_NZ[rows], asked_Z)
        still_Z = asked_Z & (effect_Z < STILL)
        return {
            "in_use": int((~off_Z & ~still_Z).sum()),
            "of": len(off_Z),
            "guided": guided,
            "off": (np.flatnonzero(off_Z) + 1).tolist(),
            "still": (np.flatnonzero(still_Z) + 1).tolist(),
            "follows": follows(scored.data, scored.index_N, scored.mean_NZ, asked_Z & ~still_Z),
            "effect": {str(number + 1): float(effect_Z[number]) for number in np.flatnonzero(asked_Z)},
        }

    def _codes(self, scored: Scored, aux: list[int]) -> Codes:
        factors, values_NF = scored.data.factors, scored.data.scaled()[scored.index_N]
        stood_for = scored.data.column([guide.factor.name for guide in scored.data.guides])
        sources = {*aux, *stood_for}
        others = [c for c in range(len(factors)) if c not in sources]
        follow = functions_of(scored.data.values, sources, others)  # what guides tells them by itself
        others = [c for c in others if c not in follow]
        hidden = _measured(scored, others, "left out of the scores")
        return Codes(
            mean_NZ=scored.mean_NZ,
            logvar_NZ=scored.logvar_NZ,
            aux_ND=values_NF[:, aux],
            hidden_NH=values_NF[:, hidden],
            aux_names=self.aux,
            hidden_names=[factors[c].name for c in hidden],
            seed=self.config.seed,
            aux_kinds=[factors[c].kind for c in aux],
            errors_ND=scored.data.scaled_errors(scored.index_N, aux),
            object_N=objects(scored.data.values[scored.index_N], self.seen[scored.name].digest[scored.index_N]),
        )

    @cached_property
    def baselines(self) -> Baselines:
        """The plain methods, fitted when they are first asked for."""
        return Baselines(self.data, self.parts[0], self.run.config.latents)

    def draw(self, scored: Scored, block: dict[str, Any], per_image: dict[str, np.ndarray], folder: Path) -> None:
        """The pictures of a set of samples, into a folder."""
        data, own = scored.data, self._guiding()
        guides = guides_in(data, own) if own else ()
        if data.factors:
            z_NZ = scored.sampled(self.config.seed)
            draw_factors(data, scored.index_N, z_NZ, scored.mean_NZ, guides, own, block, folder, scored.name)
        for kind, picture in PICTURES.items():
            picture(scored, block, folder / f"{kind}-{scored.name}.png")
        groups = {self.run.config.model: per_image["ssim"]}
        ceiling = "noiseless truth" if "ssim_noiseless" in per_image else None
        if ceiling:
            groups[ceiling] = per_image["ssim_noiseless"]
        if block["images"]["ssim"]["n"]:
            pictures.ssim_boxplot(groups, folder / f"ssim-{scored.name}.png", ceiling=ceiling)
        images, row_names, labels = self.traversal(scored)
        for number, guide in enumerate(guides if block.get("reading") else ()):
            name, of = guide.factor.name, block["factors"]
            read_as = in_words(of[name]["latents"], of[name]) if name in of else ""
            row_names[number] += f"\nread: {read_as or pictures.read_as(block['reading'][guide.columns[0].name])}"
            turned = block.get("views")
            if (
                turned
                and turned["share"]
                and guide.factor.name != turned["objects"]
                and len(guides) - turned["guides"] == 1
            ):
                row_names[number] += f"\ndrawn: {turned['share']['value']:.2f} of the way"
        first_rows = {span.start: row for row, span in enumerate(spans(guides))}
        others = len(row_names) - scored.mean_NZ.shape[1]
        for number, word in pictures.idle(block["latents"]).items():
            row = first_rows.get(number - 1) if number <= len(own) else number - 1 + others
            if row is not None and (row >= len(guides) or guides[row].plain):
                row_names[row] += f"\n{word}"
        path = folder / f"traversal-{scored.name}.png"
        look = drawing.look_of(data)
        pictures.traversal(drawing.upright(images, data), row_names, labels, path, look=look, differences=True)

    def traversal(self, scored: Scored) -> tuple[np.ndarray, list[str], list[list[str]]]:
        """As traversal.traversal, of a set."""
        names = self._guiding()
        guides = guides_in(scored.data, names) if names else ()
        return traversal(self.run, scored.data, scored.mean_NZ, guides)

    def _guiding(self) -> list[str]:
        """The auxiliary variables that guide a latent: none in a model that was not told of them."""
        return self.aux if self.run.model.GUIDED else []


def _stored(data: ImageSet, index_N: np.ndarray) -> Later:
    return Later(lambda index: np.array(data.images[index]), index_N, data.shape)


def _measured(scored: Scored, columns: list[int], otherwise: str) -> list[int]:
    """Those of these factors that are known in enough samples for a score; the others are named in a warning."""
    known_F = np.count_nonzero(~np.isnan(scored.data.values[scored.index_N]), 0)
    for column in columns:
        if known_F[column] < FEWEST:
            print(
                f"warning: {scored.data.path}: factors, {scored.data.factors[column].name}: measured in "
                f"{known_F[column]} of {len(scored.index_N)} {scored.name} samples, but a score needs {FEWEST}: "
                f"{otherwise}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return [column for column in columns if known_F[column] >= FEWEST]


def write_codes(path: Path, scored: Scored, per_image: dict[str, np.ndarray], weights: str) -> None:
    """Means, log-variances, factors and image scores of a set in the order of the data, with their numbers and ids.

    weights: the digest of those that made them.

    An older file is replaced in one step. Raises InputError where the disk does not take it.
    """
    content = {"index": scored.index_N, "mean": scored.mean_NZ, "logvar": scored.logvar_NZ} | per_image
    content["factors"] = scored.data.values[scored.index_N]
    ids = None if scored.data.id is None else scored.data.id[scored.index_N]
    n_bytes = sum(values.nbytes for values in content.values()) + ids_bytes(ids)
    with whole_file(path, n_bytes, replace=True) as part, reopen(part) as file:
        put_ids(file, ids)
        for name, values in content.items():
            file[name] = values
        file["factors"].attrs["name"] = [factor.name for factor in scored.data.factors]
        file.attrs["data"], file.attrs["weights"] = str(scored.data.path), weights


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Scores a run and draws its pictures into its folder; returns what metrics.json holds. Raises InputError."""
    evaluator = Evaluator(config)
    out = config.out or config.run
    folder = out / "pictures"
    (folder if config.pictures else out).mkdir(parents=True, exist_ok=True)
    refuse_unwritable(out, "; --out names another folder")
    metrics: dict[str, Any] = {
        "hpcauxvae": hpcauxvae.__version__,
        "settings": config.to_json(),
        "epoch": evaluator.training["epoch"],
        "epochs": evaluator.training["epochs"],
        "sets": {},
    }
    (out / "metrics.json").unlink(missing_ok=True)  # it comes last: never beside the codes of another evaluation
    for scored in evaluator.sets():
        print(f"scoring {scored.name}: {len(scored.index_N)} samples", file=sys.stderr, flush=True)
        asked = evaluator.counterfactuals(scored)
        turned = evaluator.true_views(scored)
        block, per_image = evaluator.scores(scored, asked, turned)
        metrics["sets"][scored.name] = block
        write_codes(out / f"codes-{scored.name}.h5", scored, per_image, evaluator.run.digest)
        if config.pictures:
            print(f"drawing {scored.name}", file=sys.stderr, flush=True)
            evaluator.draw(scored, block, per_image, folder)
            if asked is not None:
                path = folder / f"control-{scored.name}.png"
                control.draw(asked, evaluator.reader, scored.data, evaluator.aux, path)
            if turned is not None:
                views.draw(turned, scored.data, folder / f"views-{scored.name}.png")
    if config.pictures and evaluator.history:  # none in a run that stopped in its first epoch
        training_curves(evaluator.history, folder / "training.png")
    write_metrics(out / "metrics.json", metrics)
    return metrics
