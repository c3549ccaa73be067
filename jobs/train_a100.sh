#!/bin/bash
# Trains a model, one rank a GPU, on one node or many. Preempted or near its time limit it saves, requeues itself and
# goes on.
#
#   hpcauxvae submit jobs/train_a100.sh --site perlmutter DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/case2 -- --nodes=2
#   DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/case2 sbatch --account=m1234 jobs/train_a100.sh
#
# DATA           HDF5 file of labelled images
# AUX            its factors that guide the first latents
# OUT            folder of the run
# DEVICE         cuda
# TRAIN_OPTIONS  further options of `hpcauxvae train`
#SBATCH --job-name=hpcauxvae-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
: "${DATA:?is not set: the HDF5 file of labelled images}" "${AUX:?is not set: the factors that guide latents}"
: "${OUT:?is not set: the folder of the run}"
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"
DEVICE=${DEVICE:-cuda}

describe
preflight --data "$DATA" --aux "$AUX" --out "$OUT" --device "$DEVICE"
stage "$DATA"
# shellcheck disable=SC2086  # the options are words
launch python -m hpcauxvae.train "$STAGED" --aux "$AUX" --out "$OUT" --device "$DEVICE" --resume auto ${TRAIN_OPTIONS:-}
finish "$(last_checkpoint "$OUT")"
