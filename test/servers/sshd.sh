#!/bin/bash
# Needs: apt-get install openssh-server. SFTP by key: user = whoever runs this, key $S/id.
# bash takes a login at SHLVL 0 for the user's own and reads ~/.bashrc first, whatever that does: it can take longer than
# what is tested, or wait for ever. SHLVL=1 makes it leave that file alone.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18122}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() {
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  [ -f "$S/hostkey" ] || ssh-keygen -q -t ed25519 -N '' -f "$S/hostkey"
  [ -f "$S/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$S/id"
  cp "$S/id.pub" "$S/authorized_keys"
  cat >"$S/sshd_config" <<C
Port $PORT
ListenAddress $HOST
HostKey $S/hostkey
PidFile none
AuthorizedKeysFile $S/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
SetEnv SHLVL=1
MaxStartups 200
MaxSessions 100
Subsystem sftp internal-sftp -d $DATA
C
  bg /usr/sbin/sshd -D -e -f "$S/sshd_config"; wait_port $PORT
}
url() { echo "sftp://$(id -un)@$HOST:$PORT$DATA key=$S/id"; }
version() { echo "OpenSSH $(deb_version openssh-server)"; }
main "$@"
