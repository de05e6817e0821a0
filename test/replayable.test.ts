import { expect, it } from "vitest";
import { collect } from "../src/body.ts";
import { replayable } from "../src/replayable.ts";
import type { Body } from "../src/store.ts";

/** A source that gives one letter each time it is told to, and can be told to fail. */
function pushed(): { body: Body; push: (text: string) => void; end: (error?: Error) => void; returned: () => boolean } {
  const waiting: { resolve: (result: IteratorResult<Uint8Array>) => void; reject: (error: Error) => void }[] = [];
  let returned = false;
  const done: IteratorResult<Uint8Array> = { done: true, value: undefined };
  return {
    body: {
      size: undefined,
      reopenable: false,
      open: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () =>
            new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
              waiting.push({ resolve, reject });
            }),
          return: () => {
            returned = true;
            return Promise.resolve(done);
          },
        }),
      }),
    },
    push: (text) => waiting.shift()?.resolve({ done: false, value: Buffer.from(text) }),
    end: (error) => (error === undefined ? waiting.shift()?.resolve(done) : waiting.shift()?.reject(error)),
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
    await new Promise((resolve) => setTimeout(resolve, 5));
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
  await new Promise((resolve) => setTimeout(resolve, 5));
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
