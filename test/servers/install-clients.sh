#!/bin/bash
# Installs the programs that tests use, from Debian. Quick when everything is there. Prints one line
# for each that could not be had, and exits 0 even then: the tests say what they skip.
set -u
PROGRAMS="duplicity:duplicity restic:restic rclone:rclone aws:awscli s3cmd:s3cmd litmus:litmus mount.davfs:davfs2 \
  git:git git-annex:git-annex strace:strace openssl:openssl ssh:openssh-client ps:procps"
missing() {
  local one; for one in $PROGRAMS; do PATH=/usr/bin:/usr/sbin:/sbin command -v "${one%%:*}" >/dev/null || echo "${one#*:}"; done
  /usr/bin/python3 -c 'import boto3' 2>/dev/null || echo python3-boto3
}
[ -n "$(missing)" ] || exit 0
if [ "$(id -u)" = 0 ]; then SUDO=; elif sudo -n true 2>/dev/null; then SUDO="sudo -n"; else SUDO=none; fi
if [ "$SUDO" != none ] && command -v apt-get >/dev/null; then
  exec 9>"${TMPDIR:-/tmp}/holdfast-install-clients.lock"; command -v flock >/dev/null && flock 9
  APT="$SUDO env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600"
  $APT update >/dev/null 2>&1
  # shellcheck disable=SC2046
  $APT install -y --no-install-recommends $(missing) >/dev/null 2>&1 9>&- ||
    for one in $(missing); do $APT install -y --no-install-recommends "$one" >/dev/null 2>&1 9>&-; done
fi
for one in $(missing); do echo "install-clients.sh: could not get $one"; done
