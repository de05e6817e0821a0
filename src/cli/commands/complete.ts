/** `holdfast complete`, for the shells' completion: stores and objects of the pool, fast, few, and without a word of trouble. */
import { once } from "node:events";
import type { Pool } from "../../contract/pool.ts";
import { parsePool, poolOfOne } from "../../config/pool-config.ts";
import type { CommandContext } from "../context.ts";
import { openTarget } from "../target.ts";

/** So many names are offered at most: nobody reads more. */
const MAX_NAMES = 200;
/** How long somebody who presses the tabulator waits at most, in milliseconds. */
const DEADLINE_MS = 1500;
/** Behind every name that begins with what stands before it. */
const LAST = "\u{10ffff}";

export type Completed = "stores" | "objects";

/** Prints what begins with `prefix`, one a line. Prints what it has, or nothing, where something goes wrong. */
export async function complete(context: CommandContext, what: Completed, prefix: string): Promise<void> {
  const found: string[] = [];
  const late = AbortSignal.timeout(DEADLINE_MS);
  const search = what === "stores" ? findStores(context, prefix, found) : findObjects(context, prefix, found, late);
  await Promise.race([once(late, "abort"), search.catch(() => undefined)]);
  await context.stdout.write(found.map((name) => `${name}\n`).join(""));
}

/** A name that ends the line in its middle cannot be given one a line. */
function isOneLine(name: string): boolean {
  return !/[\r\n\0]/u.test(name);
}

async function findStores(context: CommandContext, prefix: string, found: string[]): Promise<void> {
  const parsed = await parsePool(context.pool ?? "", { cwd: context.cwd });
  const { stores } = parsed.kind === "pool" ? parsed : poolOfOne(parsed);
  found.push(...stores.map(({ label }) => label).filter((label) => label.startsWith(prefix) && isOneLine(label)));
}

/** Names up to the next slash, as a shell completes paths: of a folder with a million objects one line. */
async function findObjects(
  context: CommandContext,
  prefix: string,
  found: string[],
  signal: AbortSignal,
): Promise<void> {
  const { cwd, logger } = context;
  // Not the context's: closing that would be waited for, with a store that hangs for a minute. Nothing is written here.
  const { pool } = await openTarget(context.pool, { cwd, logger, signal, onWarning: nothing, onSecrets: nothing });
  let after: string | undefined = "";
  while (after !== undefined && found.length < MAX_NAMES)
    after = await nextNames(pool, { prefix, after, signal }, found);
  await pool.close();
}

function nothing(): void {
  // Nobody is to be told.
}

interface Where {
  readonly prefix: string;
  readonly after: string;
  readonly signal: AbortSignal;
}

/** Gathers names until one stands in a folder, and gives what to go on behind; undefined at the end. */
async function nextNames(pool: Pool, where: Where, found: string[]): Promise<string | undefined> {
  const { prefix, after, signal } = where;
  for await (const { name } of pool.list(prefix, after === "" ? { signal } : { after, signal })) {
    const slash = name.indexOf("/", prefix.length);
    const shown = slash === -1 ? name : name.slice(0, slash + 1);
    if (isOneLine(shown)) found.push(shown);
    if (slash !== -1) return shown + LAST;
    if (found.length >= MAX_NAMES) return undefined;
  }
  return undefined;
}
