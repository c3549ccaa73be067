#!/bin/bash
# What srun or mpiexec starts on every rank: the command, with a log of its own in $LOGS.
set -euo pipefail
rank=${PALS_RANKID:-${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-${SLURM_PROCID:-0}}}}
if [ -n "${REVERSE_GPUS:-}" ]; then # where the first cores are nearest to the last GPU
    local_rank=${PALS_LOCAL_RANKID:-${PMI_LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-$MPI_LOCALRANKID}}}
    export CUDA_VISIBLE_DEVICES=$((REVERSE_GPUS - 1 - local_rank % REVERSE_GPUS))
fi
exec >>"$LOGS/rank-$rank.log" 2>&1
echo "== $(date '+%F %T') $(hostname) restart ${RESTARTS:-0}: $*"
exec "$@"
