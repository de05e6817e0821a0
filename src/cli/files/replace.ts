/** The second half of a push or pull with `--delete`: what only the target has goes, and what it kept out comes. */
import { HoldfastError } from "../../contract/errors.ts";
import { inTheWay } from "./in-the-way.ts";

interface Named {
  /** The name that it has, or is to have, in the target. */
  readonly name: string;
}

/** What the first half left: `S` is one superfluous thing, `B` one that did not come since something may be in its way. */
export interface Replacement<S extends Named, B extends Named> {
  /** What only the target has, and may lose. */
  readonly superfluous: readonly S[];
  readonly blocked: readonly B[];
  /** Whether the way is free, or was made so. Asked of those that nothing superfluous is in the way of. */
  isFree(blocked: B): Promise<boolean>;
  /** Says that one will not come. */
  giveUp(blocked: B): Promise<void>;
  /** Why nothing may be deleted. Asked when all that can come without that has come or failed. */
  obstacle(): HoldfastError | undefined;
  delete(superfluous: readonly S[]): Promise<void>;
  retry(blocked: readonly B[]): Promise<void>;
  /** Why no more may be deleted, since something failed after {@link obstacle} was asked. */
  failure(): HoldfastError | undefined;
  tell(error: HoldfastError): Promise<void>;
}

/** The error of {@link Replacement.obstacle}. */
export function nothingDeleted(reason: string, code: "conflict" | "incomplete" = "conflict"): HoldfastError {
  return new HoldfastError(code, `nothing was deleted: ${reason}`);
}

/** The error of {@link Replacement.failure}. */
export function noMoreDeleted(reason: string): HoldfastError {
  return new HoldfastError("conflict", `nothing more was deleted: ${reason}`);
}

/**
 * Deletes what is superfluous, but nothing where anything has failed. What is in the way of others goes first, then these
 * come, then the rest goes: a failure leaves as much as it can.
 */
export async function replace<S extends Named, B extends Named>(work: Replacement<S, B>): Promise<void> {
  const { superfluous, blocked } = work;
  const ways = inTheWay(
    blocked.map(({ name }) => name),
    superfluous.map(({ name }) => name),
  );
  const waiting: B[] = [];
  for (const one of blocked) {
    if (ways.has(one.name) || (await work.isFree(one))) waiting.push(one);
    else await work.giveUp(one);
  }
  const obstacle = work.obstacle();
  if (obstacle !== undefined) {
    for (const one of waiting) await work.giveUp(one);
    await work.tell(obstacle);
    return;
  }
  const first = new Set([...ways.values()].flat());
  await work.delete(superfluous.filter(({ name }) => first.has(name)));
  await work.retry(waiting);
  const failure = work.failure();
  if (failure === undefined) await work.delete(superfluous.filter(({ name }) => !first.has(name)));
  else await work.tell(failure);
}
