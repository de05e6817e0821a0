#!/bin/bash
# Needs: apt-get install nginx-light libnginx-mod-http-dav-ext
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-18280}; mkdir -p "$S/data" "$S/tmp"
start() {
  chmod 755 "$S"; [ "$(id -u)" != 0 ] || chown -R www-data "$S/data" "$S/tmp"
  cat >"$S/nginx.conf" <<C
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
$( [ "$(id -u)" != 0 ] || echo 'user www-data;' )
worker_processes 2; daemon off; pid $S/nginx.pid; error_log $LOG;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0; client_body_temp_path $S/tmp; proxy_temp_path $S/tmp; fastcgi_temp_path $S/tmp; uwsgi_temp_path $S/tmp; scgi_temp_path $S/tmp;
  dav_ext_lock_zone zone=foo:10m;
  server { listen $HOST:$PORT; root $S/data;
    location / { dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK; dav_ext_lock zone=foo; create_full_put_path on; dav_access user:rw group:r all:r; min_delete_depth 0; }
  }
}
C
  bg /usr/sbin/nginx -p "$S" -c "$S/nginx.conf" -e "$LOG"; wait_port $PORT
}
url() { echo "http://$HOST:$PORT/"; }
version() { echo "nginx $(deb_version nginx-light)"; }
main "$@"
