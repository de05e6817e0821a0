/**
 * The report of a test run: one line for each kind of store and server, with the server's version and how many tests
 * passed on it, or why they were skipped.
 *
 * Call `reportStore(kind, server)` once in a test file, at its top level or in a `describe`: it counts the tests of that
 * scope. The lines are printed when the run ends (see run-reporter.ts).
 */
import { afterAll, afterEach } from "vitest";
import { writeReportLine } from "./report-lines.ts";
import type { RunningServer, SkippedServer } from "./servers.ts";

/** A server of servers.ts, or a program (rclone) that is its own server. */
export type ReportedServer =
  | Pick<RunningServer, "running" | "version">
  | (Pick<SkippedServer, "running" | "skipped"> & { readonly name: string });

/** Counts the tests around the call as tests of `kind` (`s3`, `sftp` …) on `server`. */
export function reportStore(kind: string, server: ReportedServer): void {
  if (!server.running) {
    // A scope whose tests are all skipped runs no hooks, so the line is written at once.
    writeReportLine({ kind, server: server.name, passed: 0, failed: 0, skipped: server.skipped });
    return;
  }
  // By test: one that is tried again counts as it ended.
  const outcomes = new Map<string, boolean>();
  afterEach(({ task }) => void outcomes.set(task.id, task.result?.state !== "fail"));
  afterAll(() => {
    const passed = [...outcomes.values()].filter(Boolean).length;
    writeReportLine({ kind, server: server.version, passed, failed: outcomes.size - passed });
  });
}
