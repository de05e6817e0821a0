#!/bin/bash
# Needs: apt-get install vsftpd openssl. Anonymous FTP with uploads under /data; explicit TLS offered (self-signed). Needs root.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18121}; ROOT=${ROOT:-$CACHE/unpacked}; [ ! -x /usr/sbin/vsftpd ] || ROOT=; mkdir -p "$S/root/data"
start() {
  self_signed; chmod 755 "$S" "$S/root"; chown daemon "$S/root/data"
  cat >"$S/vsftpd.conf" <<C
listen=YES
listen_address=$HOST
listen_port=$PORT
background=NO
anonymous_enable=YES
ftp_username=daemon
nopriv_user=nobody
no_anon_password=YES
local_enable=NO
write_enable=YES
anon_root=$S/root
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
anon_world_readable_only=NO
mdtm_write=YES
seccomp_sandbox=NO
isolate_network=NO
pasv_min_port=31200
pasv_max_port=31399
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=NO
force_anon_data_ssl=NO
force_local_logins_ssl=NO
force_local_data_ssl=NO
require_ssl_reuse=NO
ssl_tlsv1=YES
rsa_cert_file=$S/cert.pem
rsa_private_key_file=$S/key.pem
secure_chroot_dir=$S/empty
xferlog_enable=NO
C
  mkdir -p "$S/empty"; chown root "$S/vsftpd.conf"
  bg $ROOT/usr/sbin/vsftpd "$S/vsftpd.conf"; wait_port $PORT
}
url() { echo "ftp://anonymous@$HOST:$PORT/data"; }
version() { echo "vsftpd $(deb_version vsftpd)"; }
main "$@"
