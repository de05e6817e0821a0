/**
 * Which values a name may have in the end, when a few operations were at it: those of the orders of the operations that
 * explain what each of them was told.
 */

/** What a name has: bytes, as text, or nothing. */
export type Value = string | undefined;

export interface Event {
  /** What it writes. A read has `sees` instead. */
  readonly writes?: { readonly value: Value };
  /** Whether a read may have been told so while the name had that value. */
  readonly sees?: (value: Value) => boolean;
  /** It was acknowledged. One that was not may have taken effect, then or later, or not. */
  readonly certain: boolean;
  /** Places, as bits, of the events that had ended before this one began. */
  readonly after: number;
}

/**
 * The values that the name may have behind all events. None: no order explains the reads.
 *
 * A write that was not acknowledged may take effect at any moment from its beginning, but not behind a write that was
 * begun after its end and acknowledged: whoever was told of the failure, and wrote again, has the last word.
 */
export function finalValues(initial: Value, events: readonly Event[]): ReadonlySet<Value> {
  const finals = new Set<Value>();
  const seen = new Set<string>();
  /** `done`: events that stand in the order. `gone`: writes that will have no effect. */
  const extend = (done: number, gone: number, value: Value): void => {
    const key = `${done} ${gone} ${String(value)}`;
    if (seen.has(key)) return;
    seen.add(key);
    let isWhole = true;
    for (const [place, event] of events.entries()) {
      const bit = 1 << place;
      if ((done & bit) !== 0) continue;
      isWhole &&= !event.certain;
      if ((gone & bit) !== 0) continue;
      const before = earlier(events, event);
      if ((before.must & ~done) !== 0) continue;
      if (event.sees?.(value) === false) continue;
      const next = event.writes === undefined ? value : event.writes.value;
      extend(done | bit, gone | (before.may & ~done), next);
    }
    if (isWhole) finals.add(value);
  };
  extend(0, 0, initial);
  return finals;
}

/** The events that must stand before one, and those that can stand nowhere else. */
function earlier(events: readonly Event[], event: Event): { readonly must: number; readonly may: number } {
  let must = 0;
  let may = 0;
  for (const [place, other] of events.entries()) {
    const bit = 1 << place;
    if ((event.after & bit) === 0) continue;
    if (other.certain) must |= bit;
    else if (event.certain && event.writes !== undefined) may |= bit;
  }
  return { must, may };
}
