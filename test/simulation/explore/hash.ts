/** Hashes of 64 bits, for telling states apart: quick, of any length, not for secrets. */

export class Hash {
  #a: number;
  #b: number;

  constructor(a = 0x9e37_79b9, b = 0x7f4a_7c15) {
    this.#a = a | 0;
    this.#b = b | 0;
  }

  number(value: number): this {
    let a = Math.imul(this.#a ^ value, 0x85eb_ca6b);
    a ^= a >>> 15;
    let b = Math.imul(this.#b + value, 0xc2b2_ae35) ^ a;
    b ^= b >>> 13;
    this.#a = a;
    this.#b = Math.imul(b, 0x27d4_eb2f);
    return this;
  }

  text(text: string): this {
    for (let place = 0; place < text.length; place++) this.number(text.charCodeAt(place));
    return this.number(-1 - text.length);
  }

  bytes(bytes: Uint8Array): this {
    const [a, b] = hashOfBytes(bytes);
    return this.number(a).number(b);
  }

  /** Takes in another hash. */
  hash(other: Hash): this {
    return this.number(other.#a).number(other.#b);
  }

  /** Adds another hash so that the order of such additions does not matter. */
  plus(other: Hash): this {
    this.#a = (this.#a + other.#a) | 0;
    this.#b = (this.#b + other.#b) | 0;
    return this;
  }

  /** The hash as 16 hexadecimal digits. */
  toString(): string {
    return hex(this.#a) + hex(this.#b);
  }
}

const known = new WeakMap<Uint8Array, readonly [number, number]>();

/** Stored bytes never change: each buffer is hashed once. */
function hashOfBytes(bytes: Uint8Array): readonly [number, number] {
  let value = known.get(bytes);
  if (value === undefined) {
    let a = 0x811c_9dc5 | 0;
    let b = 0x0100_0193 | 0;
    for (const byte of bytes) {
      a = Math.imul(a ^ byte, 0x0100_0193);
      b = Math.imul(b + byte, 0x85eb_ca77) ^ (a >>> 16);
    }
    value = [a ^ bytes.length, b];
    known.set(bytes, value);
  }
  return value;
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, "0");
}
