/** Bodies that give their bytes once, made to be opened again: what was read is kept in a temporary file. */
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Body } from "./store.ts";

export interface Replayable {
  readonly body: Body;
  /** Removes what was kept. */
  dispose(): Promise<void>;
}

/** A body that can be opened again already passes through, and nothing is kept. */
export function replayable(body: Body): Replayable {
  if (body.reopenable) return { body, dispose: () => Promise.resolve() };
  let source: AsyncIterator<Uint8Array> | undefined;
  let ended = false;
  let bytes = 0;
  let kept: { folder: string; file: FileHandle } | undefined;

  const keep = async (chunk: Uint8Array): Promise<void> => {
    if (kept === undefined) {
      const folder = await mkdtemp(join(tmpdir(), "holdfast-"));
      kept = { folder, file: await open(join(folder, "body"), "wx+", 0o600) };
    }
    await kept.file.write(chunk, 0, chunk.byteLength, bytes);
    bytes += chunk.byteLength;
  };

  return {
    body: {
      size: body.size,
      reopenable: true,
      async *open() {
        let at = 0;
        for (;;) {
          if (at < bytes && kept !== undefined) {
            const chunk = Buffer.allocUnsafe(Math.min(1024 * 1024, bytes - at));
            const { bytesRead } = await kept.file.read(chunk, 0, chunk.byteLength, at);
            at += bytesRead;
            yield chunk.subarray(0, bytesRead);
            continue;
          }
          if (ended) return;
          source ??= body.open()[Symbol.asyncIterator]();
          const next = await source.next();
          if (next.done === true) {
            ended = true;
            return;
          }
          await keep(next.value);
          at += next.value.byteLength;
          yield next.value;
        }
      },
    },
    async dispose() {
      if (!ended) await source?.return?.();
      if (kept !== undefined) {
        await kept.file.close();
        await rm(kept.folder, { recursive: true, force: true });
      }
    },
  };
}
