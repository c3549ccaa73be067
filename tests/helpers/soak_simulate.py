"""Kills a simulation again and again, then compares the set with one drawn undisturbed. By command, not by pytest:

    PYTHONPATH=tests python -m helpers.soak_simulate [--kills 20] [--n 6000] [--seed 0]

Each start has 1 to 4 ranks; after a random time a random rank, or mpirun itself, is killed with SIGKILL, and the next
start goes on. Counts that nothing is drawn twice: the galaxies that all starts stored, as their journals say, are n.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.simulations import hashes, here, launcher
from hpcauxvae.data.journal import Rows, scan
from hpcauxvae.simulate.config import CHUNK


def ranks_of(launcher_pid: int) -> list[int]:
    """The Python processes below a launcher."""
    found, parents = [], {launcher_pid}
    for entry in sorted((path for path in Path("/proc").iterdir() if path.name.isdigit()), key=lambda p: int(p.name)):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            name = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) in parents:
            parents.add(int(entry.name))
            if b"hpcauxvae.simulate" in name and b"mpirun" not in name[0]:
                found.append(int(entry.name))
    return found


def stored(out: Path, n: int) -> list[int]:
    """The chunks in all journals, each time that one is there."""
    rows = Rows(n, CHUNK, 33 * 33 * 4)
    journals = sorted(out.parent.glob(f"{out.name}.parts/*.journal"))
    try:
        return [int(chunk) for number, path in enumerate(journals) for chunk in scan(path, number, rows).chunk]
    except FileNotFoundError:  # the set became whole just now
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--n", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    choose = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "set.h5"
        common = ["--n", str(options.n), "--seed", "7"]
        kills = 0
        share = -(-options.n // CHUNK) // (3 * options.kills)  # chunks to let pass before each kill
        while kills < options.kills and not out.exists():
            size = choose.randint(1, 4)
            command = [
                *launcher(size if size > 1 else None),
                sys.executable,
                "-m",
                "hpcauxvae.simulate",
                str(out),
                *common,
            ]
            before = len(stored(out, options.n))
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and len(stored(out, options.n)) < before + choose.randint(
                    1, max(1, share)
                ):
                    time.sleep(0.02)
                ranks = ranks_of(process.pid)
                victims = [process.pid, *ranks]
                victim = choose.choice(victims)
                if process.poll() is None:
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
                process.wait()
                while any(Path(f"/proc/{rank}").exists() for rank in ranks):
                    time.sleep(0.02)
            chunks = stored(out, options.n)
            what = "the launcher" if victim == process.pid and size > 1 else "a rank"
            print(
                f"kill {kills}: {what} of {size}; {len(chunks)} chunks stored, {len(chunks) - len(set(chunks))} twice",
                flush=True,
            )
            assert len(chunks) == len(set(chunks))
        assert here(out, *common) == 0
        assert here("verify", out) == 0
        undisturbed = Path(name) / "undisturbed.h5"
        assert here(undisturbed, *common) == 0
        assert hashes(out) == hashes(undisturbed)
        assert sorted(path.name for path in out.parent.iterdir()) == ["set.h5", "undisturbed.h5"]
        print(f"{kills} kills: nothing drawn twice, nothing missing, the same bits")


if __name__ == "__main__":
    main()
