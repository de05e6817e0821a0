/** A body that says how far it has been read. */
import type { Body } from "../../contract/store.ts";

/** The same bytes; `onBytes` is told of each chunk, and of the loss when the body is read from its beginning again. */
export function countingBody(body: Body, onBytes: (more: number) => void): Body {
  let read = 0;
  return {
    size: body.size,
    reopenable: body.reopenable,
    async *open() {
      if (read > 0) onBytes(-read);
      read = 0;
      for await (const chunk of body.open()) {
        read += chunk.length;
        onBytes(chunk.length);
        yield chunk;
      }
    },
  };
}
