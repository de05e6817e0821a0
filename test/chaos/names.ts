/** Names of the objects, and who may write which. */
import { WRITERS } from "./plan.ts";

const OWNED = 24;
const TURNED = 8;
const SHARED = 6;
/** For so long a name that goes around is one writer's. */
const TURN_MS = 400;
/** An operation begins only in this part of its turn, so that most end before the next one's. */
const TURN_BEGIN_MS = 150;

function numbered(prefix: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${String(index).padStart(2, "0")}`);
}

/** Names that one writer alone writes. */
export function ownedBy(writer: number): readonly string[] {
  return numbered(`own/w${writer}/`, OWNED);
}

/** Names that go from writer to writer: one after the other, seldom two at once. */
export const turned = numbered("turn/", TURNED);
/** Names that all write when they like. */
export const shared = numbered("shared/", SHARED);
/** Written when the pool is made, and never again. */
export const FIRST = "first";

export const everyName: readonly string[] = [
  FIRST,
  ...Array.from({ length: WRITERS }, (_, writer) => ownedBy(writer)).flat(),
  ...turned,
  ...shared,
];

/** Whether the writer may begin something with the name that goes around. */
export function hasTurn(writer: number, name: string, nowMs: number): boolean {
  const slot = Math.floor(nowMs / TURN_MS) + turned.indexOf(name);
  return slot % WRITERS === writer && nowMs % TURN_MS < TURN_BEGIN_MS;
}
