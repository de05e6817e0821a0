// Adds to a number in a pool, from several places of one process at once, and loses nothing: a put with a condition is refused where
// the object is no longer the one that was read.
//   node counter.mjs POOL NAME TIMES
import { collect, isHoldfastError, openPool } from "holdfast";

const [source, name, times] = process.argv.slice(2);

/** What the counter says, and the digest of it; undefined: there is none yet. */
async function read(pool) {
  try {
    const { info, body } = await pool.get(name);
    return { value: Number(Buffer.from(await collect(body)).toString()), sha256: info.sha256 };
  } catch (error) {
    if (!isHoldfastError(error, "not-found")) throw error;
    return { value: 0, sha256: undefined };
  }
}

class Changed extends Error {}

/** Tries again until nobody else was faster. Gives how often it had to. */
async function add(pool) {
  for (let tries = 0; ; tries++) {
    const { value, sha256 } = await read(pool);
    try {
      await pool.put(name, String(value + 1), {
        onlyIf: (current) => {
          if (current?.sha256 !== sha256) throw new Changed();
        },
      });
      return tries;
    } catch (error) {
      if (!(error instanceof Changed)) throw error;
    }
  }
}

const pool = await openPool(source);
try {
  const { value: before } = await read(pool);
  await Promise.all(Array.from({ length: Number(times) }, () => add(pool)));
  const { value } = await read(pool);
  console.log(`${name}: ${before} + ${times} = ${value}`);
} finally {
  await pool.close();
}
