#!/bin/bash
# Needs: apt-get install samba smbclient. Guest share "data". Needs root.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18445}; mkdir -p "$S/data" "$S/d/private" "$S/d/lock" "$S/d/state" "$S/d/cache" "$S/d/pid" "$S/d/ncalrpc"
start() {
  cat >"$S/smb.conf" <<C
[global]
  server role = standalone server
  interfaces = 127.0.0.1/8
  bind interfaces only = yes
  smb ports = $PORT
  private dir = $S/d/private
  lock directory = $S/d/lock
  state directory = $S/d/state
  cache directory = $S/d/cache
  pid directory = $S/d/pid
  ncalrpc dir = $S/d/ncalrpc
  log file = $S/smbd.log
  map to guest = Bad User
  guest account = $(id -un)
  disable spoolss = yes
  load printers = no
  printcap name = /dev/null
[data]
  path = $S/data
  read only = no
  guest ok = yes
  force user = $(id -un)
C
  ( printf 'test\ntest\n' | smbpasswd -c "$S/smb.conf" -s -a "$(id -un)" ) >>"$LOG" 2>&1 || true
  bg /usr/sbin/smbd -F --no-process-group -s "$S/smb.conf" -l "$S"; wait_port $PORT
}
url() { echo "smb://$(id -un):test@$HOST:$PORT/data"; }
version() { echo "Samba $(deb_version samba)"; }
main "$@"
