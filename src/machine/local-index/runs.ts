/** Runs: their form, reading several as one, writing one from logs, and merging several into one. */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { IndexCounts } from "../../ledger/ledger-index.ts";
import { isSettled } from "../../ledger/record.ts";
import type { NameState, PoolRecord, StoreRecord } from "../../ledger/record.ts";
import { packRecord, unpackRecord } from "../../ledger/segment.ts";
import { BlockFileReader, BlockFileWriter, damagedFile } from "./block-file.ts";
import type { BlockCache, BlockEntry, BlockSource } from "./block-file.ts";
import { attempt, ownSuffix, runFile } from "./index-folder.ts";
import type { RunName } from "./index-folder.ts";
import type { Overlay } from "./overlay.ts";

/** Kinds of keys, by their first character. */
export type Kind = "f" | "n" | "p" | "s" | "t" | "u" | "w";
/** The value that stands for a removed key. */
const NOTHING = Buffer.alloc(0);
const SOMETHING = Buffer.from("1");
const NO_TABLE: ReadonlyMap<string, number> = new Map();
/** The bytes written in one step of making a run. */
export const STEP_BYTES = 256 * 1024;

export function keyOf(kind: Kind, text: string): Buffer {
  return Buffer.from(kind + text);
}

export function packState(state: NameState): string {
  return JSON.stringify(state.records.map((record) => packRecord(record, NO_TABLE)));
}

export function unpackState(value: Buffer): NameState {
  const records: unknown = JSON.parse(value.toString());
  if (!Array.isArray(records)) throw damagedFile("an entry is no list");
  return { records: records.map((record: unknown) => unpackRecord(record, [], damagedFile)) };
}

/** The value of a fact, which may be an empty text. */
export function unpackFact(value: Buffer): string {
  return value.toString("utf8", 1);
}

interface RunText extends RunName {
  readonly epoch: string;
  readonly counts: IndexCounts;
}

/** An opened run. */
export class Run {
  readonly name: RunName;
  readonly counts: IndexCounts;
  readonly size: number;
  readonly file: BlockFileReader;
  readonly #fd: number;

  constructor(folder: string, name: RunName, epoch: string, cache: BlockCache) {
    this.#fd = openSync(join(folder, runFile(epoch, name)), "r");
    try {
      const source = sourceOf(this.#fd);
      this.file = new BlockFileReader(source, cache);
      this.size = source.size;
      const text = JSON.parse(this.file.text) as RunText;
      if (text.epoch !== epoch || text.from !== name.from || text.to !== name.to)
        throw damagedFile("a file is not the one that its name says");
      this.name = name;
      this.counts = text.counts;
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function sourceOf(fd: number): BlockSource {
  return {
    size: fstatSync(fd).size,
    read(offset, length) {
      const bytes = Buffer.allocUnsafeSlow(length);
      let read = 0;
      while (read < length) {
        const count = readSync(fd, bytes, read, length - read, offset + read);
        if (count === 0) throw damagedFile("a file is cut short");
        read += count;
      }
      return bytes;
    },
  };
}

/** The newest value of a key; undefined if there is none. */
export function lookUp(runs: readonly Run[], key: Buffer): Buffer | undefined {
  for (let at = runs.length - 1; at >= 0; at--) {
    const value = runs[at]?.file.get(key);
    if (value !== undefined) return value.length === 0 ? undefined : value;
  }
  return undefined;
}

/**
 * The entries of all runs from a key on, in order; of several with one key, the newest. Removed keys are among them.
 */
export function* mergedFrom(runs: readonly Run[], from: Buffer): Generator<BlockEntry, void, undefined> {
  // The newest run comes first, because the first of equal keys counts.
  const heads: { entry: BlockEntry; rest: Generator<BlockEntry, void, undefined> }[] = [];
  for (const { file } of [...runs].reverse()) {
    const rest = file.from(from);
    const first = rest.next();
    if (first.done !== true) heads.push({ entry: first.value, rest });
  }
  while (heads.length > 0) {
    let least = heads[0]?.entry;
    for (const { entry } of heads) if (least !== undefined && entry.key.compare(least.key) < 0) least = entry;
    if (least === undefined) return;
    yield least;
    for (let at = heads.length - 1; at >= 0; at--) {
      const head = heads[at];
      if (head === undefined || (head.entry !== least && !head.entry.key.equals(least.key))) continue;
      const next = head.rest.next();
      if (next.done === true) heads.splice(at, 1);
      else head.entry = next.value;
    }
  }
}

/** The entries of one kind whose key begins with a text, without removed keys. */
export function* entriesOf(
  runs: readonly Run[],
  kind: Kind,
  prefix: string,
  from = prefix,
): Generator<[string, Buffer]> {
  const start = keyOf(kind, prefix);
  for (const { key, value } of mergedFrom(runs, keyOf(kind, from))) {
    if (key.length < start.length || key.compare(start, 0, start.length, 0, start.length) !== 0) return;
    if (value.length > 0) yield [key.toString("utf8", 1), value];
  }
}

/** The entries of an overlay, one for each key that it changes, in order. */
function* entriesOfOverlay(overlay: Overlay): Generator<BlockEntry> {
  const sorted = <T>(entries: Iterable<readonly [string, T]>): [string, T][] =>
    [...entries]
      .map(([key, value]): [Buffer, [string, T]] => [Buffer.from(key), [key, value]])
      .sort(([a], [b]) => a.compare(b))
      .map(([, entry]) => entry);
  for (const [key, value] of sorted(overlay.facts))
    yield { key: keyOf("f", key), value: value === undefined ? NOTHING : Buffer.from(`=${value}`) };
  const unsettled: BlockEntry[] = [];
  for (const name of overlay.names()) {
    const state = overlay.state(name);
    yield { key: keyOf("n", name), value: state === undefined ? NOTHING : Buffer.from(packState(state)) };
    if (state !== undefined && !isSettled(state)) unsettled.push({ key: keyOf("u", name), value: SOMETHING });
    else if (overlay.wasUnsettled(name)) unsettled.push({ key: keyOf("u", name), value: NOTHING });
  }
  if (overlay.hasPool) yield { key: keyOf("p", ""), value: json(overlay.pool()) };
  for (const [name, isRead] of sorted(overlay.segments))
    yield { key: keyOf("s", name), value: isRead ? SOMETHING : NOTHING };
  const ids = [...overlay.storeIds()].map((id): [string, string] => [id, id]);
  for (const [id] of sorted(ids)) yield { key: keyOf("t", id), value: json(overlay.store(id)) };
  yield* unsettled;
  for (const [machine, rev] of sorted(overlay.writers())) yield { key: keyOf("w", machine), value: Buffer.from(rev) };
}

function json(value: PoolRecord | StoreRecord | undefined): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/**
 * Writes a run in steps, between which the caller may do other work. A generator that is ended early leaves no file. Returns
 * the size of the run.
 */
export function* writeRun(
  folder: string,
  name: RunName,
  text: { readonly epoch: string; readonly counts: IndexCounts },
  entries: Iterable<BlockEntry>,
): Generator<void, number, undefined> {
  const path = join(folder, runFile(text.epoch, name));
  const temporary = `${path}.${ownSuffix()}.tmp`;
  const fd = openSync(temporary, "wx", 0o600);
  try {
    let waiting: Buffer[] = [];
    let bytes = 0;
    const flush = (): void => {
      writeAll(fd, Buffer.concat(waiting, bytes));
      waiting = [];
      bytes = 0;
    };
    const writer = new BlockFileWriter((block) => {
      waiting.push(block);
      bytes += block.length;
    });
    let kind: number | undefined;
    for (const { key, value } of entries) {
      if (key[0] !== kind) writer.endBlock();
      kind = key[0];
      // The first run has no run below it, so it need not keep removed keys.
      if (value.length === 0 && name.from === 0) continue;
      writer.add(key, value);
      if (bytes < STEP_BYTES) continue;
      flush();
      yield;
    }
    writer.finish(JSON.stringify({ ...name, epoch: text.epoch, counts: text.counts }));
    flush();
    // The logs that the run covers are removed after it, so it must survive a power loss.
    fsyncSync(fd);
    renameSync(temporary, path);
    return writer.size;
  } finally {
    closeSync(fd);
    attempt(() => rmSync(temporary, { force: true }));
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

/** Writes an overlay as a run. */
export function writeOverlay(
  folder: string,
  name: RunName,
  epoch: string,
  runs: readonly Run[],
  overlay: Overlay,
): void {
  const before = runs.at(-1)?.counts ?? { objects: 0, unsettled: 0 };
  const change = overlay.counts();
  const counts = { objects: before.objects + change.objects, unsettled: before.unsettled + change.unsettled };
  for (const _ of writeRun(folder, name, { epoch, counts }, entriesOfOverlay(overlay))) continue;
}

/** Merges several consecutive runs into one. */
export function mergeRuns(folder: string, epoch: string, runs: readonly Run[]): Generator<void, number, undefined> {
  const [first, last] = [runs[0], runs.at(-1)];
  if (first === undefined || last === undefined) throw damagedFile("there is nothing to merge");
  const name = { from: first.name.from, to: last.name.to };
  return writeRun(folder, name, { epoch, counts: last.counts }, mergedFrom(runs, Buffer.alloc(0)));
}

/** The least number of runs in a merge. */
const MERGED_AT_ONCE = 4;

/**
 * The runs to merge: the last ones, and each one before them that is at most twice as large as those behind it together. So there are
 * few runs for each power of three of their size, and none is merged more often than that.
 */
export function dueMerge(runs: readonly Run[]): readonly Run[] {
  let size = runs.at(-1)?.size ?? 0;
  let start = runs.length - 1;
  for (; start > 0; start--) {
    const before = runs[start - 1]?.size ?? 0;
    if (before > 2 * size) break;
    size += before;
  }
  return runs.length - start < MERGED_AT_ONCE ? [] : runs.slice(start);
}
