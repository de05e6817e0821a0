/** `holdfast complete`, for the shells' completion: stores and objects of the pool, fast, few, and without a word of trouble. */
import type { Pool } from "../pool.ts";
import { parsePool, poolOfOne } from "../pool-config.ts";
import type { CommandContext } from "./context.ts";

/** So many names are offered at most: nobody reads more. */
const MAX_NAMES = 200;
/** Who presses the tabulator waits so long at most, in milliseconds. */
const DEADLINE_MS = 2000;
/** Behind every name that begins with what stands before it. */
const LAST = "\u{10ffff}";

export type Completed = "stores" | "objects";

/** Prints what begins with `prefix`, one a line. Prints what it has, or nothing, where something goes wrong. */
export async function complete(context: CommandContext, what: Completed, prefix: string): Promise<void> {
  const found: string[] = [];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, DEADLINE_MS);
  });
  const search = what === "stores" ? findStores(context, prefix, found) : findObjects(context, prefix, found);
  await Promise.race([late, search.catch(() => undefined)]);
  clearTimeout(timer);
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
async function findObjects(context: CommandContext, prefix: string, found: string[]): Promise<void> {
  const { pool } = await context.openTarget();
  let after: string | undefined = "";
  while (after !== undefined && found.length < MAX_NAMES) after = await nextNames(pool, prefix, after, found);
}

/** Gathers names until one stands in a folder, and gives what to go on behind; undefined at the end. */
async function nextNames(pool: Pool, prefix: string, after: string, found: string[]): Promise<string | undefined> {
  for await (const { name } of pool.list(prefix, after === "" ? {} : { after })) {
    const slash = name.indexOf("/", prefix.length);
    const shown = slash === -1 ? name : name.slice(0, slash + 1);
    if (isOneLine(shown)) found.push(shown);
    if (slash !== -1) return shown + LAST;
    if (found.length >= MAX_NAMES) return undefined;
  }
  return undefined;
}
