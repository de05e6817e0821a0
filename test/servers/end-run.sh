#!/bin/bash
# Ends the servers of a test run at once and removes its folder (`end-run.sh FOLDER`). Without a folder: of every run
# whose owner, the process in the file `owner`, is dead.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
# A server ID is the name of its script, or that with `-` and an instance; ID.lock says that it was to be started.
end_server() { # end_server FOLDER ID
  local name
  for name in "$HERE"/[!_]*.sh; do
    name=$(basename "$name" .sh)
    case $2 in
      "$name") STATE_ROOT=$1 bash "$HERE/$name.sh" end ;;
      "$name"-*) STATE_ROOT=$1 INSTANCE=${2#"$name"-} bash "$HERE/$name.sh" end ;;
    esac
  done
}
end_run() {
  local lock id
  for lock in "$1"/*.lock; do
    id=$(basename "$lock" .lock)
    case $id in '*' | install-*) ;; *) end_server "$1" "$id" >/dev/null 2>&1 & ;; esac
  done
  wait
  rm -rf "$1"
}
if [ $# -gt 0 ]; then
  end_run "$1"
else
  for folder in "${TMPDIR:-/tmp}"/holdfast-servers-*; do
    owner=$(cat "$folder/owner" 2>/dev/null)
    [ -z "$owner" ] || kill -0 "$owner" 2>/dev/null || [ -e "/proc/$owner" ] || end_run "$folder"
  done
fi
exit 0
