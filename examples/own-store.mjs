// A pool over stores of one's own. Here each of Holdfast's stores is wrapped in one that counts its bytes; any object with the
// methods of a Store would do. The conformance suite says whether a store keeps what a pool relies on:
//   node own-store.mjs POOL FOLDER
// FOLDER is an empty folder for the suite.
import { pathToFileURL } from "node:url";
import { openPool, openStore } from "holdfast";
import { runConformance } from "holdfast/conformance";

const [source, folder] = process.argv.slice(2);
const sent = new Map();

/** A store that passes everything on, and counts what is put. */
class CountingStore {
  #inner;

  constructor(inner) {
    this.#inner = inner;
    this.label = inner.label;
    this.capabilities = inner.capabilities;
  }

  async put(name, body, options) {
    const inner = this.#inner;
    const { label } = this;
    const counted = {
      ...body,
      size: body.size,
      reopenable: body.reopenable,
      // A file's path would let the store read it past us.
      path: undefined,
      async *open() {
        for await (const chunk of body.open()) {
          sent.set(label, (sent.get(label) ?? 0) + chunk.length);
          yield chunk;
        }
      },
    };
    return inner.put(name, counted, options);
  }

  get(name, options) {
    return this.#inner.get(name, options);
  }

  stat(name, options) {
    return this.#inner.stat(name, options);
  }

  list(prefix, options) {
    return this.#inner.list(prefix, options);
  }

  delete(name, options) {
    return this.#inner.delete(name, options);
  }

  close() {
    return this.#inner.close();
  }
}

const open = async (url, options) => new CountingStore(await openStore(url, options));

const results = await runConformance({ open: () => open(pathToFileURL(folder).href), quick: true });
const failed = results.filter(({ outcome }) => outcome === "failed");
for (const { name, error } of failed) console.error(`${name}: ${error?.message}`);
console.log(
  `the suite: ${results.filter(({ outcome }) => outcome === "passed").length} passed, ${failed.length} failed`,
);

sent.clear();
const pool = await openPool(source, { openStore: open });
try {
  await pool.put("counted", "x".repeat(100_000));
  for (const { label } of await pool.maintenance.stores()) {
    console.log(`${label}: ${(sent.get(label) ?? 0) >= 100_000 ? "the object" : "too little"}`);
  }
} finally {
  await pool.close();
}
if (failed.length > 0) process.exitCode = 1;
