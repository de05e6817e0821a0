// Mirrors a stream into a pool and reads it back:
//   node mirror-stream.mjs 'multi:///path/to/pool.json?mode=mirror' FILE NAME
import { createReadStream } from "node:fs";
import { openPool } from "holdfast";

const [source, file, name] = process.argv.slice(2);
const pool = await openPool(source);
try {
  const { size, sha256, owed } = await pool.put(name, createReadStream(file));
  for (const { store, reason } of owed) console.warn(`degraded: ${store} owes a copy (${reason})`);
  const { body } = await pool.get(name);
  let read = 0;
  for await (const chunk of body) read += chunk.length;
  console.log(`${name}: put ${size} bytes, read ${read}, sha256 ${sha256}`);
} finally {
  await pool.close();
}
