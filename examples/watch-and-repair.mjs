// Puts objects while one of the pool's stores is away, tells what is degraded, and repairs when the store is back:
//   node watch-and-repair.mjs POOL FOLDER
// FOLDER is the folder of one of the pool's stores. It is renamed away for a while, as if its disk were unplugged.
import { rename } from "node:fs/promises";
import { openPool } from "holdfast";

const [source, folder] = process.argv.slice(2);

/** What a monitoring program would ask now and then. */
async function tell(pool, when) {
  const { objects, degraded, lost, stores } = await pool.maintenance.status();
  console.log(`${when}: ${objects} objects, ${degraded} degraded, ${lost} lost`);
  for (const { label, reachable, owedCopies } of stores) {
    if (!reachable || owedCopies > 0) console.log(`  ${label}: ${reachable ? "answers" : "away"}, owes ${owedCopies}`);
  }
}

const pool = await openPool(source);
try {
  await pool.put("before", "while all stores are there");
  await tell(pool, "at first");
  await rename(folder, `${folder}.away`);
  try {
    const { owed } = await pool.put("meanwhile", "while one is away");
    console.log(`the put is owed by ${owed.length}`);
    await tell(pool, "without it");
  } finally {
    await rename(`${folder}.away`, folder);
  }
  const { whole } = await pool.maintenance.repair({
    onAction: ({ action, object, store }) => {
      if (action === "copy") console.log(`  copies ${object} to ${store}`);
    },
  });
  console.log(`repaired: ${whole ? "whole" : "not whole yet"}`);
  await tell(pool, "afterwards");
} finally {
  await pool.close();
}
