"""An audit: `hpcauxvae audit RUN --candidate NAME` -> audit.json, a page and pictures."""

import sys
from pathlib import Path
from typing import Any

import hpcauxvae
from hpcauxvae.audit.command import ALL, AuditConfig
from hpcauxvae.audit.findings import Auditor, Found
from hpcauxvae.audit.verdict import VERDICTS, cautions, chance, in_words, interval, verdict
from hpcauxvae.runtime.files import refuse_unwritable, write_json
from hpcauxvae.runtime.progress import Progress
from hpcauxvae.runtime.stop_requests import FINISHED

RESULT, PAGE, PICTURES = "audit.json", "audit.html", "audit"
OVERVIEW, CHANGES = "overview.png", "change-[0-9]*.png"
HEAD = ("candidate", "in the code", "by a reader", "in the others", "added", "p", "verdict")


def audit(config: AuditConfig) -> int:
    """Does what the command asks; the exit code. Raises InputError."""
    run, names, gains = config.source, () if config.candidate == ALL else config.names, dict[str, Any]()
    out = config.out or (config.source if config.source.is_dir() else Path("audit"))
    if not config.source.is_dir():
        from hpcauxvae.audit.trainings import WITHOUT, fit_to_ask, gain_of_each, train_without

        names = fit_to_ask(config)
        if (code := train_without(config, out)) != FINISHED:
            return code
        run = out / WITHOUT
        if config.with_candidate:
            code, gains = gain_of_each(config, names, out)
            if code != FINISHED:
                return code
    found = audited(config, run, out, names, gains)
    print(table(found))
    for of in found["candidates"].values():
        print(of["words"])
        for line in (*of["cautions"], *([of["likelihood"]["words"]] if of["likelihood"] else [])):
            print(f"  {line}")
    drawn = f", {out / PICTURES}/" if config.pictures else ""
    print(f"written: {out / RESULT}{drawn}; to look at: {out / PAGE}", flush=True)
    return 0


def audited(config: AuditConfig, run: Path, out: Path, names: tuple[str, ...], gains: dict[str, Any]) -> dict[str, Any]:
    """What audit.json holds, which is written, with page and pictures.

    names: of the candidates, none for all; gains: of the likelihood, by candidate.
    """
    from hpcauxvae.audit import page

    auditor = Auditor(
        run, out, names, data=config.data, seed=config.seed, checkpoint=config.checkpoint, device=config.device
    )
    out.mkdir(parents=True, exist_ok=True)
    refuse_unwritable(out, "; --out names another folder")
    found: dict[str, Any] = {
        "hpcauxvae": hpcauxvae.__version__,
        "settings": config.to_json(),
        "run": str(run),
        "data": str(auditor.data.path),
        "aux": list(auditor.aux),
        "level": config.level,
        "latents": {
            "of": len(auditor.off_Z),
            "guided": auditor.guided,
            "residual_in_use": int((~auditor.off_Z[auditor.guided :]).sum()),
        },
        "copies": auditor.evaluator.copies.get("test", []),
        "candidates": {},
    }
    changes: dict[str, Found] = {}
    errors = auditor.labels_with_errors()
    with Progress(len(auditor.candidates), "candidate", title="audit", lines_to=sys.stderr) as progress:
        for candidate in auditor.candidates:
            one = auditor.of(candidate)
            numbers = one.numbers | {"label_errors": errors, "likelihood": gains.get(candidate.name)}
            kind = verdict(numbers, config.level)
            said = in_words(candidate.name, numbers, config.level)
            found["candidates"][candidate.name] = numbers | {
                "verdict": kind,
                "words": said,
                "cautions": cautions(numbers),
            }
            if config.pictures and kind in ("adds", "both"):
                name = f"change-{len(found['candidates'])}.png"
                found["candidates"][candidate.name]["picture"] = f"{PICTURES}/{name}"
                changes[name] = one
            progress.advance()
            if progress.is_due():
                progress.say(f"{candidate.name}: {VERDICTS[kind]}")
    if config.pictures:
        _draw(auditor, found, changes, out / PICTURES)
    write_json(out / RESULT, found)
    page.write(out, found)
    return found


def _draw(auditor: Auditor, found: dict[str, Any], changes: dict[str, Found], folder: Path) -> None:
    """Draws all pictures in place of those of an earlier audit; other files in the folder stay."""
    from hpcauxvae.audit import pictures

    folder.mkdir(exist_ok=True)
    for path in (folder / OVERVIEW, *folder.glob(CHANGES)):
        path.unlink(missing_ok=True)
    for name, one in changes.items():
        pictures.change(auditor, one, folder / name)
    pictures.overview(found, folder / OVERVIEW)


def rows(found: dict[str, Any]) -> list[list[str]]:
    """A row of `HEAD` for each candidate."""
    lines = []
    for name, of in found["candidates"].items():
        residual, reader = of["beyond"]["residual"], of["reader"]
        told = [interval(of["latents"]["r2"]), interval(reader["r2"]) if reader else "–", interval(of["others"]["r2"])]
        lines.append([name, *told, interval(residual["gain"]), chance(residual["p"]), VERDICTS[of["verdict"]]])
    return lines


def table(found: dict[str, Any]) -> str:
    """As printed."""
    lines = [list(HEAD), *rows(found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])
