/**
 * What a test run says beyond vitest's own report: under CI when each file begins, and every minute what is running; at
 * the end the slowest files, which tests needed another try, one line for each kind of store and server, and last which
 * tests failed, so that the end of a log tells.
 *
 * With HOLDFAST_TEST_SECONDS the run ends after so many seconds, whatever hangs: what was running is named and counted as
 * failed. With HOLDFAST_TEST_REPORT, a folder, the last part goes to `report.txt` there instead of stdout, and the numbers
 * to `summary.json`.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import type { Reporter, SerializedError, TestCase, TestModule, Vitest } from "vitest/node";
import { serverReport } from "./report-lines.ts";

export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly retried: number;
}

interface RunningFile {
  readonly sinceMs: number;
  test: { readonly name: string; readonly sinceMs: number } | undefined;
}

const HEARTBEAT_MS = 60_000;
const SLOWEST = 15;

export default class RunReporter implements Reporter {
  readonly #ci = process.env["CI"] !== undefined;
  readonly #folder = process.env["HOLDFAST_TEST_REPORT"];
  readonly #running = new Map<string, RunningFile>();
  readonly #retried: string[] = [];
  readonly #failures: string[] = [];
  readonly #elapsed: { readonly file: string; readonly ms: number; readonly tests: number }[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  #root = "";
  #passed = 0;
  #failed = 0;
  #said = 0;

  onInit(vitest: Vitest): void {
    this.#root = vitest.config.root;
  }

  onTestRunStart(): void {
    if (!this.#ci) return;
    this.#timers.push(setInterval(() => this.#heartbeat(), HEARTBEAT_MS).unref());
    const seconds = Number(process.env["HOLDFAST_TEST_SECONDS"] ?? 0);
    if (seconds > 0) this.#timers.push(setTimeout(() => void this.#timeIsUp(seconds), seconds * 1000).unref());
  }

  /** A file is handed to a worker: what it does before its first test counts too. */
  onTestModuleQueued(file: TestModule): void {
    const name = this.#nameOf(file);
    this.#running.set(name, { sinceMs: performance.now(), test: undefined });
    if (this.#ci) this.#say(`begins ${name}`);
  }

  onTestCaseReady(test: TestCase): void {
    const running = this.#running.get(this.#nameOf(test.module));
    if (running) running.test = { name: test.fullName, sinceMs: performance.now() };
  }

  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    if (state === "passed") this.#passed++;
    if (state === "failed") {
      this.#failed++;
      this.#failures.push(`${this.#nameOf(test.module)} > ${test.fullName}: ${beginningOf(errors?.[0])}`);
    }
    const tries = (test.diagnostic()?.retryCount ?? 0) + 1;
    if (tries === 1) return;
    const reason = errors?.[0]?.message.split("\n", 1)[0] ?? "";
    this.#retried.push(`${this.#nameOf(test.module)} > ${test.fullName}: ${state} at try ${tries}; ${reason}`);
  }

  onTestModuleEnd(file: TestModule): void {
    const name = this.#nameOf(file);
    const running = this.#running.get(name);
    if (!running) return;
    this.#running.delete(name);
    const ms = performance.now() - running.sinceMs;
    this.#elapsed.push({ file: name, ms, tests: [...file.children.allTests()].length });
    // An error outside of its tests: as it was loaded, or in a hook.
    if (file.state() === "failed" && [...file.children.allTests("failed")].length === 0) {
      this.#failed++;
      this.#failures.push(`${name}: ${beginningOf(file.errors()[0])}`);
    }
  }

  async onTestRunEnd(_files: readonly TestModule[], unhandled: readonly SerializedError[]): Promise<void> {
    this.#failed += unhandled.length;
    for (const error of unhandled) this.#failures.push(`outside of every test: ${beginningOf(error)}`);
    await this.#finish();
  }

  async #finish(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    const text = (this.#ci ? this.#slowest() : "") + this.#triedAgain() + (await serverReport()) + this.#whatFailed();
    if (this.#folder === undefined) {
      if (text !== "") process.stdout.write(`\n${text}`);
      return;
    }
    const summary: Summary = { passed: this.#passed, failed: this.#failed, retried: this.#retried.length };
    writeFileSync(path.join(this.#folder, "report.txt"), text);
    writeFileSync(path.join(this.#folder, "summary.json"), JSON.stringify(summary));
  }

  /** The workers and servers that this leaves are ended by who set the bound. */
  async #timeIsUp(seconds: number): Promise<void> {
    this.#failures.push(`the ${seconds} s for all tests are over; running: ${this.#whatRuns()}`);
    this.#say(this.#failures.at(-1) ?? "");
    this.#failed += Math.max(1, this.#running.size);
    await this.#finish();
    process.exit(1);
  }

  #heartbeat(): void {
    // Only where nothing else was printed for a while.
    if (performance.now() - this.#said >= HEARTBEAT_MS) this.#say(`running: ${this.#whatRuns()}`);
  }

  #whatRuns(): string {
    const now = performance.now();
    const seconds = (sinceMs: number): string => `${Math.round((now - sinceMs) / 1000)} s`;
    const files = [...this.#running].map(
      ([name, { sinceMs, test }]) =>
        `${name} (${seconds(sinceMs)})` + (test ? ` > ${test.name} (${seconds(test.sinceMs)})` : ""),
    );
    return files.join("; ") || "nothing";
  }

  #slowest(): string {
    const slowest = this.#elapsed.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST);
    const line = ({ ms, file, tests }: (typeof slowest)[number]): string =>
      `${(ms / 1000).toFixed(1).padStart(7)} s  ${file} (${tests} tests)\n`;
    return `slowest files:\n${slowest.map(line).join("")}`;
  }

  #triedAgain(): string {
    if (this.#retried.length === 0) return this.#ci ? "no test needed another try\n" : "";
    return `tests that needed another try:\n${this.#retried.map((line) => `  ${line}\n`).join("")}`;
  }

  #whatFailed(): string {
    if (this.#failures.length === 0) return "";
    return `tests that failed:\n${this.#failures.map((text) => `  ${text.replaceAll("\n", "\n    ")}\n`).join("")}`;
  }

  #nameOf(file: TestModule): string {
    return path.relative(this.#root, file.moduleId);
  }

  #say(text: string): void {
    this.#said = performance.now();
    process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
  }
}

const ERROR_LINES = 12;

/** An error's message and where it was thrown, as far as a few lines tell it. */
function beginningOf(error: { readonly message?: string; readonly stack?: string } | undefined): string {
  const at = (error?.stack ?? "").split("\n").filter((line) => line.includes(".test.ts"));
  return [...(error?.message ?? "no error was given").split("\n").slice(0, ERROR_LINES), ...at.slice(0, 2)].join("\n");
}
