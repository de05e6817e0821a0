# Sourced by every server script. Each takes one command:
#   start    starts the server, prints its address;     stop     ends it;          wipe     ends it and removes its data
#   version  prints the server's name and version;      url      prints its address
#   crash    ends it at once (SIGKILL), keeping its data;        pause, resume      SIGSTOP and SIGCONT: a black hole
#   end      ends it at once, whatever becomes of its data
# From the environment: STATE_ROOT (data, config, logs and pid files), PORT and the other ports of the script, INSTANCE (a
# second server beside the first), CACHE (where install.sh put npm packages and unpacked Debian packages).
set -eu
STATE_ROOT=${STATE_ROOT:-${TMPDIR:-/tmp}/holdfast-servers}
CACHE=${CACHE:-${HOLDFAST_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/holdfast-test-servers}}
export PATH=$PATH:/usr/sbin:/sbin
HOST=127.0.0.1
NAME=$(basename "$0" .sh)
[ -z "${INSTANCE:-}" ] || NAME=$NAME-$INSTANCE
S=$STATE_ROOT/$NAME; PIDFILE=$S/pid; LOG=$S/log
mkdir -p "$S"
running() { [ -s "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")" 2>/dev/null; }
# bg CMD...: start in its own session in the background, record the pid
bg() { setsid "$@" >>"$LOG" 2>&1 </dev/null & echo $! >"$PIDFILE"; }
# wait_port PORT [seconds]
wait_port() {
  i=0; max=$(( ${2:-30} * 20 ))
  while ! (exec 3<>/dev/tcp/$HOST/$1) 2>/dev/null; do
    i=$((i+1)); [ $i -lt $max ] || { echo "$NAME: port $1 did not open; see $LOG" >&2; return 1; }
    running || { echo "$NAME: died; see $LOG" >&2; tail -5 "$LOG" >&2; return 1; }
    sleep 0.05
  done
}
stop_pidfile() { # stop_pidfile FILE
  [ -s "$1" ] || return 0
  p=$(cat "$1"); below=$(tree "$p"); kill "$p" 2>/dev/null || true; kill -CONT "$p" 2>/dev/null || true
  i=0; while kill -0 "$p" 2>/dev/null; do i=$((i+1)); [ $i -lt 100 ] || { kill -9 "$p" 2>/dev/null || true; break; }; sleep 0.05; done
  for q in $below; do kill -9 "$q" 2>/dev/null || true; done # what it left behind
  rm -f "$1"
}
# A process and all below it: some servers (sshd) put each connection into a session of its own.
tree() { echo "$1"; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$c"; done; }
# The trees are read before the first signal: the children of a dead process are no longer below it.
# signal_all SIGNAL [PIDFILE...]: to all of the server, or to these.
signal_all() {
  signal=$1; shift; [ $# -gt 0 ] || set -- "$S"/pid "$S"/pid.*
  pids=; for f in "$@"; do [ ! -s "$f" ] || pids="$pids $(tree "$(cat "$f")")"; done
  for p in $pids; do kill -s "$signal" "$p" 2>/dev/null || true; done
}
# Waits, 10 s at most, until the processes of signal_all have let go of their sockets: gone, or only to be reaped.
dead() {
  for _ in $(seq 200); do
    alive=; for p in $pids; do case $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$p/status" 2>/dev/null) in ""|Z|X) ;; *) alive=1 ;; esac; done
    [ -n "$alive" ] || return 0
    sleep 0.05
  done
}
# The version of a Debian package, or of the same package unpacked into CACHE.
deb_version() {
  v=$(dpkg-query -W -f '${Version}' "$1" 2>/dev/null) || v=
  [ -n "$v" ] || v=$(cd "$CACHE/deb" 2>/dev/null && ls */"$1"_*.deb 2>/dev/null | head -1 | cut -d_ -f2)
  echo "${v:-unknown}"
}
npm_version() { node -p 'require(process.argv[1]).version' "$1/package.json"; }
main() { case "${1:-}" in
  start) if running; then url; else start; url; fi ;;
  stop) stop ;;
  url) url ;;
  wipe) stop; rm -rf "$S" ;;
  version) version 2>/dev/null | head -1 ;;
  crash) crash ;;
  end) end ;;
  pause) signal_all STOP ;;
  resume) signal_all CONT ;;
  *) echo "usage: $0 start|stop|url|wipe|version|crash|pause|resume|end" >&2; exit 2 ;;
esac; }
stop() { stop_pidfile "$PIDFILE"; }
end() { signal_all KILL; dead; rm -f "$S"/pid "$S"/pid.*; }
crash() { end; }
self_signed() { [ -s "$S/cert.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout "$S/key.pem" -out "$S/cert.pem" 2>/dev/null; }
