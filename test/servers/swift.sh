#!/bin/bash
# Needs: apt-get install --no-install-recommends swift swift-proxy swift-account swift-container swift-object memcached
# Swift all in one: 1 replica, tempauth (account AUTH_test, user test:tester, key testing), SLO/DLO, bulk, and s3api on the same port.
# DATA must be on a file system with user xattrs (ext4, xfs; tmpfs needs Linux >= 6.6).
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18800}; P=${BASE:-18810}; MC=${MC:-18811}; DATA=${DATA:-$S/srv}
PY=${PY:-/usr/bin/python3}
# defaults PORT: the beginning of each server's configuration
defaults() { printf '%s\n' "[DEFAULT]" "bind_ip = $HOST" "bind_port = $1" "workers = 0" "user = $(id -un)" "swift_dir = $E" "log_level = WARNING"; }
# filter NAME WHAT [SETTING...]: a filter of the proxy's pipeline
filter() { printf '%s\n' "[filter:$1]" "use = egg:swift#$2"; shift 2; [ $# -eq 0 ] || printf '%s\n' "$@"; }
start() {
  E=$S/etc; mkdir -p "$E" "$DATA/d1" "$S/cache"; export SWIFT_DIR=$E
  printf '[swift-hash]\nswift_hash_path_suffix = test\nswift_hash_path_prefix = test\n[swift-constraints]\nmax_file_size = 5368709122\n[storage-policy:0]\nname = one\ndefault = yes\n' >"$E/swift.conf"
  i=0; for k in object container account; do i=$((i+1)); port=$((P+10*i))
    [ -f "$E/$k.ring.gz" ] || (cd "$E" && swift-ring-builder $k.builder create 4 1 0 && swift-ring-builder $k.builder add r1z1-$HOST:$port/d1 1 && swift-ring-builder $k.builder rebalance) >>"$LOG" 2>&1 || true
    { defaults $port
      echo "devices = $DATA
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = $k-server
[app:$k-server]
use = egg:swift#$k"; } >"$E/$k.conf"
  done
  { defaults $PORT
    echo "[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache bulk tempurl s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true"
    for f in catch_errors gatekeeper healthcheck bulk tempurl copy slo dlo symlink; do filter $f $f; done
    filter cache memcache "memcache_servers = $HOST:$MC"
    filter versioned_writes versioned_writes "allow_object_versioning = true"
    filter s3api s3api "location = us-east-1" "allow_no_owner = true" "check_bucket_owner = false" "s3_acl = false" "min_segment_size = 65536"
    filter tempauth tempauth "user_test_tester = testing .admin" "user_admin_admin = admin .admin .reseller_admin" "storage_url_scheme = http"
  } >"$E/proxy.conf"
  PIDFILE=$S/pid.memcached; bg memcached -l $HOST -p $MC -u "$(id -un)" -m 64; wait_port $MC
  n=0; for k in object container account; do n=$((n+1)); PIDFILE=$S/pid.$k; bg $PY /usr/bin/swift-$k-server "$E/$k.conf"; wait_port $((P+10*n)); done
  PIDFILE=$S/pid; bg $PY /usr/bin/swift-proxy-server "$E/proxy.conf"; wait_port $PORT
  i=0; until curl -fsS -o /dev/null http://$HOST:$PORT/healthcheck 2>/dev/null; do i=$((i+1)); [ $i -lt 100 ]; sleep 0.1; done
  # The proxy answers before the servers behind it do: on a busy machine the first tries get a 503.
  i=0; until node "$(dirname "$0")/_s3-mkbucket.mjs" "http://$HOST:$PORT" test-bucket test:tester testing >>"$LOG" 2>&1; do
    i=$((i+1)); [ $i -lt 60 ] || { echo "$NAME: the bucket could not be made; see $LOG" >&2; return 1; }; sleep 0.5
  done
}
stop() { for f in pid pid.object pid.container pid.account pid.memcached; do stop_pidfile "$S/$f"; done; }
url() { echo "swift auth http://$HOST:$PORT/auth/v1.0 (test:tester / testing); s3 http://$HOST:$PORT/test-bucket (path style, test:tester / testing, us-east-1)"; }
version() { echo "OpenStack Swift $(deb_version swift-proxy)"; }
main "$@"
