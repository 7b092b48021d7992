#!/bin/bash
# mgnas on machines that you can log in to: run this on the head, fill in the lines with <...>.
set -euo pipefail

HEAD_IP="<10.0.0.1>"                    # address of this machine that the others reach
WORKERS="<worker1 worker2>"           # names for ssh
VENV="<$HOME/mgnas/.venv>"              # the same path and the same versions on all machines
CONFIG="<search.yaml>"
STORAGE="<s3://bucket/mgnas>"           # or a folder that all machines see; for checkpoints of running trials
PORT=6379

source "$VENV/bin/activate"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')

ray start --head --node-ip-address="$HEAD_IP" --port=$PORT --include-dashboard=false --disable-usage-stats
for worker in $WORKERS; do
    # Over standard input, as command lines can be seen by everybody on a machine.
    echo "$RAY_AUTH_TOKEN" | ssh "$worker" "read -r RAY_AUTH_TOKEN; export RAY_AUTH_TOKEN RAY_AUTH_MODE=token; \
        '$VENV/bin/ray' start --address=$HEAD_IP:$PORT --disable-usage-stats"
done

mgnas search "$CONFIG" --address "$HEAD_IP:$PORT" --storage "$STORAGE"

for worker in $WORKERS; do ssh "$worker" "'$VENV/bin/ray' stop"; done
ray stop
