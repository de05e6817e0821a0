"""Runs the S3 tests of OpenStack Swift against any S3 server.

usage: swift_cases.py SOURCE ENDPOINT ACCESS_KEY SECRET_KEY [CASE...]

SOURCE is Swift's source, unpacked. Without cases all are run. Prints one line for each: `ok NAME`, `skip NAME: reason` or
`FAIL NAME: reason`. What Swift's package for functional tests would read from a Swift server is given here instead, so none
need be running. The server is emptied by each test, before and after it.
"""
import os
import sys
import types
import unittest

source, endpoint, access_key, secret_key, *wanted = sys.argv[1:]
sys.path.insert(0, source)
os.environ["SWIFT_TEST_QUIET_BOTO_LOGS"] = "1"

functional = types.ModuleType("test.functional")
functional.__path__ = [os.path.join(source, "test", "functional")]
functional.SkipTest = unittest.SkipTest
functional.setup_package = functional.teardown_package = lambda: None
functional.cluster_info = {
    "swift": {"max_file_size": 5 * 1024**3, "max_object_name_length": 1024},
    "s3api": {
        "max_bucket_listing": 1000,
        "max_parts_listing": 1000,
        "max_upload_part_num": 10000,
        "max_multi_delete_objects": 1000,
        "min_segment_size": 5 * 1024**2,
        "allow_multipart_uploads": True,
        "s3_acl": False,
        "location": "us-east-1",
    },
}
functional.config = {
    "s3_storage_url": endpoint,
    "s3_access_key": access_key,
    "s3_secret_key": secret_key,
    "username": access_key,
    "s3_region": "us-east-1",
}
import test  # noqa: E402 -- Swift's own, from SOURCE

sys.modules["test.functional"] = test.functional = functional
modules = ["bucket", "multi_delete", "multi_upload", "object", "presigned", "service", "versioning", "acl", "xxe_injection"]
suite = unittest.defaultTestLoader.loadTestsFromNames([f"test.functional.s3api.test_{name}" for name in modules])


def cases(tests):
    for one in tests:
        if isinstance(one, unittest.TestSuite):
            yield from cases(one)
        else:
            yield one


def name_of(case):
    return ".".join(case.id().split(".")[-3:])


class Lines(unittest.TestResult):
    def startTest(self, case):
        # Makes boto sign with version 4. Some classes set it and take it away again.
        os.environ["S3_USE_SIGV4"] = "True"
        super().startTest(case)

    @staticmethod
    def say(word, case, reason=""):
        reason = " ".join(reason.split())
        print(word, name_of(case) + (f": {reason}" if reason else ""), flush=True)

    def addSuccess(self, case):
        self.say("ok", case)

    def addSkip(self, case, reason):
        self.say("skip", case, reason)

    def addFailure(self, case, error):
        self.say("FAIL", case, f"{error[0].__name__}: {error[1]} {self._exc_info_to_string(error, case)[-700:]}")

    addError = addFailure


chosen = unittest.TestSuite()
for case in cases(suite):
    # Where a class is there for each version of signatures, only that of version 4 is run: it knows what boto gets wrong.
    twin = f"{type(case).__name__}SigV4"
    if not hasattr(sys.modules[type(case).__module__], twin) and (not wanted or name_of(case) in wanted):
        chosen.addTest(case)
chosen.run(Lines())
