/** A machine that looks after the pool: verify, repair, status and rebalance, one after the other, through the library. */
import { setTimeout as delay } from "node:timers/promises";
import { Random } from "../simulation/random.ts";
import { repairAnswer, statusAnswer, verifyAnswer } from "./answers.ts";
import { serve } from "./member.ts";
import type { Member } from "./member.ts";

const PAUSE_MS = 400;

async function look({ orders, pool, journal, stop }: Member): Promise<void> {
  const random = new Random(orders.seed);
  const others = { signal: stop };
  const weights = { verify: 4, repair: 4, status: 3, rebalance: orders.isStripe ? 2 : 1 };
  while (!stop.aborted) {
    await delay(random.next() * 2 * PAUSE_MS);
    const verb = random.weighted(weights);
    await journal.note({ verb, name: "" }, async () => {
      if (verb === "status") return statusAnswer(await pool.maintenance.status(others));
      return verb === "verify" ? verifyAnswer(pool, others) : repairAnswer(pool, verb, others);
    });
  }
}

await serve(look);
