/**
 * The files of one index, and which of them count.
 *
 * Names begin with 8 digits of the index's own name, so that files of one that was thrown away do not count in another.
 *
 * - `epoch`: the form of the files and the index's own name.
 * - `X-N.log`: what was changed, in order: see `append-log.ts`. Logs are numbered from 0; each but the last is sealed.
 * - `X-FROM-TO.run`: what the logs FROM to TO made of every key that they changed: see `block-file.ts`. From the same logs
 *   everybody makes the same run, so it does not matter who does, or that two do at once.
 * - `*.tmp`: a run that is being written.
 *
 * There is no list of them: the runs that cover most logs, from 0 on, count, and the logs behind them. A log goes when a run
 * covers it, a run when a larger one does. An index as a whole is made beside its place and renamed to it, and is thrown away by
 * unlinking its logs: whoever has them open sees that.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { xxh64 } from "../../ledger/digest.ts";
import { AppendLog } from "./append-log.ts";
import { damagedFile } from "./block-file.ts";

export interface RunName {
  readonly from: number;
  readonly to: number;
}

export interface Files {
  /** They cover the logs from 0 to before `next`, in order. */
  readonly runs: readonly RunName[];
  /** The first log that no run covers. */
  readonly next: number;
  readonly last: number;
}

const RUN = /^([0-9a-f]{8})-(\d{1,12})-(\d{1,12})\.run$/u;
const LOG = /^([0-9a-f]{8})-(\d{1,12})\.log$/u;
/** Raised when what is kept changes its form: an index of another form is thrown away. */
const FORM = 3;
/** Two that list a folder while it changes may see neither what was there nor what came instead. */
const LISTINGS = 20;

export function runFile(epoch: string, { from, to }: RunName): string {
  return `${epoch.slice(0, 8)}-${from}-${to}.run`;
}

export function logFile(epoch: string, number: number): string {
  return `${epoch.slice(0, 8)}-${number}.log`;
}

interface FileName extends RunName {
  readonly kind: "run" | "log";
}

/** What a file is by its name; undefined for another one, and for one of another index. */
function parseFile(epoch: string, file: string): FileName | undefined {
  const run = RUN.exec(file);
  if (run?.[1] === epoch.slice(0, 8)) return { kind: "run", from: Number(run[2]), to: Number(run[3]) };
  const log = LOG.exec(file);
  if (log?.[1] === epoch.slice(0, 8)) return { kind: "log", from: Number(log[2]), to: Number(log[2]) };
  return undefined;
}

/** What a log's digests begin with: another index's log of the same number has another one. */
export function seedOf(epoch: string, number: number): bigint {
  return xxh64(Buffer.from(`${epoch} ${number}`));
}

/** Which files count. Throws `corrupt` where they do not fit together, and as `readdirSync` does. */
export function listFiles(folder: string, epoch: string): Files {
  for (let more = LISTINGS; ; more--) {
    const files = coverOf(readdirSync(folder), epoch);
    if (files !== undefined) return files;
    if (more === 0) throw damagedFile("files are missing");
  }
}

function coverOf(names: readonly string[], epoch: string): Files | undefined {
  const longest = new Map<number, number>();
  const logs = new Set<number>();
  for (const name of names) {
    const file = parseFile(epoch, name);
    if (file?.kind === "run") longest.set(file.from, Math.max(file.to, longest.get(file.from) ?? 0));
    else if (file?.kind === "log") logs.add(file.from);
  }
  const runs: RunName[] = [];
  let next = 0;
  for (let to = longest.get(next); to !== undefined && to >= next; to = longest.get(next)) {
    runs.push({ from: next, to });
    next = to + 1;
  }
  const last = Math.max(-1, ...logs);
  for (let number = next; number <= last; number++) if (!logs.has(number)) return undefined;
  return last < next ? undefined : { runs, next, last };
}

/** Removes files that do not count any more. */
export function removeCovered(folder: string, epoch: string): void {
  const { runs, next } = listFiles(folder, epoch);
  const kept = new Set(runs.map((run) => runFile(epoch, run)));
  for (const name of readdirSync(folder)) {
    const file = parseFile(epoch, name);
    // A run that covers more than this listing knew of is left to its writer.
    if (file !== undefined && file.to < next && !kept.has(name)) rmSync(join(folder, name), { force: true });
  }
}

/** Whether some process is writing this run. */
export function isBeingWritten(folder: string, epoch: string, run: RunName): boolean {
  const start = `${runFile(epoch, run)}.`;
  return readdirSync(folder).some((name) => name.startsWith(start) && name.endsWith(".tmp") && !isRemains(name));
}

/** Removes runs that somebody began to write and did not end, and remains of indexes that were thrown away. */
export function removeRemains(folder: string, place: string): void {
  for (const name of attempt(() => readdirSync(folder)) ?? [])
    if (isRemains(name)) attempt(() => rmSync(join(folder, name), { force: true }));
  for (const name of attempt(() => readdirSync(place)) ?? [])
    if (/^(?:gone|new)-/u.test(name) && isRemains(`${name}.tmp`))
      attempt(() => rmSync(join(place, name), { recursive: true, force: true }));
}

/** Whether it is a temporary file whose process has ended. */
function isRemains(name: string): boolean {
  const pid = /[-.](\d+)\.[0-9a-f]+\.tmp$/u.exec(name)?.[1];
  if (pid === undefined || Number(pid) === process.pid) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

/** For the name of what this process alone makes. */
export function ownSuffix(): string {
  return `${process.pid}.${randomBytes(6).toString("hex")}`;
}

/** Makes an index in `folder`, below `place`, unless somebody else does so at this moment. Throws what hinders it. */
export function makeIndex(place: string, folder: string): void {
  const made = join(place, `new-${ownSuffix()}`);
  try {
    mkdirSync(made, { mode: 0o700 });
    const epoch = randomBytes(16).toString("hex");
    const file = openSync(join(made, "epoch"), "wx", 0o600);
    try {
      writeSync(file, epochText(epoch));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    AppendLog.open(join(made, logFile(epoch, 0)), seedOf(epoch, 0)).close();
    renameSync(made, folder);
  } catch (error) {
    attempt(() => rmSync(made, { recursive: true, force: true }));
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "ENOTEMPTY" || code === "EEXIST") return;
    throw error;
  }
}

function epochText(epoch: string): string {
  const text = `${FORM} ${epoch}`;
  return `${text} ${xxh64(Buffer.from(text)).toString(16)}\n`;
}

/** An index's own name: 32 hexadecimal digits. Throws `corrupt` for what is none of this form. */
export function readEpoch(folder: string): string {
  const text = readFileSync(join(folder, "epoch"), "latin1");
  const epoch = text.split(" ")[1] ?? "";
  if (text !== epochText(epoch)) throw damagedFile("it is of another form");
  return epoch;
}

/**
 * Throws an index away, as far as that is possible; with `epoch` only the one of that name. Whoever has it open knows as soon as its
 * logs are unlinked.
 */
export function discardIndex(place: string, folder: string, epoch?: string): void {
  const stands = attempt(() => readEpoch(folder));
  if (epoch !== undefined && stands !== undefined && stands !== epoch) return;
  for (const name of attempt(() => readdirSync(folder)) ?? [])
    if (LOG.test(name)) attempt(() => unlinkSync(join(folder, name)));
  const gone = join(place, `gone-${ownSuffix()}`);
  attempt(() => renameSync(folder, gone));
  attempt(() => rmSync(gone, { recursive: true, force: true }));
  attempt(() => rmSync(folder, { recursive: true, force: true }));
}

/** Nothing hangs on whether it can be done. */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
