"""Drives duplicity's multi backend on files as they are: put SOURCE, or get FOLDER.

usage: duplicity-multi.py put|get URL FOLDER
"""
import os
import sys

from duplicity import backend, config, log, path

action, url, folder = sys.argv[1:]
log.setup()
log.setverbosity(log.ERROR)
config.num_retries = 1
config.s3_endpoint_url = os.environ.get("BENCH_S3_ENDPOINT")
backend.import_backends()
multi = backend.get_backend(url)
if action == "put":
    for name in sorted(os.listdir(os.fsencode(folder))):
        multi.put(path.Path(os.path.join(os.fsencode(folder), name)), name)
else:
    for name in sorted(multi.list()):
        multi.get(name, path.Path(os.path.join(os.fsencode(folder), name)))
