#!/bin/bash
# Needs: npm i firebase-tools@15.34.2 (into $NODE_DIR; 312 MB, 84 s). GCS JSON API without auth. Any bucket springs into being.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-14580}; NODE_DIR=${NODE_DIR:-$CACHE/npm/firebase}
start() { TMPDIR=$S bg node "$(dirname "$0")/gcs-firebase.mjs" "$NODE_DIR" $HOST $PORT; wait_port $PORT; }
url() { echo "http://$HOST:$PORT (STORAGE_EMULATOR_HOST)"; }
version() { echo "firebase-tools storage emulator $(npm_version "$NODE_DIR/node_modules/firebase-tools")"; }
main "$@"
