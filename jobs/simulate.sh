#!/bin/bash
# Simulates galaxies with GalSim, one rank a core, into one HDF5 file. Stopped, it goes on where it was.
#
#   hpcauxvae submit jobs/simulate.sh --site perlmutter OUT=galaxies.h5 N=1048576 SEED=7 -- --nodes=4
#   OUT=galaxies.h5 N=16384 sbatch --account=m1234 jobs/simulate.sh
#
# OUT               the HDF5 file to make
# N                 galaxies, 16384
# SEED              seed of the design and of the noise, 0
# SIMULATE_OPTIONS  further options of `hpcauxvae simulate`
#SBATCH --job-name=hpcauxvae-simulate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
: "${OUT:?is not set: the HDF5 file to make}"
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"
N=${N:-16384} SEED=${SEED:-0}
[ "$SCHEDULER" != slurm ] || LAUNCHER+=" --mpi=${SRUN_MPI:-pmi2}" # as MPICH of pip wants it

describe
# 4.4 kB a galaxy, twice while the file is put together. Simulation itself checks that its ranks have met.
python -m hpcauxvae preflight --ranks 1 --out "$OUT" --space-gb "${SPACE_GB:-$((1 + N * 9 / 1000000))}" --without-kernel
# shellcheck disable=SC2086  # the options are words
launch python -m hpcauxvae.simulate "$OUT" --n "$N" --seed "$SEED" ${SIMULATE_OPTIONS:-}
finish "$(size_of "$OUT")"
