/**
 * Compaction: keeps the number of segments small, and every store's set of segments the same.
 *
 * Merging loses nothing: on each store, the new segment has the same records and is written before the old ones are
 * removed.
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

/** Records in one segment of a full compaction. The limit bounds the memory that a reader needs. */
const BASE_RECORDS = 20_000;
/** At most this many replacements are remembered while a store is silent. */
const MAX_REPLACED = 10_000;
/** Level of segments that a full compaction wrote. */
const BASE_LEVEL = 9;

export interface NewSegment extends Records {
  readonly level: number;
}

/** A store whose segments differ from the ones that all stores should have. */
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

  /**
   * Merges for at most `ms` milliseconds and then stops. An unfinished merge does no harm, and is done another time.
   */
  async finish(runtime: Runtime, ms: number): Promise<void> {
    const cancel = runtime.timer(ms, () => {
      this.#stopped = true;
    });
    await this.maintain();
    cancel();
  }

  /** Resolves when no merge is under way. */
  async ended(): Promise<void> {
    await this.#maintaining;
  }

  /** Merges segments where too many have gathered. Only one merge runs at a time. A failure only costs time later. */
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

  /** Starts `maintain` if enough segments have gathered. Only `settle` waits for it. */
  maintainSoon(): void {
    if (this.#ledger.members.some((member) => member.ready && member.segments.size >= this.#mergeAt * 2))
      void this.maintain();
  }

  async #maintain(): Promise<void> {
    // One merge may crowd the next level.
    for (let more = true; more && !this.#stopped;) more = await this.#mergeOnce();
  }

  /** False: there was nothing to merge, or not every store could be merged. */
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

  /** Segments on stores that answer, without the ones that another segment there replaces. */
  #presentSegments(): Set<string> {
    const present = new Set<string>();
    for (const member of this.#ledger.members) if (member.ready) for (const name of member.segments) present.add(name);
    return new Set([...present].filter((name) => !this.#isReplaced(name, present)));
  }

  #isReplaced(name: string, present: ReadonlySet<string>): boolean {
    return isReplaced(this.#ledger.index, name, (by) => present.has(by));
  }

  /**
   * The segments to name as replaced. If a store may still have older segments that these replaced, those are included.
   */
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

  /**
   * Writes the whole index as new base segments, and removes the segments that they replace. False: no store took them.
   */
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
   * Writes segments and, on stores that took all of them, removes those they replace. Only the last one names the
   * replaced segments, so that a machine that sees only some of the new ones removes nothing.
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
            // The store keeps its old segments, which have the same records.
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

  /**
   * For each store, the segments that it lacks (to be copied there) and those it no longer needs (to be removed). Call
   * `hear` before.
   */
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

  /** Makes the ledger the same on every store that answers. Returns the labels of the stores that it changed. */
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
   * Forgets which segments were read, and which replaced them, once no store has them or those that replaced them. While one
   * of the latter stands, a replaced segment may still appear: the request of its writer was slow, or its store was silent.
   * Of very many, only the oldest are forgotten while a store is silent. Reading those again would teach nothing new.
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
      .filter(([key, by]) => !needed.has(key.slice(REPLACED.length)) && !present.has(by))
      .map(([key]) => key);
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

  /** Rewrites a store's damaged segment from a store that has it whole. True: it was rewritten. */
  async mendSegment(member: Member, name: string): Promise<boolean> {
    member.segments.delete(name);
    try {
      await this.#copySegment(name, member);
    } catch {
      // The damaged segment stays on the store.
    }
    const isMended = member.segments.has(name);
    member.segments.add(name);
    return isMended;
  }
}

/** Divides the segments that would be too large to read, and passes the others on. */
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

/** About how many bytes of a segment a record takes. The estimate is at least half of the true number. */
function roughBytes({ name, metadata, content, copies, settles }: ObjectRecord): number {
  const texts =
    metadata === undefined ? 0 : Object.entries(metadata).reduce((sum, [k, v]) => sum + k.length + v.length, 0);
  const marks = Object.values(copies).reduce((sum, { reason }) => sum + 90 + (reason?.length ?? 0) * 3, 0);
  return 250 + (name.length + texts) * 3 + (content?.pieces.length ?? 0) + marks + (settles?.length ?? 0) * 36;
}

function recordsOf({ objects, stores = [], pools = [], writers = [] }: Records): Required<Records> {
  return { objects, stores, pools, writers };
}

/** The records of an index that are not of objects. */
function otherRecords(index: LedgerIndex): Omit<Records, "objects"> {
  const pool = index.pool();
  return { stores: index.stores(), pools: pool === undefined ? [] : [pool], writers: index.writers() };
}
