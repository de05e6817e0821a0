#!/bin/bash
# Needs: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common   (ceph-mgr not needed)
# One mon, one osd, one radosgw: a real S3 server. Nothing survives stop; a crash is one of the gateway alone, which
# start starts again. Access test, secret testtest; bucket "test-bucket". OBJECTSTORE=memstore (the default) keeps all of
# BYTES in memory, and takes more than half as much again for it; bluestore keeps it in a file.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18000}; MP1=${MP1:-16789}; MP2=${MP2:-13300}; BYTES=${BYTES:-4294967296}; OBJECTSTORE=${OBJECTSTORE:-memstore}
C="-c $S/ceph.conf"
gateway() { PIDFILE=$S/pid; bg radosgw -f $C -n client.rgw; wait_port $PORT 60; }
crash() { signal_all KILL "$S/pid"; dead; rm -f "$S/pid"; }
start() {
  if PIDFILE=$S/pid.osd running; then gateway; return; fi
  stop; rm -rf "$S/mon" "$S/osd" "$S/asok"; mkdir -p "$S/mon" "$S/osd" "$S/asok" "$S/rgw"
  FSID=$(cat /proc/sys/kernel/random/uuid); OSDID=$(cat /proc/sys/kernel/random/uuid)
  cat >"$S/ceph.conf" <<X
[global]
fsid = $FSID
mon host = [v2:$HOST:$MP2,v1:$HOST:$MP1]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = $HOST
cluster addr = $HOST
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd objectstore = $OBJECTSTORE
memstore device bytes = $BYTES
bluestore block size = $BYTES
osd memory target = 1073741824
mon data = $S/mon
osd data = $S/osd
mon data avail crit = 1
mon data avail warn = 2
auth allow insecure global id reclaim = false
keyring = $S/keyring
rgw data = $S/rgw
admin socket = $S/asok/\$name.asok
log file = $S/\$name.log
run dir = $S
pid file =
crash dir = $S
ms bind port min = 36800
ms bind port max = 36999
[client.rgw]
rgw frontends = beast endpoint=$HOST:$PORT tcp_nodelay=1
rgw enable usage log = false
rgw multipart min part size = 65536
debug rgw = 0
rgw gc obj min wait = 3
rgw gc processor period = 3
rgw gc processor max time = 3
X
  monmaptool --create --clobber --fsid $FSID --addv a "[v2:$HOST:$MP2,v1:$HOST:$MP1]" "$S/monmap" >>"$LOG" 2>&1
  rm -f "$S/keyring"; ceph-authtool -C "$S/keyring" --gen-key -n mon. --cap mon 'allow *' >>"$LOG" 2>&1
  ceph-authtool "$S/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *' >>"$LOG" 2>&1
  ceph-authtool "$S/keyring" --gen-key -n client.rgw --cap mon 'allow *' --cap osd 'allow *' >>"$LOG" 2>&1
  ceph-authtool "$S/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' >>"$LOG" 2>&1
  ceph-mon $C --mkfs -i a --monmap "$S/monmap" --keyring "$S/keyring" >>"$LOG" 2>&1
  PIDFILE=$S/pid.mon; bg ceph-mon -f $C -i a; wait_port $MP1
  ceph $C --connect-timeout 20 osd new $OSDID >>"$LOG" 2>&1
  ceph $C auth import -i "$S/keyring" >>"$LOG" 2>&1
  ceph-osd $C -i 0 --mkfs --osd-uuid $OSDID >>"$LOG" 2>&1
  ceph $C osd crush add osd.0 1 root=default host=h >>"$LOG" 2>&1
  PIDFILE=$S/pid.osd; bg ceph-osd -f $C -i 0
  i=0; until ceph $C osd stat 2>/dev/null | grep -q '1 up'; do i=$((i+1)); [ $i -lt 100 ]; sleep 0.2; done
  gateway
  radosgw-admin $C -n client.rgw user create --uid test --display-name test --access-key test --secret-key testtest >>"$LOG" 2>&1
  node "$(dirname "$0")/_s3-mkbucket.mjs" "http://$HOST:$PORT" test-bucket test testtest >>"$LOG" 2>&1
}
stop() { for f in "$S/pid" "$S/pid.osd" "$S/pid.mon"; do stop_pidfile "$f"; done; }
url() { echo "http://$HOST:$PORT/test-bucket (path style, test/testtest, us-east-1)"; }
version() { echo "Ceph RGW $(deb_version radosgw)"; }
main "$@"
