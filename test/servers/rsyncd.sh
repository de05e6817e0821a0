#!/bin/bash
# Needs: apt-get install rsync
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18873}; mkdir -p "$S/data"
start() {
  printf 'socket options = TCP_NODELAY\nuse chroot = no\nuid = %s\ngid = %s\n[data]\npath = %s\nread only = no\nauth users = test\nsecrets file = %s\n' "$(id -u)" "$(id -g)" "$S/data" "$S/secrets" >"$S/rsyncd.conf"
  echo test:test >"$S/secrets"; chmod 600 "$S/secrets"
  bg rsync --daemon --no-detach --address=$HOST --port=$PORT --config="$S/rsyncd.conf" --log-file="$LOG"; wait_port $PORT
}
url() { echo "rsync://test@$HOST:$PORT/data (password test)"; }
version() { echo "rsync $(deb_version rsync)"; }
main "$@"
