/**
 * One process's view of an index's files: the runs, and over them the changes in the logs.
 *
 * All knowledge comes from the files. This process's own changes too are appended to the log and read from there, so all
 * processes know the same.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { AppendLog } from "./append-log.ts";
import { BlockCache, damagedFile } from "./block-file.ts";
import { attempt, listFiles, logFile, readEpoch, removeCovered, seedOf } from "./index-folder.ts";
import type { RunName } from "./index-folder.ts";
import { NONCE_BYTES, Overlay, packChange, unpackChange } from "./overlay.ts";
import type { Below, Change } from "./overlay.ts";
import { keyOf, lookUp, Run, unpackState, writeOverlay } from "./runs.ts";
import type { PoolRecord, StoreRecord } from "../../ledger/record.ts";

/** The number of blocks kept in memory: 4 MiB. */
const BLOCKS = 256;
/**
 * Files may be replaced by larger ones between their listing and their opening. They are opened again at most this
 * often.
 */
const ATTEMPTS = 20;
/** Attempts to append a frame to logs that other processes end. */
const APPENDS = 100;

export class SharedView {
  readonly folder: string;
  readonly epoch: string;
  readonly #cache = new BlockCache(BLOCKS);
  #runs: readonly Run[] = [];
  /** The first log that no open run covers. */
  #next = 0;
  #number = 0;
  #log: AppendLog;
  #overlay: Overlay;
  readonly #process = randomBytes(6);
  #appended = 0;

  /** Opens the index in a folder. Throws `corrupt` if it is damaged, and the file system's errors. */
  constructor(folder: string) {
    this.folder = folder;
    this.epoch = readEpoch(folder);
    const { log, overlay } = this.#load();
    this.#log = log;
    this.#overlay = overlay;
  }

  get runs(): readonly Run[] {
    return this.#runs;
  }

  get overlay(): Overlay {
    return this.#overlay;
  }

  /** Bytes of the log that all append to. */
  get logBytes(): number {
    return this.#log.size;
  }

  /** Whether there are sealed logs that no run covers. */
  get hasSealed(): boolean {
    return this.#number > this.#next;
  }

  #load(): { log: AppendLog; overlay: Overlay } {
    for (let more = ATTEMPTS; ; more--) {
      const { runs, next, last } = listFiles(this.folder, this.epoch);
      const opened = this.#openRuns(runs, more === 0);
      if (opened === undefined) continue;
      const overlay = new Overlay(below(opened));
      const log = this.#readLogs(next, last, overlay, more === 0);
      if (log === undefined) {
        this.#closeRuns(opened, this.#runs);
        continue;
      }
      this.#closeRuns(this.#runs, opened);
      this.#runs = opened;
      this.#next = next;
      this.#number = last;
      return { log, overlay };
    }
  }

  /** Opens runs. Undefined: one was replaced meanwhile. */
  #openRuns(names: readonly RunName[], isLast: boolean): readonly Run[] | undefined {
    const opened: Run[] = [];
    try {
      for (const name of names) {
        const known = this.#runs.find((run) => run.name.from === name.from && run.name.to === name.to);
        opened.push(known ?? new Run(this.folder, name, this.epoch, this.#cache));
      }
      return opened;
    } catch (error) {
      this.#closeRuns(opened, this.#runs);
      if (isLast || !isMissing(error)) throw error;
      return undefined;
    }
  }

  #closeRuns(runs: readonly Run[], kept: readonly Run[]): void {
    for (const run of runs) if (!kept.includes(run)) attempt(() => run.close());
  }

  /** Reads the logs into the overlay. Returns the last one; undefined if one was replaced meanwhile. */
  #readLogs(next: number, last: number, overlay: Overlay, isLast: boolean): AppendLog | undefined {
    for (let number = next; ; number++) {
      let log: AppendLog;
      try {
        log = AppendLog.openExisting(join(this.folder, logFile(this.epoch, number)), seedOf(this.epoch, number));
      } catch (error) {
        if (isLast || !isMissing(error)) throw error;
        return undefined;
      }
      try {
        for (const payload of log.read()) overlay.apply(unpackChange(payload));
        // The seal is missing if another process is about to write it, or if a power loss took it.
        if (number < last && !log.isSealed) {
          log.seal();
          for (const payload of log.read()) overlay.apply(unpackChange(payload));
          if (!log.isSealed) throw damagedFile("a log has no end");
        }
      } catch (error) {
        log.close();
        throw error;
      }
      if (number === last) return log;
      log.close();
    }
  }

  /** Reads the new changes. False: the index was discarded, and other processes do not see what is appended to it. */
  refresh(): boolean {
    this.#take(undefined);
    while (this.#log.isSealed) {
      this.reload();
      this.#take(undefined);
    }
    // A sealed log is removed when a run covers it. The removal of the last log shows that the index was discarded.
    return !this.#log.isRemoved;
  }

  /** Applies the new frames. `own`: a frame of this process, and its change. True: that frame is among them. */
  #take(own: { readonly payload: Buffer; readonly change: Change } | undefined): boolean {
    let isThere = false;
    for (const payload of this.#log.read()) {
      // This process's own frame need not be parsed.
      const isOwn = own !== undefined && payload.equals(own.payload);
      isThere ||= isOwn;
      this.#overlay.apply(isOwn ? own.change : unpackChange(payload));
    }
    return isThere;
  }

  /** Reads the files again. */
  reload(): void {
    const { log, overlay } = this.#load();
    this.#log.close();
    this.#log = log;
    this.#overlay = overlay;
  }

  /** Appends a change and reads up to it. False: see `refresh`. Throws the file system's errors. */
  append(change: Change): boolean {
    const payload = packChange(change, this.#nonce());
    for (let more = APPENDS; more > 0; more--) {
      if (!this.#log.append(payload)) throw new Error("only a part of a change could be written");
      if (this.#take({ payload, change })) return this.#log.isSealed || !this.#log.isRemoved;
      if (!this.#log.isSealed) throw damagedFile("what was appended is not there");
      // Another process sealed the log first.
      this.reload();
    }
    throw damagedFile("its log is ended again and again");
  }

  /** The first bytes of a frame: this process's random bytes and a counter, so that no two frames are the same. */
  #nonce(): Buffer {
    const nonce = Buffer.allocUnsafe(NONCE_BYTES);
    this.#process.copy(nonce, 0);
    nonce.writeUIntLE(this.#appended++, 6, 6);
    return nonce;
  }

  sync(): void {
    this.#log.sync();
  }

  /** Ends the log, so that a run can be made of it. */
  seal(): void {
    // The next log is made first, so that it exists when another process needs it.
    const next = this.#number + 1;
    AppendLog.open(join(this.folder, logFile(this.epoch, next)), seedOf(this.epoch, next)).close();
    if (!this.#log.seal()) throw new Error("only a part of a change could be written");
    this.#take(undefined);
  }

  /** Makes a run of the sealed logs. */
  flush(): void {
    if (!this.#log.isSealed && !this.hasSealed) return;
    const to = this.#log.isSealed ? this.#number : this.#number - 1;
    let overlay = this.#overlay;
    if (!this.#log.isSealed) {
      overlay = new Overlay(below(this.#runs));
      const log = this.#readLogs(this.#next, to, overlay, true);
      log?.close();
    }
    writeOverlay(this.folder, { from: this.#next, to }, this.epoch, this.#runs, overlay);
    attempt(() => removeCovered(this.folder, this.epoch));
    this.reload();
  }

  /** Opens runs once more, for a caller that uses them while this view changes. */
  openAgain(runs: readonly Run[]): readonly Run[] {
    return runs.map(({ name }) => new Run(this.folder, name, this.epoch, new BlockCache(BLOCKS / 4)));
  }

  close(): void {
    attempt(() => this.#log.close());
    this.#closeRuns(this.#runs, []);
    this.#runs = [];
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

function below(runs: readonly Run[]): Below {
  const parsed = (value: Buffer | undefined): unknown =>
    value === undefined ? undefined : JSON.parse(value.toString());
  return {
    name: (name) => {
      const value = lookUp(runs, keyOf("n", name));
      return value === undefined ? undefined : unpackState(value);
    },
    store: (id) => parsed(lookUp(runs, keyOf("t", id))) as StoreRecord | undefined,
    pool: () => parsed(lookUp(runs, keyOf("p", ""))) as PoolRecord | undefined,
    writer: (machine) => lookUp(runs, keyOf("w", machine))?.toString(),
  };
}
