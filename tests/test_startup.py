"""A command line is read before anything heavy is imported: what 256 ranks would fetch from a shared file system."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "sklearn", "scipy", "skimage", "matplotlib", "tensorboard", "galsim", "mpi4py", "deephyper"}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--help",), 0, "train a model on labelled images"),
        (("train", "--help"), 0, "--lambda2"),
        (("train", "x.h5", "--epoch", "3"), 2, "--epochs"),
        (("simulate", "--help"), 0, "--noiseless"),
        (("simulate", "x.h5", "--sead", "3"), 2, "--seed"),
        (("evaluate", "nofile"), 2, "error: nofile: no such folder; allowed: that of a training run"),
        (("report", "nofile"), 2, "error: nofile: no such folder; allowed: that of a training run"),
        (("compare", "nofile", "other"), 2, "error: nofile: no such folder; allowed: that of a training run"),
        (("export", "nofile", "x.onnx"), 2, "error: nofile: no such folder or file; allowed: that of a training run"),
        (("preflight", "--help"), 0, "--space-gb"),
        (("preflight", "--ranks", "many"), 2, "--ranks"),
        (("search", "best", "--help"), 0, "--retrain"),
        (("search", "best", "nofolder"), 2, "error: nofolder: holds no search"),
        (("search", "report", "--help"), 0, "search"),
        (("search", "report", "nofolder"), 2, "error: nofolder: holds no search"),
        (("paper", "fig99"), 2, "error: item 'fig99' is unknown"),
        (("train", "nofile.h5", "--aux", "a"), 2, "error: nofile.h5: no such file"),
        (
            ("train", "nofile.h5", "--aux", "a", "--out", "."),
            2,
            "error: .: holds mine.txt already; choose another folder",
        ),
        (("train", "nofile.h5", "--aux", "a", "--lambda2", "-1"), 2, "error: lambda2 = -1.0; allowed: at least 0"),
    ],
)
def test_nothing_heavy_is_imported_to_read_a_command_line(
    words: tuple[str, ...], code: int, said: str, tmp_path
) -> None:
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded', *sorted({HEAVY} & set(sys.modules))))\n"
        "from hpcauxvae.cli import main\n"
        "main()"
    )
    (tmp_path / "mine.txt").touch()
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == code and said in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "loaded"


@pytest.mark.processes
def test_the_garbage_collector_does_not_look_through_modules_again_and_again(trained_run: Path, tmp_path: Path) -> None:
    program = (
        "import atexit, gc\n"
        "atexit.register(lambda: print('set aside:', gc.get_freeze_count(), gc.isenabled()))\n"
        "from hpcauxvae.cli import main\n"
        "main('evaluate')"
    )
    words = [trained_run, "--out", tmp_path, "--no-pictures", "--no-control"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=300)
    count, enabled = done.stdout.split("set aside: ")[1].split()
    assert done.returncode == 0 and int(count) > 100_000 and enabled == "True"
