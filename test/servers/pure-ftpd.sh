#!/bin/bash
# Needs: apt-get install pure-ftpd (conflicts with vsftpd/proftpd), or: apt-get download pure-ftpd; dpkg -x into $ROOT. Virtual user test:test.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18321}; ROOT=${ROOT:-$CACHE/unpacked}; [ ! -x /usr/sbin/pure-ftpd ] || ROOT=
mkdir -p "$S/data"
start() {
  chown 65534 "$S/data"; chmod 755 "$S"
  [ -s "$S/p.pdb" ] || { printf 'test\ntest\n' | $ROOT/usr/bin/pure-pw useradd test -u 65534 -g 65534 -d "$S/data" -f "$S/passwd" -m -F "$S/p.pdb" >/dev/null; }
  bg $ROOT/usr/sbin/pure-ftpd -S $HOST,$PORT -l puredb:"$S/p.pdb" -E -H -A -u 1 -p 31600:31799 -g "$S/ftpd.pid" -c 100 -C 100 -I 60; wait_port $PORT
}
url() { echo "ftp://test:test@$HOST:$PORT/"; }
version() { echo "Pure-FTPd $(deb_version pure-ftpd)"; }
main "$@"
