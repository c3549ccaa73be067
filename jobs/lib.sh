# shellcheck shell=bash
# What the job scripts have in common. A script declares SETTINGS, sources this, and calls its job: simulate, train or
# search below, or these in turn:
#   describe                what runs where, with which code
#   preflight OPTION...     what would fail later fails now: hpcauxvae preflight on every rank
#   stage FILE              FILE on each node's own disk, where STAGE names one: sets STAGED
#   launch COMMAND...       the command on every rank, by srun, mpiexec or mpirun: sets status
#   finish MARK             ends the job with that status, or puts it back into the queue

say() { printf '%s  %s\n' "$(date '+%F %T')" "$*"; }

stop_asked=no asked_at=0 interrupted=no status=0 child=
# A request to stop may reach this shell alone: it goes on to the ranks, which save and leave with status 75.
trap '[ "$stop_asked" = yes ] || printf -v asked_at "%(%s)T" -1
    stop_asked=yes interrupted=yes; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null || true' TERM USR1

if [ -n "${SLURM_JOB_ID:-}" ]; then
    SCHEDULER=slurm JOB=$SLURM_JOB_ID
    cd "$SLURM_SUBMIT_DIR" || exit
elif [ -n "${PBS_JOBID:-}" ]; then
    SCHEDULER=pbs JOB=${PBS_JOBID%%.*}
    cd "$PBS_O_WORKDIR" || exit
else
    SCHEDULER=none JOB=$$
fi
export JOBS=${JOBS:-$PWD/jobs}
source "$JOBS/settings.sh"
NCCL_SETTINGS=()
if [ -n "${SITE:-}" ]; then
    set -a # its settings reach the ranks
    # shellcheck source=/dev/null
    source "$JOBS/sites/$SITE.env"
    set +a
fi
settings "$SETTINGS"
settings '
SITE               settings of a cluster: sites/SITE.env
VENV               folder of the virtual environment; .venv beside jobs/
RANKS=1            processes, where there is no scheduler
STAGE              folder on each node itself, to which the data are copied
SPACE_GB           room that the disk must have
PREFLIGHT_OPTIONS  further options of hpcauxvae preflight
SRUN_OPTIONS       further options of srun
SRUN_MPI=pmi2      its --mpi, for simulations; pmi2 is what MPICH of pip wants
CPU_BIND=cores     its --cpu-bind
CORES_PER_NODE     to share out, with PBS on a Cray
REVERSE_GPUS       GPUs of a node, where the first cores are nearest to the last GPU
NCCL_SITE=on       off: without the NCCL_SETTINGS and NCCL_LIBRARIES of the site
NCCL_LIBRARIES     folders for LD_LIBRARY_PATH
MASTER_ADDR        node where the ranks meet, with PBS
MAX_STUCK=3        starts without progress, after which the job is given up
LOGS               folder of the logs; logs/OUT
RESUBMIT           command that submits a successor, with PBS
PREDECESSOR        number of the job that this job goes on for: its lock is taken over
'

# What PBS says of this job: RESTARTS, and in seconds since 1970 when it ENDS, which stays empty without a walltime.
about_job() {
    local says start walltime runs
    says=$(qstat -f "$PBS_JOBID") || say "warning: PBS does not tell when this job ends: no successor will be submitted"
    start=$(sed -n 's/^ *stime = //p' <<<"$says")
    walltime=$(sed -n 's/^ *Resource_List.walltime = //p' <<<"$says" | awk -F : '{ print ($1 * 60 + $2) * 60 + $3 }')
    runs=$(sed -n 's/^ *run_count = //p' <<<"$says")
    RESTARTS=$((${runs:-1} - 1))
    [ -z "$walltime" ] || ENDS=$(($(date -d "${start:-now}" +%s) + walltime))
}

OUT=${OUT%/} LOGS=${LOGS:-logs/${OUT//\//-}${OWN_LOGS:-}}
mkdir -p "$LOGS"

RESTARTS=0 ENDS=
case $SCHEDULER in
slurm)
    RESTARTS=${SLURM_RESTART_COUNT:-0}
    NODES=$SLURM_NNODES RANKS=$SLURM_NTASKS
    # UCX's addresses arrive damaged through Slurm's PMI2; MPICH of pip would take it first.
    export MPIR_CVAR_CH4_NETMOD=${MPIR_CVAR_CH4_NETMOD:-ofi}
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # since Slurm 22.05 srun takes it from here alone
    # When a rank has ended, a minute for the others to end; killed at once, they could not save.
    LAUNCHER="srun --kill-on-bad-exit=0 --wait=60 --cpu-bind=$CPU_BIND ${SRUN_OPTIONS[*]}"
    ON_EACH_NODE="srun --ntasks=$NODES --ntasks-per-node=1"
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    # Some clusters call their nodes by names that Slurm alone can resolve.
    getent hosts "$MASTER_ADDR" >/dev/null ||
        MASTER_ADDR=$(scontrol show node "$MASTER_ADDR" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    export MASTER_ADDR # the port is made of job and step by hpcauxvae/runtime/launchers.py
    ;;
pbs)
    about_job
    NODES=$(sort -u "$PBS_NODEFILE" | wc -l) RANKS=$((NODES * PER_NODE))
    # PBS sets both to the cores of a node's chunk; what a person sets differs.
    [ "${OMP_NUM_THREADS:-}" != "${NCPUS:-none}" ] ||
        export OMP_NUM_THREADS=$((NCPUS > PER_NODE ? NCPUS / PER_NODE : 1))
    LAUNCHER="mpiexec -n $RANKS --ppn $PER_NODE"
    # PALS, the mpiexec of Cray machines, then gives each rank its share of the cores.
    [ -z "$CORES_PER_NODE" ] || LAUNCHER+=" --envall --depth=$((CORES_PER_NODE / PER_NODE)) --cpu-bind depth"
    ON_EACH_NODE="mpiexec -n $NODES --ppn 1"
    ;;
none)
    NODES=1
    LAUNCHER="mpirun -n $RANKS" ON_EACH_NODE=
    export MASTER_ADDR=127.0.0.1 MASTER_PORT=$((20000 + $$ % 12000))
    ;;
esac
export LOGS RESTARTS
if [ "$RESTARTS" -eq 0 ] && [ -z "$PREDECESSOR" ]; then rm -f "$LOGS/marks"; fi # of an earlier job

set +u # module, conda and venv read variables that are not set
if declare -F setup >/dev/null; then setup; fi
VENV=${VENV:-$JOBS/../.venv}
# shellcheck source=/dev/null
if [ -f "$VENV/bin/activate" ]; then source "$VENV/bin/activate"; fi
set -u
export PYTHONSAFEPATH=1 # the package as it is installed, not the folder of that name where the job runs
if [ "$NCCL_SITE" = on ]; then
    for setting in "${NCCL_SETTINGS[@]}"; do
        [ -v "${setting%%=*}" ] || export "${setting?}"
    done
    [ -z "$NCCL_LIBRARIES" ] || export LD_LIBRARY_PATH="$NCCL_LIBRARIES:${LD_LIBRARY_PATH:-}"
fi

describe() {
    say "job $JOB on $(hostname), restart $RESTARTS: $RANKS ranks on $NODES nodes, site ${SITE:-none}"
    say "nodes: ${SLURM_JOB_NODELIST:-$(sort -u "${PBS_NODEFILE:-/dev/null}" | xargs)}"
    say "code: commit $(git -C "$JOBS" describe --always --dirty 2>/dev/null || echo unknown)," \
        "hpcauxvae $(python -c 'import hpcauxvae, sys; print(hpcauxvae.__version__, "in", sys.executable)')"
    say "modules: ${LOADEDMODULES:-none}"
    say "GPUs: $(nvidia-smi -L 2>/dev/null | xargs || true) (CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-})"
    say "settings: $(env | grep -E '^(NCCL|FI|OMP|HDF5|MASTER)_' | sort | xargs)"
    say "logs of the ranks: $LOGS/rank-*.log"
}

preflight() {
    # shellcheck disable=SC2086  # the options are words
    launch python -m hpcauxvae preflight --ranks "$RANKS" --space-gb "${SPACE_GB:-1}" $PREFLIGHT_OPTIONS "$@"
    case $status in
    0) ;;
    1 | 2) say "the preflight failed: not requeued" && exit "$status" ;;
    *) finish "the preflight" ;;
    esac
}

stage() {
    STAGED=$1
    [ -n "$STAGE" ] || return 0
    local ask='import h5py, sys; sys.exit(not h5py.File(sys.argv[1], locking=False)["images"].is_virtual)'
    if python -c "$ask" "$1" 2>/dev/null; then
        say "not staged: the images of $1 lie in other files (python -m hpcauxvae.simulate merge makes one)"
        return 0
    fi
    local sum
    if [ -f "$1.sha256" ]; then sum=$(cut -d ' ' -f 1 "$1.sha256"); else sum=$(sha256sum "$1" | cut -d ' ' -f 1); fi
    STAGED=$STAGE/hpcauxvae-$JOB/${1##*/}
    say "staging $1 to $STAGED on $NODES nodes"
    trap unstage EXIT
    $ON_EACH_NODE bash "$JOBS/copy_checked.sh" "$1" "$STAGED" "$sum" || {
        [ "$stop_asked" = no ] || { status=75 && finish "staging"; }
        say "staging failed: not requeued"
        exit 2
    }
}

unstage() { $ON_EACH_NODE rm -rf "${STAGED%/*}" || true; }

launch() {
    local log=$LOGS/rank-0.log seen follower code
    status=75
    [ "$stop_asked" = no ] || return 0
    say "start: $LAUNCHER $*"
    : >>"$log"
    seen=$(wc -l <"$log")
    $LAUNCHER bash "$JOBS/each_rank.sh" "$@" &
    child=$!
    (trap '' TERM USR1 && exec tail -s 0.2 -n "+$((seen + 2))" --pid="$child" -F "$log" 2>/dev/null) &
    follower=$! status=127
    while :; do # a signal cuts wait short, and a second wait for the same child says 127
        interrupted=no code=0
        wait "$child" || code=$?
        [ "$code" -eq 127 ] || status=$code
        [ "$interrupted" = yes ] || break
    done
    [ "$status" -ge 0 ] || status=75 # two signals at once can cost bash the child's own
    child=
    while kill -0 "$follower" 2>/dev/null; do wait "$follower" || true; done
    say "end: status $status"
    [ "$status" -eq 0 ] || [ "$RANKS" -eq 1 ] || last_words
}

# How far a run is: the name of its newest checkpoint.
last_checkpoint() {
    find "$1" -name 'step-*.safetensors' -printf '%f\n' 2>/dev/null | sort | tail -n 1 | grep . || echo "the start"
}

# How far a file is that is put together from OUT.parts and the like.
size_of() { du --total --bytes --summarize "$1"* 2>/dev/null | tail -n 1 | sed 's/\t.*/ bytes/'; }

# How many lines files have together, those that are there.
all_lines() { cat "$@" 2>/dev/null | wc -l || true; }

# The seconds that PBS leaves to the work, less so many to end in, or half of them; Slurm sends a signal instead.
seconds_left() {
    local left=$((ENDS - $(date +%s)))
    echo $((left > 2 * $1 ? left - $1 : left > 2 ? left / 2 : 1))
}

# The same as an option: five minutes to save in.
time_limit() { [ -z "$ENDS" ] || seconds_left 300 | awk '{ print "--max-minutes", $1 / 60 }'; }

# Whether it was PBS that asked this job to stop, for its walltime, and not a person by qdel or qrerun. The end is by
# the clock of the server, the request by that of this node, which may be some seconds behind.
time_is_up() { [ -n "$ENDS" ] && [ "$asked_at" -ge $((ENDS - 5)) ]; }

# Seconds since 1970 as a date.
at() { date -d "@$1" '+%F %T'; }

# What the other ranks said last.
last_words() {
    find "$LOGS" -name 'rank-*.log' ! -name rank-0.log -exec tail -q -n 1 {} + | grep -v '^== ' |
        sort | uniq -c | sort -nr | head -n 5 |
        while read -r count words; do say "last line of $count other rank(s): $words"; done || true
}

# MARK tells how far the work is: a job that ended at the same mark in MAX_STUCK starts is not tried again.
finish() {
    local mark=$1 same limit=$MAX_STUCK
    case $status in
    0) rm -f "$LOGS/marks" && say "finished" && exit 0 ;;
    2) say "bad input, see above: not requeued" && exit 2 ;;
    75) say "stopped on request at $mark, with more to do" ;;
    *) say "failed with status $status at $mark" ;;
    esac
    printf '%s\n' "$mark" >>"$LOGS/marks"
    same=$(tail -n "$limit" "$LOGS/marks" | grep -cFx -- "$mark")
    if [ "$same" -ge "$limit" ]; then
        say "$same starts ended at $mark: not requeued"
    elif [ "$SCHEDULER" = slurm ]; then
        requeue
    elif [ "$SCHEDULER" = pbs ] && [ "$stop_asked" = yes ] && ! time_is_up; then
        say "stopped before its time, by qdel, qrerun or a signal: not submitted again" \
            "(asked $(at "$asked_at") on this node${ENDS:+, the walltime ends $(at "$ENDS")})"
    elif [ "$SCHEDULER" = pbs ] && [ -n "$RESUBMIT" ]; then
        submit_successor
    else
        say "submit again: it goes on from here"
    fi
    exit "$status"
}

# A command to its end: PBS sends TERM to every process of a job, and this shell alone notes it.
to_its_end() { (trap '' TERM USR1 && "$@"); }

# PBS may take a successor and drop it at once, so it is looked up; then it is waited for in place of this job.
submit_successor() {
    local successor
    export PREDECESSOR=$PBS_JOBID TMPDIR=/tmp # a job's own is gone with its walltime
    if ! { successor=$(to_its_end eval "$RESUBMIT | tail -n 1") && to_its_end sleep 1 &&
        to_its_end qstat "$successor" >/dev/null; }; then
        say "ERROR: the successor ${successor:+$successor }is not in the queue, and nothing goes on by itself;" \
            "submit again: it goes on from here"
        exit 1
    fi
    say "submitted again as $successor"
    if [ "$stop_asked" = yes ] && ! time_is_up; then # by qdel, meanwhile: that ends the chain
        to_its_end qdel "$successor" && say "stopped meanwhile, by qdel, qrerun or a signal: deleted $successor again"
        return
    fi
    hand_on "$successor"
}

# What PBS says of an attribute of a job; it folds long lines.
attribute() { to_its_end qstat -f "$2" | sed -z 's/\n\t//g' | sed -n "s/^ *$1 = //p"; }

# The jobs that wait for the end of this one are made to wait for JOB. Whatever they wait for then, PBS deletes a job
# behind afterok if this one ends with another status than 0, and behind afternotok if with 0.
hand_on() {
    local waiting dependent depends ends_with=$status
    waiting=$(attribute depend "$PBS_JOBID" | tr , '\n' | grep -E '^before(ok|notok|any):') || return 0
    case $waiting in *beforeok:*) ends_with=0 ;; esac
    for dependent in $(cut -d : -f 2- <<<"$waiting" | tr : '\n' | sed 's/@.*//'); do
        depends=$(attribute depend "$dependent")
        if to_its_end qalter -W depend="${depends//:$PBS_JOBID/:$1}" "$dependent"; then
            say "$dependent waits for $1 now"
        else
            say "ERROR: $dependent cannot be made to wait for $1: PBS deletes it if it waits for success"
            ends_with=$status
        fi
    done
    [ "$ends_with" -eq "$status" ] || say "status 0: at any other PBS would delete what waits for success"
    status=$ends_with
}

requeue() {
    local state
    state=$(squeue --noheader --jobs="$JOB" --format=%T) || true
    if [ "$state" != RUNNING ]; then # cancelled, or requeued by someone else: that stands
        say "not requeued by the job itself, Slurm has it as ${state:-ended}"
    elif scontrol requeue "$JOB"; then
        say "requeued"
    else
        say "requeue refused; submit again: it goes on from here"
    fi
}

# shellcheck disable=SC2086  # the options are words
simulate() {
    describe
    [ "$SCHEDULER" != slurm ] || LAUNCHER+=" --mpi=$SRUN_MPI"
    # 4.4 kB a galaxy, twice while the file is put together. Simulation itself checks that its ranks have met.
    python -m hpcauxvae preflight --ranks 1 --out "$OUT" --space-gb "${SPACE_GB:-$((1 + N * 9 / 1000000))}" \
        --without-kernel
    # At its walltime PBS would end the job for good, and with it whatever waits for it.
    [ -z "$ENDS" ] || LAUNCHER="timeout --signal=USR1 $(seconds_left 60) $LAUNCHER"
    launch python -m hpcauxvae.simulate "$OUT" --n "$N" --seed "$SEED" $SIMULATE_OPTIONS
    [ "$status" -ne 124 ] || status=75 # of timeout
    finish "$(size_of "$OUT")"
}

# shellcheck disable=SC2046,SC2086  # the options are words
train() {
    describe
    preflight --data "$DATA" --aux "$AUX" --out "$OUT" --device "$DEVICE"
    stage "$DATA"
    launch python -m hpcauxvae.train "$STAGED" --aux "$AUX" --out "$OUT" --device "$DEVICE" --resume auto \
        $(time_limit) $TRAIN_OPTIONS
    finish "$(last_checkpoint "$OUT")"
}

# shellcheck disable=SC2046,SC2086  # the options are words
search() {
    describe
    preflight --data "$DATA" --aux "$AUX" --out "$OUT" --device "$DEVICE"
    [ "$SCHEDULER" != slurm ] || LAUNCHER= # the search stays on this node: it starts its trials with srun
    # The search hands the GPUs of a node to its trials; a successor reads the setting again.
    REVERSE_GPUS='' launch python -m hpo.search "$DATA" --aux "$AUX" --out "$OUT" --device "$DEVICE" --resume \
        $(time_limit) $SEARCH_OPTIONS
    finish "$(all_lines "$OUT/results.csv") rows, $(all_lines "$OUT"/trials/*/metrics.jsonl) epochs in $OUT"
}
