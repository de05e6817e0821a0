/**
 * How long a caller of the library waits for its puts, without the time to open and to close the pool:
 *
 *     node put-answer.js LIBRARY POOL FOLDER     puts each file of the folder, one after the other; prints milliseconds
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** What is needed of the library as it is built. */
interface Library {
  openPool(
    this: void,
    source: string,
  ): Promise<{
    put(name: string, body: Uint8Array): Promise<unknown>;
    close(): Promise<void>;
  }>;
}

const [library = "", file = "", folder = ""] = process.argv.slice(2);
const { openPool } = (await import(library)) as Library;
const pool = await openPool(file);
const bodies = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))] as const);
// The first put of a pool gives its stores their identity.
await pool.put("first", new Uint8Array(1));
const startedAt = performance.now();
for (const [name, body] of bodies) await pool.put(name, body);
console.log((performance.now() - startedAt).toFixed(1));
await pool.close();
