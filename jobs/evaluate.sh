#!/bin/bash
# Evaluates a run on one GPU: scores beside their ceilings, codes and pictures, into the folder of the run.
#
#   hpcauxvae submit jobs/evaluate.sh --site perlmutter RUN=runs/case2 FRESH=fresh.h5
#SBATCH --job-name=hpcauxvae-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
SETTINGS='
RUN!              folder of the run
DATA              its data set, where that was staged to the nodes or has moved since
FRESH             a data set drawn independently, scored too
DEVICE=cuda       where it runs
EVALUATE_OPTIONS  further options of hpcauxvae evaluate
'
OUT=${RUN:-} OWN_LOGS=-evaluate
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"

describe
preflight --out "$OUT" --device "$DEVICE"
# shellcheck disable=SC2086  # the options are words
launch python -m hpcauxvae.evaluate "$RUN" ${DATA:+--data "$DATA"} ${FRESH:+--fresh "$FRESH"} --device "$DEVICE" \
    $EVALUATE_OPTIONS
finish "the evaluation"
