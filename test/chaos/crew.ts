/** The processes of a round: started, killed, stopped for a while, frozen all at once, and asked to end. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { commandAnswer } from "./answers.ts";
import { nowMs } from "./clocks.ts";
import type { Clock } from "./clocks.ts";
import { JournalReader } from "./journal.ts";
import type { Operation, Question } from "./journal.ts";
import type { Orders } from "./member.ts";

/** A process's place, which one after the other takes. */
export interface Post {
  readonly name: string;
  readonly script: "writer.js" | "care.js";
  readonly clock: Clock;
  readonly writer: number;
}

interface Worker {
  readonly post: Post;
  readonly child: ChildProcess;
  readonly reader: JournalReader;
  readonly exited: Promise<void>;
  stderr: string;
  /** It was killed, or asked to end. */
  isExpected: boolean;
  diedMs: number | undefined;
}

export interface CrewOptions {
  readonly home: string;
  readonly pool: string;
  readonly isStripe: boolean;
  readonly seed: number;
  readonly beganMs: number;
  /** The command's main file. */
  readonly main: string;
  /** A process ended by itself. */
  readonly onEnded: (name: string, how: string) => void;
}

/** What was noted since the last look. */
export interface News {
  readonly begun: readonly Operation[];
  readonly ended: readonly Operation[];
  /** Under way when their process died; their end is when that was known. */
  readonly died: readonly Operation[];
}

const FREEZE_MS = 30_000;
const END_MS = 90_000;
const STDERR_CHARS = 4000;

export class Crew {
  readonly #options: CrewOptions;
  readonly #workers = new Map<string, Worker>();
  /** Those that ended, until the last of their notes is read. */
  #gone: Worker[] = [];
  readonly #commands = new Set<ChildProcess>();
  /** Of commands that ended, until they are told. */
  #answered: Operation[] = [];
  readonly #stopped = new Set<ChildProcess>();
  #runs = 0;
  #frozen = false;

  constructor(options: CrewOptions) {
    this.#options = options;
  }

  cacheOf(name: string): string {
    return join(this.#options.home, `cache-${name}`);
  }

  start(post: Post): void {
    const { home, pool, isStripe, seed, beganMs } = this.#options;
    const run = ++this.#runs;
    const label = `${post.name}.${run}`;
    const { name, clock, writer } = post;
    const journal = join(home, `${label}.jsonl`);
    const orders: Orders = {
      pool,
      cache: this.cacheOf(name),
      journal,
      seed: seed + run,
      beganMs,
      clock,
      label,
      writer,
      isStripe,
    };
    const child = spawn(process.execPath, [join(import.meta.dirname, post.script), JSON.stringify(orders)], {
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      env: { ...process.env, HOME: home },
    });
    const worker: Worker = {
      post,
      child,
      reader: new JournalReader(journal, name),
      exited: once(child, "close").then(() => this.#end(worker)),
      stderr: "",
      isExpected: false,
      diedMs: undefined,
    };
    child.stderr?.on(
      "data",
      (text: Buffer) => (worker.stderr = (worker.stderr + text.toString()).slice(-STDERR_CHARS)),
    );
    this.#workers.set(name, worker);
    if (this.#frozen) child.kill("SIGSTOP");
  }

  #end(worker: Worker): void {
    const { child, post } = worker;
    worker.diedMs = nowMs();
    if (this.#workers.get(post.name) === worker) this.#workers.delete(post.name);
    this.#gone.push(worker);
    this.#stopped.delete(child);
    if (!worker.isExpected || (child.signalCode === null && child.exitCode !== 0)) {
      this.#options.onEnded(post.name, `with ${child.signalCode ?? child.exitCode}: ${worker.stderr.trim()}`);
    }
  }

  /** SIGKILL; then, after a while, another takes its place. Gives whether there was something to kill. */
  async kill(name: string, againMs: number, losesCache: boolean): Promise<boolean> {
    const worker = this.#workers.get(name);
    if (worker === undefined) {
      const [command] = this.#commands;
      if (name === "command") command?.kill("SIGKILL");
      return name === "command" && command !== undefined;
    }
    worker.isExpected = true;
    worker.child.kill("SIGKILL");
    await worker.exited;
    if (losesCache && existsSync(this.cacheOf(name)))
      renameSync(this.cacheOf(name), `${this.cacheOf(name)}-${this.#runs}`);
    await delay(againMs);
    this.start(worker.post);
    return true;
  }

  /** SIGSTOP for a while. */
  async stop(name: string, forMs: number): Promise<boolean> {
    const child = name === "command" ? [...this.#commands][0] : this.#workers.get(name)?.child;
    if (child === undefined || this.#stopped.has(child)) return false;
    this.#stopped.add(child);
    child.kill("SIGSTOP");
    await delay(forMs);
    // While others are frozen this one stays so, too; it goes on with them.
    this.#stopped.delete(child);
    if (!this.#frozen) child.kill("SIGCONT");
    return true;
  }

  /** Does something while no process of the round moves: what they were asking the kernel for has ended. */
  async frozen<T>(act: () => T): Promise<T> {
    this.#frozen = true;
    const children = (): ChildProcess[] => [
      ...[...this.#workers.values()].map(({ child }) => child),
      ...this.#commands,
    ];
    try {
      for (const child of children()) child.kill("SIGSTOP");
      const endMs = nowMs() + FREEZE_MS;
      while (!children().every(({ pid }) => pid === undefined || isStopped(pid))) {
        if (nowMs() > endMs) throw new Error("the processes do not stop");
        await delay(2);
      }
      return act();
    } finally {
      this.#frozen = false;
      for (const child of children()) if (!this.#stopped.has(child)) child.kill("SIGCONT");
    }
  }

  /** Reads all journals. */
  news(): News {
    const workers = [...this.#workers.values(), ...this.#gone];
    const gone = this.#gone;
    this.#gone = [];
    const begun: Operation[] = [];
    const ended = this.#answered;
    this.#answered = [];
    for (const { reader } of workers) {
      const read = reader.read();
      begun.push(...read.begun);
      ended.push(...read.ended);
    }
    const died = gone.flatMap(({ reader, diedMs = nowMs() }) => {
      const { open } = reader;
      for (const operation of open) operation.endMs = diedMs;
      reader.close();
      return open;
    });
    return { begun, ended, died };
  }

  /** Operations under way in processes that are not stopped. */
  open(): readonly Operation[] {
    return [...this.#workers.values()]
      .filter(({ child }) => !this.#stopped.has(child))
      .flatMap(({ reader }) => reader.open);
  }

  /** Runs the command. What was killed has the code `killed`. */
  async command(question: Question, args: readonly string[], cache: string): Promise<Operation> {
    const { home, pool, main } = this.#options;
    const startMs = nowMs();
    const child = spawn(process.execPath, [main, "-p", pool, "--json", ...args], {
      cwd: home,
      env: { ...process.env, HOME: home, HOLDFAST_CACHE: cache },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#commands.add(child);
    if (this.#frozen) child.kill("SIGSTOP");
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => (output[name] += text));
    }
    await once(child, "close");
    this.#commands.delete(child);
    this.#stopped.delete(child);
    const operation: Operation = { ...question, by: "command", startMs, endMs: nowMs() };
    const said = `${args.join(" ")}: ${output.stderr.trim()} ${output.stdout.trim()}`.slice(0, STDERR_CHARS);
    if (child.exitCode === null) operation.error = { code: "killed", text: String(child.signalCode) };
    else if (child.exitCode === 2) operation.error = { code: "usage", text: said };
    else {
      const answer = commandAnswer(output.stdout, child.exitCode);
      if (answer === undefined && child.exitCode !== 0) operation.error = { code: "failed", text: said };
      else operation.answer = answer ?? { exitCode: 0 };
    }
    this.#answered.push(operation);
    appendFileSync(join(home, "command.jsonl"), `${JSON.stringify(operation)}\n`);
    return operation;
  }

  /** Asks all to end, and waits; gives those that did not and had to be killed. */
  async end(): Promise<readonly string[]> {
    const late: string[] = [];
    await Promise.all(
      [...this.#workers].map(async ([name, worker]) => {
        worker.isExpected = true;
        worker.child.kill("SIGTERM");
        worker.child.kill("SIGCONT");
        if (await within(END_MS, worker.exited)) return;
        late.push(name);
        worker.child.kill("SIGKILL");
        await worker.exited;
      }),
    );
    return late;
  }

  /** Ends everything at once. */
  abandon(): void {
    for (const worker of this.#workers.values()) {
      worker.isExpected = true;
      worker.child.kill("SIGKILL");
    }
    for (const child of this.#commands) child.kill("SIGKILL");
  }
}

/** Whether the work ends in so much time. Rejects as it does. */
export async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const patience = new AbortController();
  const waited = delay(ms, false, { signal: patience.signal }).catch(() => false);
  try {
    return await Promise.race([work.then(() => true), waited]);
  } finally {
    patience.abort();
  }
}

/** Whether every thread of a process has stopped, or is gone. */
function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  try {
    return readdirSync(tasks).every((task) => {
      const stat = readFileSync(join(tasks, task, "stat"), "utf8");
      return "TtZX".includes(stat.slice(stat.lastIndexOf(")") + 2)[0] ?? "");
    });
  } catch {
    return !existsSync(tasks);
  }
}
