/**
 * SHA-256 and XXH64 of a simulation, in place of `node:crypto` and `xxhash-wasm`. It digests the same few bytes over and
 * over: what was digested once is remembered. Longer texts, as of segments, are digested each time.
 */
import { createHash as createSha256 } from "node:crypto";
import loadXxhash from "xxhash-wasm";

const LONGEST = 64;
const MOST = 1000;

/** Bytes as text of as many characters. */
function latin1(bytes: Uint8Array): string {
  return (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes)).toString("latin1");
}

function remembering<T>(digest: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    if (text.length > LONGEST) return digest(text);
    let value = known.get(text);
    if (value === undefined) {
      value = digest(text);
      if (known.size >= MOST) known.clear();
      known.set(text, value);
    }
    return value;
  };
}

const sha256 = remembering((text) => createSha256("sha256").update(text, "latin1").digest("hex"));

/** The part of a hash that the sources use: bytes go in, and 64 hexadecimal digits come out. */
class Sha256 {
  #text = "";

  update(data: string | Uint8Array): this {
    const isText = typeof data === "string";
    // ASCII is the same in both: almost all that is digested as text.
    if (isText && Buffer.byteLength(data) === data.length) this.#text += data;
    else this.#text += latin1(isText ? Buffer.from(data) : data);
    return this;
  }

  digest(): string {
    return sha256(this.#text);
  }
}

export function createHash(): Sha256 {
  return new Sha256();
}

/** As the package's default export gives it, for what the sources use. */
export async function xxhash(): Promise<object> {
  const digests = await loadXxhash();
  const xx64 = remembering((text) => digests.h64Raw(Buffer.from(text, "latin1")));
  return {
    h64Raw: (bytes: Uint8Array) => xx64(latin1(bytes)),
    create64() {
      let text = "";
      return {
        update(bytes: Uint8Array): void {
          text += latin1(bytes);
        },
        digest: () => xx64(text),
      };
    },
  };
}
