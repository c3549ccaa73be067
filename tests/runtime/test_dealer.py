"""Work that is dealt to real MPI ranks ends on all of them, however it ends on one."""

import subprocess
import sys

import pytest

from helpers.simulations import launcher

pytestmark = pytest.mark.processes

PROGRAM = """
import sys, time
from hpcauxvae.runtime.dealer import Dealer
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.types import InputError

ranks, fails, after = Ranks(), int(sys.argv[1]), int(sys.argv[2])

def work(total):
    done = []
    with Dealer(ranks, total) as dealer:
        if ranks.rank == fails and after == 0 and total == 9000:
            raise InputError("before")
        for chunk in dealer.grants():
            time.sleep(1e-3)
            done.append(chunk)
            dealer.done[ranks.rank] += 1
            dealer.serve()
            if ranks.rank == fails and len(done) == after and total == 9000:
                raise InputError("later")
    return done

began = time.monotonic()
try:
    said = f"made {len(ranks.each(lambda: work(9000)))}"
except InputError as error:
    said = f"{error}, {'at once' if time.monotonic() - began < 1.5 else 'late'}"
said = ranks.comm.gather(said)
done = ranks.each(lambda: work(300))  # nothing of the first work is left for the second
if ranks.rank == 0:
    print(*said, sorted(chunk for part in done for chunk in part) == list(range(300)), sep="\\n")
"""


@pytest.mark.parametrize("fails", [0, 2])
@pytest.mark.parametrize(("after", "word"), [(0, "before"), (5, "later")])
def test_a_failure_of_one_ends_the_work_of_all(fails: int, after: int, word: str) -> None:
    """Three thousand chunks a rank take seconds; the next work has all of its own."""
    line = [*launcher(3), sys.executable, "-c", PROGRAM, str(fails), str(after)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{word} (rank {fails} of 3), at once"] * 3 + ["True"]
