// Lists a pool page by page, as a web page or an API would, without keeping anything between the pages but the last name:
//   node list-pages.mjs POOL [PREFIX] [SIZE]
import { openPool } from "holdfast";

const [source, prefix = "", size = "3"] = process.argv.slice(2);

/** The names after `after`, `size` at most; `next` is where the next page begins, undefined on the last one. */
async function page(pool, after) {
  const names = [];
  for await (const { name } of pool.list(prefix, { after })) {
    if (names.length === Number(size)) return { names, next: names.at(-1) };
    names.push(name);
  }
  // The listing came to its end without an error: nothing is missing from it.
  return { names, next: undefined };
}

const pool = await openPool(source);
try {
  let after;
  let number = 0;
  do {
    const { names, next } = await page(pool, after);
    number++;
    console.log(`page ${number}: ${names.join(" ")}`);
    after = next;
  } while (after !== undefined);
} finally {
  await pool.close();
}
