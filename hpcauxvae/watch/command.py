"""`hpcauxvae watch RUN`: how a training goes, drawn anew in place on a terminal, or a line an epoch in a log."""

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcauxvae.runtime import terminal
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.progress import time_left
from hpcauxvae.runtime.stop_requests import FAILED, FINISHED, MORE_TO_DO
from hpcauxvae.types import InputError

if TYPE_CHECKING:  # a command line is read before anything heavy is imported
    from hpcauxvae.watch.state import State

_WAY = 32  # epochs in the way of a number
_NAMED = 12  # guided latents in a line
_BETWEEN_S = 60.0
"""Of several runs none runs between two of a search, or of a queue: so long after the last sign that is the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Follows a training by the files of its folder, wherever it runs, and ends with it.

    Exit codes: 0 finished, 75 stopped on request, 1 failed; a job that was stopped is waited for, because its script
    puts it back into the queue. Ctrl-C ends the watching, never the training.
    """

    run: Path
    """Folder of a training run; or one with several, such as a search, of which each has a line."""
    once: bool = False
    """Show how it is now, and end: with 0 while it runs."""
    every: float = 2.0
    """Seconds between two looks."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.every <= 3600:
            raise InputError(f"every = {self.every}; allowed: 0.1 to 3600")


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae watch`."""
    config = parse(WatchConfig, argv, "hpcauxvae watch")
    from hpcauxvae.watch.state import runs_in

    runs_in(config.run)
    if config.once:
        states = _states(config.run)
        print("\n".join(_picture(config.run, states, time.time())))
        return _code(states)
    return _on_screen(config) if sys.stdout.isatty() else _in_lines(config)


def _states(folder: Path) -> "list[State]":
    from hpcauxvae.watch.state import look, runs_in

    return [look(run, time.time()) for run in runs_in(folder)]


def _on_screen(config: WatchConfig) -> int:
    pictures, before = terminal.shows_pictures(), None
    with terminal.screen():
        while True:
            states = _states(config.run)
            now = _picture(config.run, states, time.time(), pictures), _sixels(states) if pictures else ""
            if now != before:
                terminal.draw(*now)
            if _is_over(states, config.run):
                break
            before = now
            time.sleep(config.every)
    print(*now[0], now[1], sep="\n")
    return _code(states)


def _in_lines(config: WatchConfig) -> int:
    """A line for each epoch that was done, and whenever something else has changed."""
    said: dict[Path, tuple[str, int]] = {}
    while True:
        states = _states(config.run)
        for state in states:
            if said.get(state.folder) != (now := (state.word, state.epoch)):
                print(_line(state, time.time(), config.run), flush=True)
            said[state.folder] = now
        if _is_over(states, config.run):
            return _code(states)
        time.sleep(config.every)


def _is_over(states: "Sequence[State]", folder: Path) -> bool:
    from hpcauxvae.watch.state import LIVE

    if any(state.word in LIVE or state.comes_back for state in states):
        return False
    return [state.folder for state in states] == [folder] or time.time() - max(
        state.at for state in states
    ) > _BETWEEN_S


def _code(states: "Sequence[State]") -> int:
    words = {state.word for state in states}
    return FAILED if "failed" in words else MORE_TO_DO if "stopped" in words else FINISHED


def _sixels(states: "Sequence[State]") -> str:
    path = states[0].picture if len(states) == 1 else None
    try:
        return _sixels_of(path, path.stat().st_mtime) if path else ""
    except OSError:  # it is being replaced
        return ""


@functools.lru_cache(1)
def _sixels_of(path: Path, at: float) -> str:
    return terminal.sixels(path)


def _picture(folder: Path, states: "Sequence[State]", now: float, pictures: bool = False) -> list[str]:
    """The lines of a screen."""
    if len(states) > 1:
        counts = {word: sum(state.word == word for state in states) for word in (state.word for state in states)}
        total = ", ".join(f"{count} {word}" for word, count in counts.items())
        return [f"{folder}: {len(states)} runs, {total}", *(_line(state, now, folder) for state in states)]
    (state,) = states
    lines = [f"{state.folder}  {_how(state, now)}", *_about(state), *_progress(state)]
    if state.rows:
        lines += ["", *_terms(state), "", *_scores(state), *_independence(state)]
    from hpcauxvae.watch.state import findings

    if found := findings(state):
        lines += ["", "findings:" if state.word == "finished" else "findings so far:", *(f"  - {one}" for one in found)]
    if state.picture and not pictures:
        lines += ["", f"reconstructions (originals above): {state.picture}"]
    return lines


def _how(state: "State", now: float) -> str:
    """Whether it runs, and if not how it ended."""
    match state.word:
        case "silent":
            return f"silent for {_span(now - state.at)}: {state.why} has changed no file since {_clock(state.at)}"
        case "stopped":
            goes_on = (
                "if its job goes on, so does this"
                if state.comes_back
                else "the same command with --resume auto goes on"
            )
            return f"stopped at {_clock(state.at)} ({state.why}); {goes_on}"
        case "finished":
            return f"finished at {_clock(state.at)}"
        case "failed":
            return f"FAILED at {_clock(state.at)}: {state.why}"
    return f"{state.word}: {state.why}"


def _about(state: "State") -> list[str]:
    """What is trained on what, and where."""
    config, start = state.config, state.starts[-1] if state.starts else {}
    if not config:
        return ["it reads its data"]
    lines = [f"{config['model']}, {config['objective']}, {config['aux'] or 'no factors'} of {config['data']}"]
    if start:
        job = f", job {start['job']}" if start.get("job") else ""
        count = f", start {len(state.starts)}" if len(state.starts) > 1 else ""
        processes = f"{start['processes']} process{'es' * (start['processes'] > 1)}"
        lines.append(f"{processes}, {start['device']}{job}; since {start['time'][:16]}{count}")
    return lines


def _progress(state: "State") -> list[str]:
    beat, part = state.beat, 0.0
    epoch = f"epoch {state.epoch}/{state.epochs} done"
    row: dict[str, Any] = state.rows[-1] if state.rows else {}
    if beat and beat["epoch"] == state.epoch + 1:
        part = beat["step"] / beat["steps"]
        loss = f", loss {beat['train']['loss']:.4g}"
        epoch += f"  of the next step {beat['step']}/{beat['steps']}{loss}"
        row = row | {"images_per_s": beat["images_per_s"]}
    words = [epoch]
    words += [f"step {row['step']} done"] if "step" in row else []
    words += [f"{row['images_per_s']:.0f} images/s"] if row else []
    words += [f"GPU memory {row['gpu_memory_gb']} GB"] if "gpu_memory_gb" in row else []
    words += [time_left(max(0.0, state.left_s))] if state.left_s is not None and state.epoch < state.epochs else []
    return ["  ".join(words), _bar((state.epoch + part) / max(1, state.epochs))]


def _bar(share: float, width: int = 50) -> str:
    full = terminal.blocks()[-1]
    return f"[{(full * round(width * share)).ljust(width)}] {share:.0%}"


def _terms(state: "State") -> list[str]:
    """The loss and its terms, with their change since the epoch before, and the way of the loss."""
    *earlier, row = state.rows[-2:]
    table = [["", "training", "", "validation", "", "way of the validation" if earlier else ""]]
    for name in row["train"]:
        line = [name]
        for part in ("train", "validation"):
            now, before = row[part].get(name), earlier[0][part].get(name) if earlier else None
            line += ["" if now is None else f"{now:.4g}", _change(before, now)]
        table.append([*line, _way([one["validation"].get(name) for one in state.rows])])
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:5], widths[1:]), line[5]]) for line in table]


def _change(before: float | None, now: float | None) -> str:
    if not before or now is None:
        return ""
    return f"{(now - before) / abs(before):+.1%}"


def _way(values: Sequence[float | None]) -> str:
    """The last numbers, from the lowest to the highest of them."""
    known = [value for value in values if value is not None and math.isfinite(value)][-_WAY:]
    if len(known) < 2:
        return ""
    signs, low, span = terminal.blocks()[1:], min(known), max(known) - min(known)
    return "".join(signs[round((value - low) / span * (len(signs) - 1)) if span else 0] for value in known)


def _scores(state: "State") -> list[str]:
    from hpcauxvae.watch.state import best_of

    row, validation = state.rows[-1], state.rows[-1]["validation"]
    best = best_of(state.rows)
    words = [f"best validation loss {best['validation']['loss']:.4g} (epoch {best['epoch']})"]
    words += [f"MSE {validation['mse']:.3g}"] if "mse" in validation else []
    words += [f"LDS {validation['lds']:.3f} of {validation['lds_attainable']:.3f}"] if "lds" in validation else []
    if "latents_in_use" in row:
        words.append(f"{row['latents_in_use']} of {state.config.get('latents', '?')} latents in use")
    reading = row.get("reading", {})
    read = ", ".join(f"{name} {of['r']:.2f}" for name, of in list(reading.items())[:_NAMED])
    more = f", {len(reading) - _NAMED} more" if len(reading) > _NAMED else ""
    return ["  ".join(words)] + ([f"r: {read}{more}"] if read else [])


def _independence(state: "State") -> list[str]:
    row = state.rows[-1]
    if "tolerance" not in row:
        return []
    ways = {name: _way([one.get(name) for one in state.rows]) for name in ("weight", "dependence")}
    return [
        f"weight of independence {row['weight']:.4g}  {ways['weight']}",
        f"dependence {row['dependence']:.4f}, tolerance {row['tolerance']:.4f}  {ways['dependence']}",
    ]


def _line(state: "State", now: float, root: Path) -> str:
    """A run in a line."""
    from hpcauxvae.watch.state import LIVE, findings

    name = str(state.folder.relative_to(root)) if state.folder != root else str(root)
    words = [f"{name}  {state.word}  epoch {state.epoch}/{state.epochs}"]
    if state.rows:
        train, validation = state.rows[-1]["train"], state.rows[-1]["validation"]
        words.append(f"loss {train['loss']:.4g}  validation {validation['loss']:.4g}")
        words += [f"LDS {validation['lds']:.3f} of {validation['lds_attainable']:.3f}"] if "lds" in validation else []
    if state.word in LIVE and state.left_s is not None:
        words.append(time_left(max(0.0, state.left_s)))
    if state.word in ("failed", "stopped", "silent"):
        words.append(_how(state, now))
    else:
        words += [f"{len(found)} finding{'s' * (len(found) > 1)}: {found[0]}"] if (found := findings(state)) else []
    return "  ".join(words)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _span(seconds: float) -> str:
    minutes = round(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 120 else f"{minutes} min {round(seconds) % 60} s"
