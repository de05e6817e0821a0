/**
 * Reads the segments of a ledger from the stores that have them, each once, from whichever store gives it whole.
 *
 * A store is heard only when everything that it listed was read, there or elsewhere. Where a segment was merged into
 * another one since it was listed, the store is listed again; where that fails, it was not heard.
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
/** How many times a store's segments are listed again because one was gone when it was to be read. */
const RELISTS = 8;

/** No ledger has so many: it is merged when a few dozen have gathered. */
const MAX_SEGMENTS = 100_000;

export interface SegmentReaderOptions {
  readonly members: readonly Member[];
  readonly logger: Logger;
  readonly index: () => LedgerIndex;
  readonly pool: () => string | undefined;
  /** Whether a segment must be read although the index has it: this process has to see what is in it. */
  readonly isWanted: (name: string) => boolean;
  readonly onSegment: (name: string, segment: Segment) => void;
}

export class SegmentReader {
  readonly #options: SegmentReaderOptions;
  /** Segments that no store gave whole: what they held is unknown. */
  #unreadable: ReadonlySet<string> = new Set();

  constructor(options: SegmentReaderOptions) {
    this.#options = options;
  }

  get unreadable(): ReadonlySet<string> {
    return this.#unreadable;
  }

  /** One that was removed from everywhere is not missed any more. */
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

  /** Reads the segments of the members that are ready, as far as they were not read before. */
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
    // A segment that is damaged on the stores that answer may stand whole on a silent one.
    const damaged = new Set(members.every((member) => member.ready) ? [] : this.#unreadable);
    await forEachBounded(inOrder, REQUESTS_AT_ONCE, ([name, holders]) => this.#read(name, holders, damaged));
    // What replaces a damaged one may have been read after it.
    const isRead = (name: string): boolean => index.hasSegment(name);
    this.#unreadable = new Set([...damaged].filter((name) => !isRead(name) && !isReplaced(index, name, isRead)));
  }

  #isUnread(name: string): boolean {
    return !this.#options.index().hasSegment(name) || this.#options.isWanted(name);
  }

  /** Reads one segment; notes it in `damaged` where no store gave it whole. */
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
    // What replaced it was written before it was removed.
    for (const member of gone) if (member.ready) await this.#relist(member);
  }

  async #relist(member: Member): Promise<void> {
    try {
      // What is merged on and on by others may be gone once more.
      for (let round = 0; !(await this.#readFresh(member, round === RELISTS)); round++);
    } catch (error) {
      notHeard(member, toHoldfastError(error, "unavailable"));
    }
  }

  /** Lists a member's segments and reads those not read before. False: one was gone meanwhile; an error when `isLast`. */
  async #readFresh(member: Member, isLast: boolean): Promise<boolean> {
    const segments = await this.list(member);
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
