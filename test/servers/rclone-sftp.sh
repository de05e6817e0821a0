#!/bin/bash
# Needs: apt-get install rclone. SFTP over a local folder; user test, password test.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18022}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() { bg rclone serve sftp "$DATA" --addr $HOST:$PORT --config /dev/null --user test --pass test; wait_port $PORT; }
url() { echo "sftp://test:test@$HOST:$PORT/"; }
version() { echo "rclone $(deb_version rclone) serve sftp"; }
main "$@"
