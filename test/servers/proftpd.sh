#!/bin/bash
# Needs: apt-get install proftpd-core proftpd-mod-crypto   (conflicts with vsftpd), or side by side without installing:
#   apt-get download proftpd-core proftpd-mod-crypto libhiredis0.14 libmemcached11 libmemcachedutil2 libhashkit2; dpkg -x each into $ROOT
# Virtual user test:test (no system account), MLSD, MFMT, HASH, explicit TLS with a self-signed certificate.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18221}; ROOT=${ROOT:-$CACHE/unpacked}; [ ! -x /usr/sbin/proftpd ] || ROOT=
export LD_LIBRARY_PATH=$ROOT/usr/lib/x86_64-linux-gnu; M=$ROOT/usr/lib/proftpd; mkdir -p "$S/data"
start() {
  self_signed; chmod 600 "$S/key.pem"
  printf 'test:%s:%s:%s::%s:/bin/sh\n' "$(openssl passwd -1 test)" "$(id -u)" "$(id -g)" "$S/data" >"$S/passwd"; chmod 600 "$S/passwd"
  cat >"$S/proftpd.conf" <<C
ModulePath $M
LoadModule mod_tls.c
LoadModule mod_digest.c
ServerType standalone
ServerName test
DefaultAddress $HOST
Port $PORT
SocketBindTight on
UseIPv6 off
User $(id -un)
Group $(id -gn)
RootLogin on
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile $S/passwd
PidFile $S/proftpd.pid
ScoreboardFile $S/scoreboard
SystemLog $LOG
TransferLog none
WtmpLog off
MaxInstances 100
PassivePorts 31400 31599
UseReverseDNS off
DelayEngine off
AllowOverwrite on
AllowStoreRestart on
DefaultRoot ~
<IfModule mod_tls.c>
TLSEngine on
TLSRequired off
TLSRSACertificateFile $S/rsa.pem
TLSRSACertificateKeyFile $S/rsakey.pem
TLSVerifyClient off
TLSOptions NoSessionReuseRequired ${TLS_OPTIONS:-}
TLSLog $S/tls.log
</IfModule>
C
  [ -s "$S/rsa.pem" ] || openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$S/rsakey.pem" -out "$S/rsa.pem" 2>/dev/null; chmod 600 "$S/rsakey.pem"
  bg $ROOT/usr/sbin/proftpd -n -c "$S/proftpd.conf"; wait_port $PORT
}
url() { echo "ftp://test:test@$HOST:$PORT/"; }
version() { echo "ProFTPD $(deb_version proftpd-core)"; }
main "$@"
