/**
 * Reads each segment of a ledger once, from any store that has it whole.
 *
 * A store counts as heard only when all segments that it listed were read, from it or from another store. If a segment
 * was merged into another one since it was listed, the store is listed again. If that fails, the store was not heard.
 */
import { collect } from "../contract/body.ts";
import { forEachBounded } from "../support/bounded.ts";
import { HoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import { isReplaced } from "./replaced.ts";
import type { LedgerIndex } from "./ledger-index.ts";
import type { Member } from "./member.ts";
import { decodeSegment, MAX_SEGMENT_BYTES, parseSegmentName, SEGMENT_PREFIX } from "./segment.ts";
import type { Segment } from "./segment.ts";

/** Requests of one store's ledger at a time. */
export const REQUESTS_AT_ONCE = 8;
/** How many times a store's segments are listed again after one was gone when it was read. */
const RELISTS = 8;

/** No ledger has more segments than this, because a few dozen are merged. */
const MAX_SEGMENTS = 100_000;

export interface SegmentReaderOptions {
  readonly members: readonly Member[];
  readonly logger: Logger;
  readonly index: () => LedgerIndex;
  readonly pool: () => string | undefined;
  /** Whether a segment must be read although the index has it, because this process has to see its records. */
  readonly isWanted: (name: string) => boolean;
  readonly onSegment: (name: string, segment: Segment) => void;
}

export class SegmentReader {
  readonly #options: SegmentReaderOptions;
  /** Segments that no store gave whole. Their records are unknown. */
  #unreadable: ReadonlySet<string> = new Set();

  constructor(options: SegmentReaderOptions) {
    this.#options = options;
  }

  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** Forgets an unreadable segment that was removed from all stores. */
  forget(name: string): void {
    this.#unreadable = new Set([...this.#unreadable].filter((other) => other !== name));
  }

  async list(member: Member): Promise<Set<string>> {
    const names = new Set<string>();
    for await (const { name } of member.store.list(SEGMENT_PREFIX)) {
      if (parseSegmentName(name) !== undefined) names.add(name);
      if (names.size > MAX_SEGMENTS) {
        throw new HoldfastError("corrupt", `its ledger has more than ${MAX_SEGMENTS} segments`, {
          store: member.label,
        });
      }
    }
    return names;
  }

  /** One segment from one store, checked. */
  async fetch(member: Member, name: string): Promise<Segment> {
    const { body } = await member.store.get(name);
    const segment = decodeSegment(await collect(body, MAX_SEGMENT_BYTES), parseSegmentName(name)?.records);
    if (segment.pool !== this.#options.pool()) {
      throw new HoldfastError("corrupt", "a segment of another pool's ledger stands in this one", {
        store: member.label,
        object: name,
      });
    }
    return segment;
  }

  /** Reads the unread segments of all ready members. */
  async readAll(): Promise<void> {
    const { members } = this.#options;
    const index = this.#options.index();
    const wanted = new Map<string, Member[]>();
    for (const member of members) {
      if (!member.ready) continue;
      for (const name of member.segments) {
        if (!this.#isUnread(name)) continue;
        const holders = wanted.get(name);
        if (holders === undefined) wanted.set(name, [member]);
        else holders.push(member);
      }
    }
    // The name of a segment begins with its level and its time.
    const inOrder = [...wanted].sort(([a], [b]) => (a < b ? -1 : 1));
    // A silent store may have a segment whole that is damaged on the stores that answer.
    const damaged = new Set(members.every((member) => member.ready) ? [] : this.#unreadable);
    await forEachBounded(inOrder, REQUESTS_AT_ONCE, ([name, holders]) => this.#read(name, holders, damaged));
    // The replacement of a damaged segment may have been read after it.
    const isRead = (name: string): boolean => index.hasSegment(name);
    this.#unreadable = new Set([...damaged].filter((name) => !isRead(name) && !isReplaced(index, name, isRead)));
  }

  #isUnread(name: string): boolean {
    return !this.#options.index().hasSegment(name) || this.#options.isWanted(name);
  }

  /** Reads one segment. Notes it in `damaged` if it is damaged on every store that has it. */
  async #read(name: string, holders: readonly Member[], damaged: Set<string>): Promise<void> {
    const gone: Member[] = [];
    for (const member of holders) {
      try {
        this.#options.onSegment(name, await this.fetch(member, name));
        return;
      } catch (error) {
        const failure = toHoldfastError(error, "unavailable");
        if (failure.code === "unsupported") throw failure;
        if (failure.code === "not-found") {
          // Merged into another segment by another machine since it was listed.
          member.segments.delete(name);
          gone.push(member);
        } else if (failure.code === "corrupt") {
          damaged.add(name);
          this.#options.logger.warn("segment of the ledger is damaged", { store: member.label, segment: name });
        } else {
          notHeard(member, failure);
        }
      }
    }
    // Its replacement was written before it was removed, so a new listing shows it.
    for (const member of gone) if (member.ready) await this.#relist(member);
  }

  async #relist(member: Member): Promise<void> {
    try {
      // Other machines may merge again in the meantime, so that a segment is gone once more.
      for (let round = 0; !(await this.#readFresh(member, round === RELISTS)); round++);
    } catch (error) {
      notHeard(member, toHoldfastError(error, "unavailable"));
    }
  }

  /**
   * Lists a member's segments and reads those not read before. False: one was gone meanwhile. With `isLast` that is an
   * error.
   */
  async #readFresh(member: Member, isLast: boolean): Promise<boolean> {
    const segments = await this.list(member);
    // The listing may have begun before this process wrote one.
    for (const name of member.written) segments.add(name);
    const fresh = [...segments].filter((name) => !member.segments.has(name) && this.#isUnread(name));
    member.segments = segments;
    for (const name of fresh) {
      try {
        this.#options.onSegment(name, await this.fetch(member, name));
      } catch (error) {
        member.segments.delete(name);
        if (isLast || !(error instanceof HoldfastError && error.code === "not-found")) throw error;
        return false;
      }
    }
    return true;
  }
}

function notHeard(member: Member, failure: HoldfastError): void {
  member.state = "unreachable";
  member.error = failure.within({ store: member.label, operation: "open" });
}
