/**
 * The folder of one index: its files, and which of them are valid.
 *
 * File names begin with 8 digits of the index's own name, so that files of a discarded index are not used in another.
 *
 * - `epoch`: the form of the files and the index's own name.
 * - `X-N.log`: the changes, in order: see `append-log.ts`. Logs are numbered from 0; each but the last is sealed.
 * - `X-FROM-TO.run`: the result of the logs FROM to TO for every key that they changed: see `block-file.ts`. The same logs
 *   always give the same run, so any process may make it, and two may at once.
 * - `*.tmp`: a run that is being written.
 *
 * There is no list of the files. The runs that cover the most logs from 0 on are valid, and the logs behind them. A log is
 * removed when a run covers it, and a run when a larger one does. An index is made beside its place and renamed to it. It is
 * discarded by unlinking its logs, which every process that has them open can see.
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
  /** Together they cover the logs from 0 to before `next`, in order. */
  readonly runs: readonly RunName[];
  /** The first log that no run covers. */
  readonly next: number;
  readonly last: number;
}

const RUN = /^([0-9a-f]{8})-(\d{1,12})-(\d{1,12})\.run$/u;
const LOG = /^([0-9a-f]{8})-(\d{1,12})\.log$/u;
/** Raised when the form of the files changes. An index of another form is discarded. */
const FORM = 3;
/**
 * A listing of a folder that changes may lack both an old file and the one that replaces it, so it is repeated at most
 * this often.
 */
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

/** A file's kind and logs, from its name; undefined for files of another index, and for others. */
function parseFile(epoch: string, file: string): FileName | undefined {
  const run = RUN.exec(file);
  if (run?.[1] === epoch.slice(0, 8)) return { kind: "run", from: Number(run[2]), to: Number(run[3]) };
  const log = LOG.exec(file);
  if (log?.[1] === epoch.slice(0, 8)) return { kind: "log", from: Number(log[2]), to: Number(log[2]) };
  return undefined;
}

/** The seed of a log's digests. Logs with the same number in another index have another seed. */
export function seedOf(epoch: string, number: number): bigint {
  return xxh64(Buffer.from(`${epoch} ${number}`));
}

/** The valid files. Throws `corrupt` if they do not fit together, and the errors of `readdirSync`. */
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

/** Removes files that are not valid any more. */
export function removeCovered(folder: string, epoch: string): void {
  const { runs, next } = listFiles(folder, epoch);
  const kept = new Set(runs.map((run) => runFile(epoch, run)));
  for (const name of readdirSync(folder)) {
    const file = parseFile(epoch, name);
    // A run that covers logs which this listing does not know is left alone.
    if (file !== undefined && file.to < next && !kept.has(name)) rmSync(join(folder, name), { force: true });
  }
}

/** Whether some process is writing this run. */
export function isBeingWritten(folder: string, epoch: string, run: RunName): boolean {
  const start = `${runFile(epoch, run)}.`;
  return readdirSync(folder).some((name) => name.startsWith(start) && name.endsWith(".tmp") && !isRemains(name));
}

/** Removes runs that were never finished, and the remains of discarded indexes. */
export function removeRemains(folder: string, place: string): void {
  for (const name of attempt(() => readdirSync(folder)) ?? [])
    if (isRemains(name)) attempt(() => rmSync(join(folder, name), { force: true }));
  for (const name of attempt(() => readdirSync(place)) ?? [])
    if (/^(?:gone|new)-/u.test(name) && isRemains(`${name}.tmp`))
      attempt(() => rmSync(join(place, name), { recursive: true, force: true }));
}

/** Whether a file is a temporary one whose process has ended. */
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

/** A suffix for names that only this process uses. */
export function ownSuffix(): string {
  return `${process.pid}.${randomBytes(6).toString("hex")}`;
}

/**
 * Makes an index in `folder`, below `place`, unless another process does so at this moment. Throws the file system's
 * errors.
 */
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

/** An index's own name: 32 hexadecimal digits. Throws `corrupt` if it does not have this form. */
export function readEpoch(folder: string): string {
  const text = readFileSync(join(folder, "epoch"), "latin1");
  const epoch = text.split(" ")[1] ?? "";
  if (text !== epochText(epoch)) throw damagedFile("it is of another form");
  return epoch;
}

/**
 * Discards an index, as far as that is possible; with `epoch`, only the index of that name. Processes that have it open see that as
 * soon as its logs are unlinked.
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

/** Does work whose failure does not matter. */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
