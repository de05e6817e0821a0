import { describe, expect, it } from "vitest";
import { ConnectionPool } from "../../../src/stores/base/connection-pool.ts";
import type { ConnectionPoolOptions } from "../../../src/stores/base/connection-pool.ts";
import { gate } from "../../helpers/gate.ts";
import { codeOf } from "../../helpers/store-answers.ts";

interface Connection {
  readonly number: number;
  usable: boolean;
  ended: boolean;
}

class Lost extends Error {}

interface Pooled {
  readonly pool: ConnectionPool<Connection>;
  /** All that were made, in order. */
  readonly made: Connection[];
}

function pooled(options: Partial<ConnectionPoolOptions<Connection>> = {}): Pooled {
  const made: Connection[] = [];
  const pool = new ConnectionPool<Connection>({
    limit: 2,
    connect: async () => {
      const connection = { number: made.length + 1, usable: true, ended: false };
      made.push(connection);
      return connection;
    },
    isUsable: ({ usable }) => usable,
    isLost: (error) => error instanceof Lost,
    end: async (connection) => {
      connection.ended = true;
    },
    ...options,
  });
  return { pool, made };
}

const number = async (connection: Connection): Promise<number> => connection.number;

/** Takes two connections at the same time, so that both are kept afterwards. */
async function keepTwo({ pool }: Pooled): Promise<void> {
  const both = gate();
  let begun = 0;
  const work = async (): Promise<void> => {
    if (++begun === 2) both.open();
    await both.opened;
  };
  await Promise.all([pool.run(undefined, work), pool.run(undefined, work)]);
}

describe("a pool of connections", () => {
  it("makes one for the first operation and keeps it for the next", async () => {
    const { pool, made } = pooled();
    expect([await pool.run(undefined, number), await pool.run(undefined, number)]).toEqual([1, 1]);
    expect(made).toHaveLength(1);
  });

  it("lends no more than the limit at once, and lends the first that comes back", async () => {
    const { pool, made } = pooled({ limit: 1 });
    const { connection } = await pool.hold(undefined, number);
    let isSecondDone = false;
    const second = pool.run(undefined, number).then((of) => {
      isSecondDone = true;
      return of;
    });
    await new Promise(setImmediate);
    expect([isSecondDone, made.length]).toEqual([false, 1]);
    pool.release(connection);
    expect(await second).toBe(1);
  });

  it("lends one more while one is not counted", async () => {
    const { pool } = pooled({ limit: 1 });
    const { connection } = await pool.hold(undefined, number);
    pool.uncount(connection);
    expect(await pool.run(undefined, number)).toBe(2);
  });

  it("gives the place of one that was not counted to nobody a second time", async () => {
    const { pool } = pooled({ limit: 1 });
    const { connection } = await pool.hold(undefined, number);
    pool.uncount(connection);
    const other = await pool.hold(undefined, number);
    pool.release(connection);
    let isThirdDone = false;
    const third = pool.run(undefined, number).then(() => {
      isThirdDone = true;
    });
    await new Promise(setImmediate);
    expect(isThirdDone).toBe(false);
    pool.release(other.connection);
    await third;
  });

  it("leaves the queue when its signal fires", async () => {
    const { pool } = pooled({ limit: 1 });
    await pool.hold(undefined, number);
    const abort = new AbortController();
    const waiting = codeOf(pool.run(abort.signal, number));
    abort.abort();
    expect(await waiting).toBe("aborted");
  });

  it("gives the place back when no connection can be made", async () => {
    let isUp = false;
    const { pool } = pooled({
      limit: 1,
      connect: async () => {
        if (!isUp) throw new Error("refused");
        return { number: 7, usable: true, ended: false };
      },
    });
    await expect(pool.run(undefined, number)).rejects.toThrow("refused");
    isUp = true;
    expect(await pool.run(undefined, number)).toBe(7);
  });

  it("ends a connection that cannot be used for something else", async () => {
    const { pool, made } = pooled();
    await pool.run(undefined, async (connection) => {
      connection.usable = false;
    });
    expect([made[0]?.ended, await pool.run(undefined, number)]).toEqual([true, 2]);
  });

  it("ends a kept connection that has become unusable meanwhile", async () => {
    const { pool, made } = pooled();
    await pool.run(undefined, async () => undefined);
    for (const connection of made) connection.usable = false;
    expect([await pool.run(undefined, number), made[0]?.ended]).toEqual([2, true]);
  });

  it("uses none again that has been kept for too long", async () => {
    const { pool, made } = pooled({ keepMs: 0 });
    expect([await pool.run(undefined, number), await pool.run(undefined, number)]).toEqual([1, 2]);
    expect(made[0]?.ended).toBe(true);
  });
});

describe("a kept connection that the server had dropped", () => {
  /** Fails on connections that were made before. */
  const dropped = (made: readonly Connection[]): ((connection: Connection) => Promise<number>) => {
    const old = made.length;
    return async (connection) => {
      connection.usable = connection.number > old;
      if (!connection.usable) throw new Lost();
      return connection.number;
    };
  };

  it("is replaced, and the work is done once more", async () => {
    const both = pooled();
    await both.pool.run(undefined, number);
    expect(await both.pool.run(undefined, dropped(both.made))).toBe(2);
  });

  it("takes the other kept ones with it", async () => {
    const both = pooled();
    await keepTwo(both);
    expect(await both.pool.run(undefined, dropped(both.made))).toBe(3);
    expect(both.made.map(({ ended }) => ended)).toEqual([true, true, false]);
  });

  it("is an error where the work cannot be repeated", async () => {
    const both = pooled();
    await both.pool.run(undefined, number);
    await expect(both.pool.run(undefined, dropped(both.made), () => false)).rejects.toBeInstanceOf(Lost);
  });

  it("is an error where the new one is lost too", async () => {
    const both = pooled();
    await both.pool.run(undefined, number);
    const lost = both.pool.run(undefined, () => Promise.reject(new Lost()));
    await expect(lost).rejects.toBeInstanceOf(Lost);
    expect(both.made).toHaveLength(2);
  });

  it("is an error where another kept one, that came back meanwhile, is lost too", async () => {
    let giveBack = (): void => undefined;
    const { pool, made } = pooled({ limit: 3, end: async () => giveBack() });
    const held = [];
    for (let count = 0; count < 3; count++) held.push(await pool.hold(undefined, number));
    const [late, ...others] = held.map(({ connection }) => connection);
    for (const connection of others) pool.release(connection);
    giveBack = () => {
      giveBack = () => undefined;
      if (late !== undefined) pool.release(late);
    };
    const lost = pool.run(undefined, () => Promise.reject(new Lost()));
    await expect(lost).rejects.toBeInstanceOf(Lost);
    expect(made).toHaveLength(3);
  });

  it("is an error where the connection was a new one", async () => {
    const { pool, made } = pooled();
    await expect(pool.run(undefined, () => Promise.reject(new Lost()))).rejects.toBeInstanceOf(Lost);
    expect(made).toHaveLength(1);
  });

  it("is not suspected after an error of another sort", async () => {
    const { pool, made } = pooled();
    await pool.run(undefined, number);
    await expect(pool.run(undefined, () => Promise.reject(new Error("no such file")))).rejects.toThrow("no such file");
    expect(made).toHaveLength(1);
  });
});

describe("a pool of connections that is closed", () => {
  it("has ended all of them, those in use too", async () => {
    const both = pooled();
    await keepTwo(both);
    await both.pool.hold(undefined, number);
    await both.pool.close();
    expect(both.made.map(({ ended }) => ended)).toEqual([true, true]);
  });

  it("lends no more", async () => {
    const { pool } = pooled();
    await pool.close();
    expect(await codeOf(pool.run(undefined, number))).toBe("invalid");
  });

  it("lets nobody wait in its queue", async () => {
    const { pool } = pooled({ limit: 1 });
    await pool.hold(undefined, number);
    const waiting = codeOf(pool.run(undefined, number));
    await pool.close();
    expect(await waiting).toBe("invalid");
  });
});
