#!/bin/bash
# Needs: apt-get install apache2. mod_dav with locks; Basic auth test:test on /auth, open on /dav.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18180}; M=/usr/lib/apache2/modules
mkdir -p "$S/www/dav" "$S/www/auth" "$S/var"
start() {
  htpasswd -bc "$S/htpasswd" test test >/dev/null 2>&1 || printf 'test:%s\n' "$(openssl passwd -apr1 test)" >"$S/htpasswd"
  [ "$(id -u)" != 0 ] || chown -R www-data "$S/www" "$S/var"; chmod 755 "$S"
  cat >"$S/httpd.conf" <<C
ServerRoot $S
ServerName localhost
Listen $HOST:$PORT
PidFile $S/var/httpd.pid
ErrorLog $LOG
LoadModule mpm_event_module $M/mod_mpm_event.so
LoadModule authz_core_module $M/mod_authz_core.so
LoadModule authz_user_module $M/mod_authz_user.so
LoadModule authn_core_module $M/mod_authn_core.so
LoadModule authn_file_module $M/mod_authn_file.so
LoadModule auth_basic_module $M/mod_auth_basic.so
LoadModule dav_module $M/mod_dav.so
LoadModule dav_fs_module $M/mod_dav_fs.so
LoadModule mime_module $M/mod_mime.so
$( [ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data' )
TypesConfig /etc/mime.types
Mutex file:$S/var
DocumentRoot $S/www
DavLockDB $S/var/DavLock
LimitXMLRequestBody 0
LimitRequestBody 0
<Directory $S/www>
  Dav On
  Require all granted
</Directory>
<Location /auth>
  AuthType Basic
  AuthName dav
  AuthUserFile $S/htpasswd
  Require valid-user
</Location>
C
  # Of one that was killed and that nobody has collected yet, Apache would think that it runs.
  rm -f "$S/var/httpd.pid"
  bg /usr/sbin/apache2 -f "$S/httpd.conf" -DFOREGROUND; wait_port $PORT
}
url() { echo "http://$HOST:$PORT/dav/"; }
version() { echo "Apache httpd $(deb_version apache2)"; }
main "$@"
