import { describe, expect, it } from "vitest";
import { SharedRun } from "../../src/support/shared-run.ts";

/** Work each run of which ends when it is told to. */
function controlled(): { readonly shared: SharedRun; readonly runs: ((error?: Error) => void)[] } {
  const runs: ((error?: Error) => void)[] = [];
  const shared = new SharedRun(
    () =>
      new Promise((resolve, reject) => {
        runs.push((error) => (error === undefined ? resolve() : reject(error)));
      }),
  );
  return { shared, runs };
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe("a shared run", () => {
  it("begins at once when none is under way", () => {
    const { shared, runs } = controlled();
    void shared.run();
    expect(runs).toHaveLength(1);
  });

  it("does not join the run under way, which may have begun too early", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    let isSecondDone = false;
    const second = shared.run().then(() => {
      isSecondDone = true;
    });
    runs[0]?.();
    await first;
    await turn();
    expect([isSecondDone, runs.length]).toEqual([false, 2]);
    runs[1]?.();
    await second;
  });

  it("is one for all who asked while another was under way", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    const others = [shared.run(), shared.run(), shared.run()];
    runs[0]?.();
    await first;
    await turn();
    runs[1]?.();
    await Promise.all(others);
    expect(runs).toHaveLength(2);
  });

  it("is not joined either once it is under way", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    const second = shared.run();
    runs[0]?.();
    await first;
    await turn();
    const third = shared.run();
    runs[1]?.();
    await second;
    await turn();
    expect(runs).toHaveLength(3);
    runs[2]?.();
    await third;
  });

  it("never begins while another is under way", async () => {
    const { shared, runs } = controlled();
    void shared.run();
    void shared.run();
    await turn();
    expect(runs).toHaveLength(1);
  });

  it("begins also after a run that failed, which fails only those who asked for it", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    const second = shared.run();
    runs[0]?.(new Error("the disk is gone"));
    await expect(first).rejects.toThrow("the disk is gone");
    await turn();
    runs[1]?.();
    await expect(second).resolves.toBeUndefined();
  });

  it("fails who shares it where it fails", async () => {
    const { shared, runs } = controlled();
    void shared.run();
    const shares = [shared.run(), shared.run()];
    runs[0]?.();
    await turn();
    runs[1]?.(new Error("the disk is gone"));
    for (const share of shares) await expect(share).rejects.toThrow("the disk is gone");
  });

  it("begins at once again when the last one has ended", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    runs[0]?.();
    await first;
    void shared.run();
    expect(runs).toHaveLength(2);
  });

  it("is waited for by whoever waits until nothing runs, however it ends", async () => {
    const { shared, runs } = controlled();
    const first = shared.run();
    const second = shared.run();
    let isIdle = false;
    const idle = shared.idle().then(() => {
      isIdle = true;
    });
    runs[0]?.();
    await first;
    await turn();
    expect(isIdle).toBe(false);
    runs[1]?.(new Error("the disk is gone"));
    await expect(second).rejects.toThrow("the disk is gone");
    await idle;
  });
});
