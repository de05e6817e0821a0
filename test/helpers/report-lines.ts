/** The lines behind server-report.ts, apart from it because the global set-up cannot load vitest's hooks. */
import { appendFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";

export interface ReportLine {
  readonly kind: string;
  readonly server: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped?: string;
}

function reportFile(): string | undefined {
  const folder = process.env["HOLDFAST_SERVERS_RUN"];
  return folder === undefined ? undefined : path.join(folder, "report.jsonl");
}

/** Adds a line. One write of less than a pipe's buffer, appended: processes do not mix theirs. */
export function writeReportLine(line: ReportLine): void {
  const file = reportFile();
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(line)}\n`);
}

/** The run's report as text, one line a kind and server; empty when nothing was reported. */
export async function serverReport(): Promise<string> {
  const file = reportFile();
  const text = file === undefined ? "" : await readFile(file, "utf8").catch(() => "");
  const lines = text
    .split("\n")
    .filter((line) => line.length > 0)
    .map((line) => JSON.parse(line) as ReportLine);
  const merged = new Map<string, ReportLine>();
  for (const line of lines) {
    const key = `${line.kind}\0${line.server}`;
    const before = merged.get(key);
    merged.set(key, {
      ...line,
      passed: line.passed + (before?.passed ?? 0),
      failed: line.failed + (before?.failed ?? 0),
    });
  }
  return [...merged.values()]
    .sort((a, b) => (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : a.server < b.server ? -1 : 1))
    .map((line) => {
      const outcome =
        line.skipped === undefined
          ? `${line.passed} passed${line.failed === 0 ? "" : `, ${line.failed} FAILED`}`
          : `skipped: ${line.skipped}`;
      return `store ${line.kind.padEnd(8)} on ${line.server.padEnd(36)} ${outcome}\n`;
    })
    .join("");
}
