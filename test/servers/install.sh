#!/bin/bash
# Installs what the servers in this folder need: Debian packages by apt-get (as root, or through sudo where that asks for
# no password), npm packages into a cache folder outside the project. May be run again and again: it is quick when
# everything is there. Names on the command line limit it to those servers (`install.sh ceph-rgw sshd`).
#
# Prints one line for each server that could not be had, and exits 0 even then: the tests of that server say that they
# are skipped, and why. Exits 1 only with --strict.
set -u
CACHE=${HOLDFAST_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/holdfast-test-servers}
mkdir -p "$CACHE"; export PATH=$PATH:/usr/sbin:/sbin
STRICT=; WANT=
for a in "$@"; do case $a in --strict) STRICT=1 ;; *) WANT="$WANT $a" ;; esac; done

# server, what must be there once it is installed, how it is installed, what is installed. Of the FTP servers, whose
# packages exclude each other, only ProFTPD is installed; the others are unpacked beside it.
TABLE='
ceph-rgw     /usr/bin/radosgw                   apt     ceph-mon ceph-osd radosgw ceph-common
swift        /usr/bin/swift-proxy-server        apt     swift swift-proxy swift-account swift-container swift-object memcached curl
sshd         /usr/sbin/sshd                     apt     openssh-server
proftpd      /usr/sbin/proftpd                  apt     proftpd-core proftpd-mod-crypto openssl
vsftpd       @/usr/sbin/vsftpd                  unpack  vsftpd
pure-ftpd    @/usr/sbin/pure-ftpd               unpack  pure-ftpd pure-ftpd-common
apache-dav   /usr/sbin/apache2                  apt     apache2 apache2-utils openssl
nginx-dav    /usr/lib/nginx/modules/ngx_http_dav_ext_module.so apt nginx-light libnginx-mod-http-dav-ext
samba        /usr/sbin/smbd                     apt     samba smbclient
rsyncd       /usr/bin/rsync                     apt     rsync
rclone       /usr/bin/rclone                    apt     rclone
ntfs-3g      /usr/bin/lowntfs-3g                apt     ntfs-3g
memcached    /usr/bin/memcached                 apt     memcached
openssl      /usr/bin/openssl                   apt     openssl
azurite      %azurite/node_modules/azurite/package.json         npm  azurite@3.35.0
s3rver       %s3rver/node_modules/s3rver/package.json           npm  s3rver@3.7.1
gcs-firebase %firebase/node_modules/firebase-tools/package.json npm  firebase-tools@15.34.2
'
there() { case $1 in @*) [ -e "$CACHE/unpacked${1#@}" ] || [ -e "${1#@}" ] ;; %*) [ -e "$CACHE/npm/${1#%}" ] ;; *) [ -e "$1" ] ;; esac; }
wanted() {
  [ -n "$WANT" ] || return 0
  for w in $WANT; do case $w in "$1") return 0 ;; rclone-*) [ "$1" != rclone ] || return 0 ;; esac; done
  return 1
}
missing() { # missing HOW: the lines of the table that are wanted, installed that way and not there
  echo "$TABLE" | while read -r name test how what; do
    [ -n "$name" ] && [ "$how" = "$1" ] && wanted "$name" && ! there "$test" && echo "$name $test $how $what"
  done
}
if [ -z "$(missing apt; missing unpack; missing npm)" ]; then exit 0; fi

exec 9>"$CACHE/install.lock"
if command -v flock >/dev/null; then flock 9; fi # sessions that run at the same time install once

if [ "$(id -u)" = 0 ]; then SUDO=; elif sudo -n true 2>/dev/null; then SUDO="sudo -n"; else SUDO=none; fi
APT="$SUDO env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600"
LOG=$CACHE/install.log; : >"$LOG"

if [ -n "$(missing apt; missing unpack)" ]; then
  if [ "$SUDO" = none ]; then echo "install.sh: neither root nor sudo without a password: no Debian packages" >>"$LOG"
  elif ! command -v apt-get >/dev/null; then echo "install.sh: no apt-get here: no Debian packages" >>"$LOG"
  else
    # Packages of servers would start them, on their usual ports, as they are installed.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' | $SUDO tee $policy >/dev/null; $SUDO chmod 755 $policy; trap '$SUDO rm -f $policy' EXIT; fi
    $APT update >>"$LOG" 2>&1
    all=$(missing apt | while read -r _ _ _ what; do echo "$what"; done)
    # shellcheck disable=SC2086
    [ -z "$all" ] || $APT install -y --no-install-recommends $all >>"$LOG" 2>&1 9>&- ||
      missing apt | while read -r _ _ _ what; do $APT install -y --no-install-recommends $what >>"$LOG" 2>&1 9>&-; done
    missing unpack | while read -r name _ _ what; do
      mkdir -p "$CACHE/deb/$name" "$CACHE/unpacked"
      # shellcheck disable=SC2086
      (cd "$CACHE/deb/$name" && apt-get -qq download $what && for d in *.deb; do dpkg -x "$d" "$CACHE/unpacked"; done) >>"$LOG" 2>&1
    done
  fi
fi
missing npm | while read -r name test _ what; do
  dir=${test#%}; dir=$CACHE/npm/${dir%%/*}; mkdir -p "$dir"
  # shellcheck disable=SC2086
  (cd "$dir" && { [ -e package.json ] || echo '{"private":true}' >package.json; } && npm install --no-audit --no-fund --loglevel=error $what) >>"$LOG" 2>&1 9>&- ||
    rm -rf "$dir"
done

bad=$(missing apt; missing unpack; missing npm)
[ -z "$bad" ] || echo "$bad" | while read -r name _ how what; do echo "install.sh: could not get $name ($how: $what); see $LOG"; done
[ -z "$bad" ] || [ -z "$STRICT" ]
