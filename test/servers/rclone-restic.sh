#!/bin/bash
# Needs: apt-get install rclone. restic REST server protocol over a local folder.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18081}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() { bg rclone serve restic "$DATA" --addr $HOST:$PORT --config /dev/null; wait_port $PORT; }
url() { echo "rest:http://$HOST:$PORT/"; }
version() { echo "rclone $(deb_version rclone) serve restic"; }
main "$@"
