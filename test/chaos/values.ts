/** Bytes that tell what they are: every put gives others, and they can be made again from its token. */
import { createHash } from "node:crypto";

/** At least so long as the mark that is repeated in it. */
export function bytesOf(name: string, token: string, size: number): Buffer {
  const mark = `${name} ${token}\n`;
  return Buffer.alloc(Math.max(size, mark.length), mark);
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
