/**
 * Keeps the segments of a ledger few, and the same on every store.
 *
 * Merging loses nothing: what replaces segments is written before they are removed, on each store, and says the same.
 */
import { collect, toBody } from "../contract/body.ts";
import { forEachBounded } from "../support/bounded.ts";
import { toHoldfastError } from "../contract/errors.ts";
import type { HoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import type { Runtime } from "../contract/runtime.ts";
import { MemoryIndex } from "./ledger-index.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import { noteSegment } from "./member.ts";
import type { Member } from "./member.ts";
import type { ObjectRecord } from "./record.ts";
import {
  countRecords,
  decodeSegment,
  encodeSegment,
  MAX_SEGMENT_BYTES,
  parseSegmentName,
  segmentName,
} from "./segment.ts";
import type { Records } from "./segment.ts";
import { isReplaced, REPLACED, replacedBy } from "./replaced.ts";
import { REQUESTS_AT_ONCE } from "./segment-reader.ts";
import type { SegmentWriter } from "./segment-writer.ts";
import type { LedgerState } from "./state.ts";

/** Records in one segment of a full compaction: bounds the memory of whoever reads it. */
const BASE_RECORDS = 20_000;
/** So many of them are kept, at most, while a store is silent. */
const MAX_REPLACED = 10_000;
/** Level of segments that a full compaction wrote. */
const BASE_LEVEL = 9;

export interface NewSegment extends Records {
  readonly level: number;
}

/** A store whose segments are not those that all should have. */
export interface LedgerGap {
  readonly member: Member;
  readonly missing: readonly string[];
  readonly surplus: readonly string[];
}

export class Compaction {
  readonly #ledger: LedgerState;
  readonly #writer: SegmentWriter;
  readonly #logger: Logger;
  readonly #mergeAt: number;
  #maintaining: Promise<void> | undefined;
  #stopped = false;

  /** `mergeAt`: see `LedgerOptions`. */
  constructor(
    ledger: LedgerState,
    writer: SegmentWriter,
    options: { readonly logger: Logger; readonly mergeAt: number },
  ) {
    this.#ledger = ledger;
    this.#writer = writer;
    this.#logger = options.logger;
    this.#mergeAt = options.mergeAt;
  }

  /** Merges for at most `ms` and then stops. What is half merged is as good as before, and is merged another time. */
  async finish(runtime: Runtime, ms: number): Promise<void> {
    const cancel = runtime.timer(ms, () => {
      this.#stopped = true;
    });
    await this.maintain();
    cancel();
  }

  /** Resolves when a merge that is under way has ended. */
  async ended(): Promise<void> {
    await this.#maintaining;
  }

  /** Merges segments where too many have gathered. Never more than once at a time; failures only cost time later. */
  async maintain(): Promise<void> {
    this.#maintaining ??= this.#maintain()
      .catch((error: unknown) => {
        this.#logger.debug("compaction did not finish", { reason: toHoldfastError(error).message });
      })
      .finally(() => {
        this.#maintaining = undefined;
      });
    await this.#maintaining;
  }

  /** Starts `maintain` where enough segments have gathered; nobody waits for it but `settle`. */
  maintainSoon(): void {
    if (this.#ledger.members.some((member) => member.ready && member.segments.size >= this.#mergeAt * 2))
      void this.maintain();
  }

  async #maintain(): Promise<void> {
    // One merge may crowd the next level.
    for (let more = true; more && !this.#stopped;) more = await this.#mergeOnce();
  }

  /** False when there was nothing to merge, or when it could not be done everywhere. */
  async #mergeOnce(): Promise<boolean> {
    const levels = new Map<number, { name: string; records: number }[]>();
    let loose = 0;
    let base = 0;
    for (const name of this.#presentSegments()) {
      const parsed = parseSegmentName(name);
      if (parsed === undefined || !this.#ledger.index.hasSegment(name)) continue;
      if (parsed.level === BASE_LEVEL) base += parsed.records;
      else {
        loose += parsed.records;
        const list = levels.get(parsed.level) ?? [];
        list.push({ name, records: parsed.records });
        levels.set(parsed.level, list);
      }
    }
    const crowded = [...levels].filter(([, list]) => list.length >= this.#mergeAt).map(([level]) => level);
    if (crowded.length === 0) return false;
    if (loose >= Math.max(BASE_RECORDS, base / 2) || Math.max(...crowded) >= BASE_LEVEL - 1) return this.compact();
    return this.#mergeLevel(Math.min(...crowded), levels);
  }

  /** Segments that stand on a store that answers, and that no other one there replaces. */
  #presentSegments(): Set<string> {
    const present = new Set<string>();
    for (const member of this.#ledger.members) if (member.ready) for (const name of member.segments) present.add(name);
    return new Set([...present].filter((name) => !this.#isReplaced(name, present)));
  }

  #isReplaced(name: string, present: ReadonlySet<string>): boolean {
    return isReplaced(this.#ledger.index, name, (by) => present.has(by));
  }

  /** Segments to be named as replaced: where a store has, or may have, some that these replaced in their turn, those too. */
  #withFormer(replaced: readonly string[]): readonly string[] {
    const isBehind = (member: Member): boolean =>
      !member.ready || [...member.segments].some((name) => replacedBy(this.#ledger.index, name) !== undefined);
    if (!this.#ledger.members.some(isBehind)) return replaced;
    const all = new Set(replaced);
    for (const [key] of this.#ledger.index.facts(REPLACED)) {
      const name = key.slice(REPLACED.length);
      if (this.#isReplaced(name, all)) all.add(name);
    }
    return [...all];
  }

  /** Merges the segments of one level into one of the next. */
  async #mergeLevel(level: number, levels: ReadonlyMap<number, { name: string; records: number }[]>): Promise<boolean> {
    const list = levels.get(level) ?? [];
    const merged = new MemoryIndex();
    for (const { name } of list) {
      const holder = this.#ledger.members.find((member) => member.ready && member.segments.has(name));
      if (holder === undefined || this.#stopped) return false;
      merged.apply(recordsOf(this.#writer.recent(name) ?? (await this.#ledger.fetchSegment(holder, name))));
    }
    const objects = [...merged.iterate("")].flatMap(([, state]) => state.records);
    return this.#replace(
      [{ level: level + 1, ...otherRecords(merged), objects }],
      list.map(({ name }) => name),
    );
  }

  /** Writes everything that is known as a new base, and removes all segments that went into it. False: nowhere. */
  async compact(): Promise<boolean> {
    const replaced = [...this.#presentSegments()].filter((name) => this.#ledger.index.hasSegment(name));
    return this.#replace(this.#baseSegments(), replaced);
  }

  *#baseSegments(): Generator<NewSegment> {
    let objects: ObjectRecord[] = [];
    for (const [, state] of this.#ledger.index.iterate("")) {
      objects.push(...state.records);
      if (objects.length >= BASE_RECORDS) {
        yield { level: BASE_LEVEL, objects };
        objects = [];
      }
    }
    yield { level: BASE_LEVEL, ...otherRecords(this.#ledger.index), objects };
  }

  /**
   * Writes segments and, where all of them stand, removes those they replace. Only the last one says what is replaced:
   * nobody who sees a part of them may remove anything.
   */
  async #replace(fresh: Iterable<NewSegment>, replaced: readonly string[]): Promise<boolean> {
    const pool = this.#ledger.pool;
    if (pool === undefined) return false;
    const whole = new Set(this.#ledger.members.filter((member) => member.ready));
    let last: NewSegment | undefined;
    const write = async (segment: NewSegment, replaces: readonly string[]): Promise<void> => {
      const name = segmentName(segment.level, this.#ledger.clock.next(), countRecords(segment));
      const bytes = encodeSegment({ ...segment, pool, replaces });
      await Promise.all(
        [...whole].map(async (member) => {
          try {
            await member.store.put(name, toBody(bytes));
            noteSegment(member, name);
          } catch {
            // It keeps its old segments, which say the same.
            whole.delete(member);
          }
        }),
      );
      if (whole.size > 0) {
        this.#ledger.noteWritten(name, []);
        this.#ledger.index.apply({ segment: name });
        this.#ledger.index.apply({ facts: replaces.map((old) => [REPLACED + old, name] as const) });
      }
    };
    for (const segment of inPieces(fresh)) {
      if (this.#stopped) return false;
      if (last !== undefined) await write(last, []);
      last = segment;
    }
    if (last === undefined) return false;
    await write(last, this.#withFormer(replaced));
    await Promise.all([...whole].map((member) => this.#remove(member, replaced)));
    this.forget();
    return whole.size > 0;
  }

  /** Removes a segment from all stores. */
  async removeEverywhere(name: string): Promise<void> {
    await Promise.all(this.#ledger.members.map((member) => this.#remove(member, [name])));
  }

  async #remove(member: Member, names: readonly string[]): Promise<void> {
    const present = names.filter((name) => member.segments.has(name));
    await forEachBounded(present, REQUESTS_AT_ONCE, async (name) => {
      if (this.#stopped) return;
      await member.store.delete(name);
      member.segments.delete(name);
      member.written.delete(name);
      this.#writer.forget(name);
    });
  }

  /** Segments that a store lacks (to be copied there) and has beyond need (to be removed). Needs what `hear` learned. */
  gaps(): readonly LedgerGap[] {
    const wanted = this.#presentSegments();
    const gaps: LedgerGap[] = [];
    for (const member of this.#ledger.members) {
      if (!member.ready) continue;
      const missing = [...wanted].filter((name) => !member.segments.has(name)).sort();
      const surplus = [...member.segments].filter((name) => !wanted.has(name)).sort();
      if (missing.length > 0 || surplus.length > 0) gaps.push({ member, missing, surplus });
    }
    return gaps;
  }

  /** Makes the ledger the same on every store that answers. Gives the labels of those that it changed. */
  async sync(): Promise<readonly string[]> {
    const changed: string[] = [];
    for (const { member, missing, surplus } of this.gaps()) {
      for (const name of missing) await this.#copySegment(name, member);
      await this.#remove(member, surplus);
      changed.push(member.label);
    }
    this.forget();
    return changed;
  }

  /**
   * Forgets segments that no store has any more: that they were read, and what replaced them. While a store is silent that may
   * come back with some, only the oldest of very many are forgotten: read once more, they say nothing new.
   */
  forget(): void {
    const { index, members, absentees } = this.#ledger;
    const isHeard = members.every((member) => member.ready) && absentees.length === 0;
    const present = new Set(members.flatMap((member) => [...member.segments]));
    const needed = new Set<string>();
    for (const name of present) {
      for (let one: string | undefined = name; one !== undefined && !needed.has(one); one = replacedBy(index, one))
        needed.add(one);
    }
    const known = [...index.facts(REPLACED)]
      .map(([key]) => key)
      .filter((key) => !needed.has(key.slice(REPLACED.length)));
    const gone = isHeard ? known : known.sort().slice(0, -MAX_REPLACED);
    if (gone.length > 0) index.apply({ facts: gone.map((key) => [key, undefined] as const) });
    if (isHeard) index.forgetSegments(present);
  }

  async #copySegment(name: string, to: Member): Promise<void> {
    let failure: HoldfastError | undefined;
    for (const from of this.#ledger.members) {
      if (!from.ready || from === to || !from.segments.has(name)) continue;
      try {
        const { body } = await from.store.get(name);
        const bytes = await collect(body, MAX_SEGMENT_BYTES);
        decodeSegment(bytes, parseSegmentName(name)?.records);
        await to.store.put(name, toBody(bytes));
        noteSegment(to, name);
        return;
      } catch (error) {
        failure = toHoldfastError(error, "unavailable");
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Rewrites a segment that is damaged on a store from one where it is whole; true when it could. */
  async mendSegment(member: Member, name: string): Promise<boolean> {
    member.segments.delete(name);
    try {
      await this.#copySegment(name, member);
    } catch {
      // It stands there as it stood.
    }
    const isMended = member.segments.has(name);
    member.segments.add(name);
    return isMended;
  }
}

/** The same segments, those divided that would be too large to be read. */
export function* inPieces(segments: Iterable<NewSegment>, most = MAX_SEGMENT_BYTES / 2): Generator<NewSegment> {
  for (const { level, objects, ...others } of segments) {
    let from = 0;
    let bytes = 0;
    for (const [place, record] of objects.entries()) {
      bytes += roughBytes(record);
      if (bytes <= most || place === from) continue;
      yield { level, objects: objects.slice(from, place) };
      from = place;
      bytes = roughBytes(record);
    }
    yield { level, ...others, objects: from === 0 ? objects : objects.slice(from) };
  }
}

/** What a record takes of a segment, about; not less than half of it. */
function roughBytes({ name, metadata, content, copies, settles }: ObjectRecord): number {
  const texts =
    metadata === undefined ? 0 : Object.entries(metadata).reduce((sum, [k, v]) => sum + k.length + v.length, 0);
  const marks = Object.values(copies).reduce((sum, { reason }) => sum + 90 + (reason?.length ?? 0) * 3, 0);
  return 250 + (name.length + texts) * 3 + (content?.pieces.length ?? 0) + marks + (settles?.length ?? 0) * 36;
}

function recordsOf({ objects, stores = [], pools = [], writers = [] }: Records): Required<Records> {
  return { objects, stores, pools, writers };
}

/** What an index knows besides objects. */
function otherRecords(index: LedgerIndex): Omit<Records, "objects"> {
  const pool = index.pool();
  return { stores: index.stores(), pools: pool === undefined ? [] : [pool], writers: index.writers() };
}
