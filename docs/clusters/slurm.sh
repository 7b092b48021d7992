#!/bin/bash
# mgnas on SLURM: one Ray head with the driver on the first node, a raylet on every other. Fill in the lines with <...>.
#SBATCH --job-name=mgnas
#SBATCH --nodes=<4>
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=<16>
#SBATCH --gpus-per-node=<0>
#SBATCH --time=<24:00:00>
# SIGTERM two minutes before the end: the search saves and stops as after Ctrl-C.
#SBATCH --signal=B:TERM@120
set -euo pipefail

CONFIG="<search.yaml>"            # on a disk that all nodes see, as is the run directory
RUNS="<$SLURM_SUBMIT_DIR/runs>"
NAME="<my-search>"                # submitted again with the same name, the job goes on where it was
source "<venv>/bin/activate"      # the same environment on all nodes

GPUS=${SLURM_GPUS_ON_NODE:-0}
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))

# Whoever has no token cannot use the cluster. srun passes the environment on to the nodes.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')

start() { srun --overlap --nodes=1 --ntasks=1 -w "$1" ray start "${@:2}" --disable-usage-stats \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$GPUS" --block & }
start "$head" --head --include-dashboard=false --node-ip-address="$ip" --port="$port"
sleep 15
for node in "${nodes[@]:1}"; do start "$node" --address="$ip:$port"; done
sleep 15

if [ -d "$RUNS/$NAME" ]; then
    mgnas resume "$RUNS/$NAME" --address "$ip:$port" &
else
    mgnas search "$CONFIG" --runs "$RUNS" --name "$NAME" --address "$ip:$port" &
fi
search=$!
trap 'kill -TERM $search; wait $search' TERM
wait $search
