// Damages a copy on purpose, and shows that verify finds it, that reads do not give it out, and what a drill says:
//   node verify-and-drill.mjs POOL FOLDER
// FOLDER is the folder of the pool's first store.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { collect, openPool } from "holdfast";

const [source, folder] = process.argv.slice(2);
const pool = await openPool(source);
try {
  await pool.put("letter", "Dear reader");
  // A store that lies: what stands there is no longer what was put.
  await writeFile(join(folder, "letter"), "Dear rEader");

  const { body } = await pool.get("letter");
  console.log(`read: ${Buffer.from(await collect(body)).toString()}`);

  const { objects, copies, findings } = await pool.maintenance.verify({
    onFinding: ({ kind, object, store }) => console.log(`found: ${object} is ${kind} on ${store}`),
  });
  console.log(`verified ${copies} copies of ${objects} objects: ${findings} findings`);

  const { whole } = await pool.maintenance.repair();
  console.log(`repaired: ${whole ? "whole" : "not whole"}`);

  // Could everything be read if this store were gone?
  const [first] = await pool.maintenance.stores();
  const { objects: tried, lost } = await pool.maintenance.drill({ store: first.label });
  console.log(`drill without ${first.label}: ${tried - lost.length} of ${tried} objects can be read`);
} finally {
  await pool.close();
}
