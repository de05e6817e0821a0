#!/bin/bash
# Needs: npm i s3rver@3.7.1 (into $NODE_DIR). Access key S3RVER, secret S3RVER; bucket "test-bucket" made at start.
. "$(dirname "$0")/_lib.sh"; PORT=${PORT:-14568}; NODE_DIR=${NODE_DIR:-$CACHE/npm/s3rver}; DATA=${DATA:-$S/data}; mkdir -p "$DATA"
start() { bg node "$NODE_DIR/node_modules/s3rver/bin/s3rver.js" -d "$DATA" -a $HOST -p $PORT -s --configure-bucket test-bucket; wait_port $PORT; }
url() { echo "http://$HOST:$PORT/test-bucket (path style, S3RVER/S3RVER, us-east-1)"; }
version() { echo "s3rver $(npm_version "$NODE_DIR/node_modules/s3rver")"; }
main "$@"
