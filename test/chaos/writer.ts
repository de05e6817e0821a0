/** A machine that puts, overwrites, deletes and reads, several things at once. */
import { setTimeout as delay } from "node:timers/promises";
import { collect } from "../../src/contract/body.ts";
import type { BodyInput } from "../../src/contract/body.ts";
import type { PoolPutResult } from "../../src/contract/pool.ts";
import { Random } from "../simulation/random.ts";
import { nowMs } from "./clocks.ts";
import { serve } from "./member.ts";
import type { Member } from "./member.ts";
import { everyName, hasTurn, ownedBy, shared, turned } from "./names.ts";
import { bytesOf, sha256Of } from "./values.ts";

const LANES = 3;
const PAUSE_MS = 60;
const HEAD_BYTES = 120;

class Writer {
  readonly #member: Member;
  readonly #random: Random;
  /** Names that this process is writing. */
  readonly #busy = new Set<string>();
  #puts = 0;

  constructor(member: Member) {
    this.#member = member;
    this.#random = new Random(member.orders.seed);
  }

  async run(): Promise<void> {
    await Promise.all(Array.from({ length: LANES }, () => this.#lane()));
  }

  async #lane(): Promise<void> {
    while (!this.#member.stop.aborted) {
      await delay(this.#random.next() * 2 * PAUSE_MS);
      const name = this.#nameToWrite();
      const verb = this.#random.weighted({ put: 40, delete: 12, get: 34, stat: 9, list: 5 });
      if (verb === "put" || verb === "delete") {
        if (name === undefined || this.#busy.has(name)) continue;
        this.#busy.add(name);
        await (verb === "put" ? this.#put(name) : this.#delete(name));
        this.#busy.delete(name);
      } else if (verb === "list") {
        await this.#list(this.#random.pick(["", `own/w${this.#random.below(4)}/`, "turn/", "shared/"]));
      } else {
        const read = name === undefined || this.#random.chance(0.6) ? this.#random.pick(everyName) : name;
        await (verb === "get" ? this.#get(read) : this.#stat(read));
      }
    }
  }

  /** Undefined: its turn has not come. */
  #nameToWrite(): string | undefined {
    const { writer } = this.#member.orders;
    const group = this.#random.weighted({ owned: 60, turned: 27, shared: 13 });
    if (group === "owned") return this.#random.pick(ownedBy(writer));
    if (group === "shared") return this.#random.pick(shared);
    const now = nowMs();
    const names = turned.filter((name) => hasTurn(writer, name, now));
    return names.length === 0 ? undefined : this.#random.pick(names);
  }

  async #put(name: string): Promise<void> {
    const { pool, journal } = this.#member;
    const token = `${this.#member.orders.label}-${++this.#puts}`;
    const isLarge = this.#random.chance(0.04);
    const bytes = bytesOf(name, token, this.#random.below(isLarge ? 3 * 1024 * 1024 : 48 * 1024));
    const sha256 = sha256Of(bytes);
    const body = this.#bodyOf(bytes);
    await journal.note({ verb: "put", name, token, sha256, size: bytes.length }, async () => {
      const result = await pool.put(name, body);
      return { sha256: result.sha256, size: result.size, owed: owedBy(result) };
    });
  }

  /** Most bodies are there at once; some come in pieces, and some take their time. */
  #bodyOf(bytes: Buffer): BodyInput {
    const kind = this.#random.weighted({ whole: 80, pieces: 12, slow: 8 });
    if (kind === "whole") return bytes;
    const pauseMs = kind === "slow" ? this.#random.next() * 1500 : 0;
    return (async function* () {
      const size = Math.ceil(bytes.length / 3);
      for (let at = 0; at < bytes.length; at += size) {
        if (at > 0) await delay(pauseMs);
        yield bytes.subarray(at, at + size);
      }
    })();
  }

  async #delete(name: string): Promise<void> {
    const { pool, journal } = this.#member;
    await journal.note({ verb: "delete", name }, async () => ({ owed: owedBy(await pool.delete(name)) }));
  }

  async #get(name: string): Promise<void> {
    const { pool, journal } = this.#member;
    await journal.note({ verb: "get", name }, async () => {
      const found = await pool.get(name);
      const bytes = await collect(found.body);
      return {
        sha256: sha256Of(bytes),
        size: bytes.length,
        head: Buffer.from(bytes.subarray(0, HEAD_BYTES)).toString("latin1"),
        unheard: found.unheard ?? [],
      };
    });
  }

  async #stat(name: string): Promise<void> {
    const { pool, journal } = this.#member;
    await journal.note({ verb: "stat", name }, async () => {
      const { size, sha256 } = await pool.stat(name);
      return { size, ...(sha256 === undefined ? {} : { sha256 }) };
    });
  }

  async #list(prefix: string): Promise<void> {
    const { pool, journal } = this.#member;
    await journal.note({ verb: "list", name: prefix }, async () => {
      const names: string[] = [];
      for await (const { name } of pool.list(prefix)) names.push(name);
      return { names };
    });
  }
}

function owedBy({ owed }: Pick<PoolPutResult, "owed">): readonly string[] {
  return owed.map((debt) => debt.store);
}

await serve((member) => new Writer(member).run());
