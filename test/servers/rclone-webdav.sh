#!/bin/bash
# Needs: apt-get install rclone. WebDAV over a local folder. USER/PASS optional.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18080}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() { bg rclone serve webdav "$DATA" --addr $HOST:$PORT --config /dev/null ${USER_:+--user $USER_ --pass $PASS_}; wait_port $PORT; }
url() { echo "http://$HOST:$PORT/"; }
version() { echo "rclone $(deb_version rclone) serve webdav"; }
main "$@"
