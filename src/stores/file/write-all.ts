/** Writing a body to an open file. */
import { writev as writevCalled } from "node:fs";
import { promisify } from "node:util";
import { CHUNK_BYTES } from "../../contract/body.ts";

const writev = promisify(writevCalled);

/** Chunks of fewer bytes are copied together before they are written. */
const SMALL_CHUNK_BYTES = 16 * 1024;

/** Writes everything, in pieces of 1 MiB or more, while the next piece is gathered. Returns the size. */
export async function writeAll(fd: number, chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let size = 0;
  let gathered = 0;
  let list: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  let smallBytes = 0;
  let writing: Promise<void> | undefined;
  const joinSmall = (): void => {
    const [only] = small;
    if (only) list.push(small.length === 1 ? only : Buffer.concat(small, smallBytes));
    small = [];
    smallBytes = 0;
  };
  const flush = async (): Promise<void> => {
    joinSmall();
    const batch = list;
    list = [];
    gathered = 0;
    await writing;
    if (batch.length > 0) writing = writeBatch(fd, batch);
    writing?.catch(() => undefined);
  };
  try {
    for await (const chunk of chunks) {
      size += chunk.length;
      gathered += chunk.length;
      if (chunk.length < SMALL_CHUNK_BYTES) {
        small.push(chunk);
        smallBytes += chunk.length;
      } else {
        joinSmall();
        list.push(chunk);
      }
      if (gathered >= CHUNK_BYTES) await flush();
    }
    await flush();
  } finally {
    await writing;
  }
  return size;
}

async function writeBatch(fd: number, batch: Uint8Array[]): Promise<void> {
  let list = batch;
  for (;;) {
    let { bytesWritten } = await writev(fd, list);
    let at = 0;
    for (let chunk = list[at]; chunk && bytesWritten >= chunk.length; chunk = list[++at]) bytesWritten -= chunk.length;
    const rest = list[at];
    if (!rest) return;
    // A short write: the next one says why.
    list = [rest.subarray(bytesWritten), ...list.slice(at + 1)];
  }
}
