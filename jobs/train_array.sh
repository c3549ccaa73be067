#!/bin/bash
# Trains several models, one GPU each, as the tasks of an array: a seed each, or a line of CASES each. Preempted or near
# its time limit a task saves, requeues itself and goes on.
#
#   hpcauxvae submit jobs/train_array.sh --site swing DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/seeds -- --array=0-4
#
# DATA           HDF5 file of labelled images
# AUX            its factors that guide the first latents
# OUT            folder of the runs: OUT/0, OUT/1 ...
# CASES          file of options of `hpcauxvae train`, for task 0 in its first line, and so on; without: --seed 0 ...
# DEVICE         cuda
# TRAIN_OPTIONS  options for all tasks
#SBATCH --job-name=hpcauxvae-array
#SBATCH --array=0-2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
: "${DATA:?is not set: the HDF5 file of labelled images}" "${AUX:?is not set: the factors that guide latents}"
: "${OUT:?is not set: the folder of the runs}"
task=$SLURM_ARRAY_TASK_ID
OUT=$OUT/$task
source "${JOBS:-$SLURM_SUBMIT_DIR/jobs}/lib.sh"
DEVICE=${DEVICE:-cuda}
options="--seed $task"
if [ -n "${CASES:-}" ]; then
    options=$(sed -n "$((task + 1))p" "$CASES")
    [ -n "$options" ] || { say "CASES has no line $((task + 1)): $CASES" && exit 2; }
fi

describe
say "task $task: $options"
preflight --data "$DATA" --aux "$AUX" --out "$OUT" --device "$DEVICE"
stage "$DATA"
# shellcheck disable=SC2086  # the options are words
launch python -m hpcauxvae.train "$STAGED" --aux "$AUX" --out "$OUT" --device "$DEVICE" --resume auto \
    ${TRAIN_OPTIONS:-} $options
finish "$(last_checkpoint "$OUT")"
