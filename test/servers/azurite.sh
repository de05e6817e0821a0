#!/bin/bash
# Needs: npm i azurite@3.35.0 (into $NODE_DIR; 3.36+ needs Node >= 21/22). Blob service only.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-14570}; NODE_DIR=${NODE_DIR:-$CACHE/npm/azurite}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() { bg node "$NODE_DIR/node_modules/azurite/dist/src/blob/main.js" -l "$DATA" --blobHost $HOST --blobPort $PORT --silent --skipApiVersionCheck --disableTelemetry; wait_port $PORT; }
url() { echo "http://$HOST:$PORT/devstoreaccount1 (account devstoreaccount1, key Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==)"; }
version() { echo "Azurite $(npm_version "$NODE_DIR/node_modules/azurite")"; }
main "$@"
