import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it, vi } from "vitest";
import { collect } from "../../src/contract/body.ts";
import { replayable } from "../../src/support/replayable.ts";
import type { Body } from "../../src/contract/store.ts";

type Step = { readonly text: string } | { readonly error: Error } | "end";

/** A source that gives what it is told to, when it is asked or told, whichever comes later; and can be told to fail. */
function pushed(): { body: Body; push: (text: string) => void; end: (error?: Error) => void; returned: () => boolean } {
  const told: Step[] = [];
  const asking: ((step: Step) => void)[] = [];
  let returned = false;
  const done: IteratorResult<Uint8Array> = { done: true, value: undefined };
  const tell = (step: Step): void => {
    const asker = asking.shift();
    if (asker === undefined) told.push(step);
    else asker(step);
  };
  return {
    body: {
      size: undefined,
      reopenable: false,
      open: () => ({
        [Symbol.asyncIterator]: () => ({
          next: async (): Promise<IteratorResult<Uint8Array>> => {
            const step = told.shift() ?? (await new Promise<Step>((resolve) => asking.push(resolve)));
            if (step === "end") return done;
            if ("error" in step) throw step.error;
            return { done: false, value: Buffer.from(step.text) };
          },
          return: () => {
            returned = true;
            return Promise.resolve(done);
          },
        }),
      }),
    },
    push: (text) => tell({ text }),
    end: (error) => tell(error === undefined ? "end" : { error }),
    returned: () => returned,
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it("gives a second opening every byte, though the first was abandoned while the source was silent", async () => {
  const source = pushed();
  const replay = replayable(source.body);
  const { body } = replay;
  const first = body.open()[Symbol.asyncIterator]();
  const one = first.next();
  await turn();
  source.push("a");
  expect(Buffer.from((await one).value ?? []).toString()).toBe("a");
  // The first opening waits for the source, and its store fails meanwhile.
  void first.next();
  await turn();
  const second = collect(body.open());
  for (const letter of ["b", "c", "d"]) {
    await turn();
    source.push(letter);
  }
  await turn();
  source.end();
  expect(Buffer.from(await second).toString()).toBe("abcd");
  await replay.dispose();
});

it("gives each opening the source's own error, never an end that looks like one", async () => {
  const source = pushed();
  const replay = replayable(source.body);
  const { body } = replay;
  const first = collect(body.open());
  await turn();
  source.push("a");
  source.end(new Error("the pipe broke"));
  await expect(first).rejects.toThrow("the pipe broke");
  await expect(collect(body.open())).rejects.toThrow("the pipe broke");
  await replay.dispose();
});

it("lets go of a source that hangs without waiting for it", async () => {
  const source = pushed();
  const replay = replayable(source.body);
  const { body } = replay;
  void body.open()[Symbol.asyncIterator]().next();
  await turn();
  await replay.dispose();
  expect(source.returned()).toBe(true);
});

it("keeps nothing of what a source gives after it was let go of", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-replayable-"));
  vi.stubEnv("TMPDIR", folder);
  try {
    for (const alreadyAsked of [true, false]) {
      const source = pushed();
      const replay = replayable(source.body);
      const first = replay.body.open()[Symbol.asyncIterator]().next();
      await turn();
      // Given just before, its bytes are being written when the end comes.
      if (!alreadyAsked) source.push("a");
      await replay.dispose();
      if (alreadyAsked) source.push("a");
      await expect(first).rejects.toMatchObject({ code: "internal" });
      expect(await readdir(folder)).toEqual([]);
    }
  } finally {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true, force: true });
  }
});
