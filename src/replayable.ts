/** Bodies that give their bytes once, made to be opened again: what was read is kept in a temporary file. */
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HoldfastError } from "./errors.ts";
import type { Body } from "./store.ts";

export interface Replayable {
  readonly body: Body;
  /** Removes what was kept. An opening that still waits for the source gets an error. */
  dispose(): Promise<void>;
}

/**
 * A body that can be opened again already passes through, and nothing is kept. Otherwise every opening gives all bytes
 * from the first on, or the source's own error: also when an earlier opening was abandoned while the source was slow.
 */
export function replayable(body: Body): Replayable {
  if (body.reopenable) return { body, dispose: () => Promise.resolve() };
  let source: AsyncIterator<Uint8Array> | undefined;
  let pulling: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;
  let ended = false;
  let bytes = 0;
  let last: Uint8Array = new Uint8Array();
  let kept: { folder: string; file: FileHandle } | undefined;
  let keeping: Promise<void> | undefined;
  let disposed = false;

  const keep = async (chunk: Uint8Array): Promise<void> => {
    if (kept === undefined) {
      const folder = await mkdtemp(join(tmpdir(), "holdfast-"));
      kept = { folder, file: await open(join(folder, "body"), "wx+", 0o600) };
    }
    for (let at = 0; at < chunk.byteLength;) {
      // A disk that becomes full takes a part, and says so the next time.
      at += (await kept.file.write(chunk, at, chunk.byteLength - at, bytes + at)).bytesWritten;
    }
    bytes += chunk.byteLength;
    last = chunk;
  };

  /** Takes one chunk from the source. Openings share it: what one of them asked for, all of them see. */
  const pull = async (): Promise<void> => {
    try {
      source ??= body.open()[Symbol.asyncIterator]();
      const next = await source.next();
      if (next.done === true) ended = true;
      // Of a source that answers too late nothing is kept: nobody would remove it.
      else if (!disposed) await (keeping = keep(next.value));
    } catch (error) {
      failure = { error };
    }
  };

  return {
    body: {
      size: body.size,
      reopenable: true,
      async *open() {
        let at = 0;
        for (;;) {
          if (disposed) throw new HoldfastError("internal", "the source was let go of");
          if (at < bytes) {
            if (at === bytes - last.byteLength) {
              const chunk = last;
              at = bytes;
              yield chunk;
              continue;
            }
            const chunk = Buffer.allocUnsafe(Math.min(1024 * 1024, bytes - at));
            const { bytesRead } = (await kept?.file.read(chunk, 0, chunk.byteLength, at)) ?? { bytesRead: 0 };
            if (bytesRead === 0) throw new HoldfastError("internal", "what was kept of the source is gone");
            at += bytesRead;
            yield chunk.subarray(0, bytesRead);
            continue;
          }
          if (failure !== undefined) throw failure.error;
          if (ended) return;
          pulling ??= pull().finally(() => {
            pulling = undefined;
          });
          await pulling;
        }
      },
    },
    async dispose() {
      disposed = true;
      if (!ended && failure === undefined) {
        const returned = source?.return?.();
        // A source that hangs cannot be waited for; it is let go of whenever it answers.
        if (pulling === undefined) await returned;
        else returned?.catch(() => undefined);
      }
      await keeping?.catch(() => undefined);
      const { file, folder } = kept ?? {};
      kept = undefined;
      await file?.close();
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}
