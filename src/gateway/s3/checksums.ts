/** The checksums of S3's x-amz-checksum family, computed as the bytes go by. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Exchange } from "../exchange.ts";
import { S3Error } from "./s3-error.ts";

export const checksumAlgorithms = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"] as const;
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number];

export interface Checksum {
  update(bytes: Uint8Array): void;
  /** The checksum, big-endian for CRCs. To be called once. */
  digest(): Buffer;
}

/** `CRC32C` or `x-amz-checksum-crc32c` → `crc32c`; undefined for what is not of the family. */
export function checksumAlgorithm(name: string): ChecksumAlgorithm | undefined {
  const bare = name.toLowerCase().replace(/^x-amz-checksum-/u, "");
  return checksumAlgorithms.find((algorithm) => algorithm === bare);
}

/** The checksum that a request asks to be computed with `x-amz-checksum-algorithm`. Throws InvalidRequest. */
export function askedAlgorithm({ request }: Exchange): ChecksumAlgorithm | undefined {
  const asked = request.headers["x-amz-checksum-algorithm"];
  if (asked === undefined) return undefined;
  const algorithm = checksumAlgorithm(String(asked));
  if (algorithm === undefined) throw new S3Error("InvalidRequest", "this checksum algorithm is not known");
  return algorithm;
}

export function createChecksum(algorithm: ChecksumAlgorithm): Checksum {
  switch (algorithm) {
    case "sha1":
    case "sha256": {
      const hash = createHash(algorithm);
      return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest() };
    }
    case "crc32": {
      let value = 0;
      return {
        update: (bytes) => {
          value = crc32(bytes, value);
        },
        digest: () => uint32(value),
      };
    }
    case "crc32c": {
      let value = ~0;
      return {
        update: (bytes) => {
          value = crc32cUpdate(value, bytes);
        },
        digest: () => uint32(~value),
      };
    }
    case "crc64nvme": {
      const state: [number, number] = [~0, ~0];
      return {
        update: (bytes) => crc64Update(state, bytes),
        digest: () => Buffer.concat([uint32(~state[0]), uint32(~state[1])]),
      };
    }
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/**
 * Tables for eight bytes at a step ("slicing by 8", Kounavis and Berry 2005): table k holds what a byte contributes that
 * k zero bytes follow.
 */
let tables32: Int32Array | undefined;

function crc32cTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    tables[byte] = value;
  }
  for (let k = 1; k < 8; k++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = at(tables, (k - 1) * 256 + byte);
      tables[k * 256 + byte] = (before >>> 8) ^ at(tables, before & 0xff);
    }
  }
  return tables;
}

/** The index is always within the table; this tells the compiler so, at no cost. */
function at(table: Int32Array | Uint8Array, index: number): number {
  return table[index] as number;
}

function crc32cUpdate(start: number, bytes: Uint8Array): number {
  const t = (tables32 ??= crc32cTables());
  let value = start;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    value ^= at(bytes, i) | (at(bytes, i + 1) << 8) | (at(bytes, i + 2) << 16) | (at(bytes, i + 3) << 24);
    value =
      at(t, 1792 + (value & 0xff)) ^
      at(t, 1536 + ((value >>> 8) & 0xff)) ^
      at(t, 1280 + ((value >>> 16) & 0xff)) ^
      at(t, 1024 + (value >>> 24)) ^
      at(t, 768 + at(bytes, i + 4)) ^
      at(t, 512 + at(bytes, i + 5)) ^
      at(t, 256 + at(bytes, i + 6)) ^
      at(t, at(bytes, i + 7));
  }
  for (; i < bytes.length; i++) value = (value >>> 8) ^ at(t, (value ^ at(bytes, i)) & 0xff);
  return value;
}

/** High and low halves of the same tables for CRC-64/NVME (reflected polynomial 9a6c9329ac4bc9b5). */
let tables64: { readonly high: Int32Array; readonly low: Int32Array } | undefined;

function crc64Tables(): { readonly high: Int32Array; readonly low: Int32Array } {
  const high = new Int32Array(8 * 256);
  const low = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let h = 0;
    let l = byte;
    for (let bit = 0; bit < 8; bit++) {
      const carry = l & 1;
      l = (l >>> 1) | (h << 31);
      h >>>= 1;
      if (carry) {
        h ^= 0x9a6c9329;
        l ^= 0xac4bc9b5;
      }
    }
    high[byte] = h;
    low[byte] = l;
  }
  for (let k = 1; k < 8; k++) {
    for (let byte = 0; byte < 256; byte++) {
      const h = at(high, (k - 1) * 256 + byte);
      const l = at(low, (k - 1) * 256 + byte);
      const next = l & 0xff;
      low[k * 256 + byte] = ((l >>> 8) | (h << 24)) ^ at(low, next);
      high[k * 256 + byte] = (h >>> 8) ^ at(high, next);
    }
  }
  return { high, low };
}

function crc64Update(state: [number, number], bytes: Uint8Array): void {
  const { high, low } = (tables64 ??= crc64Tables());
  let [h, l] = state;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    l ^= at(bytes, i) | (at(bytes, i + 1) << 8) | (at(bytes, i + 2) << 16) | (at(bytes, i + 3) << 24);
    h ^= at(bytes, i + 4) | (at(bytes, i + 5) << 8) | (at(bytes, i + 6) << 16) | (at(bytes, i + 7) << 24);
    const a = 1792 + (l & 0xff);
    const b = 1536 + ((l >>> 8) & 0xff);
    const c = 1280 + ((l >>> 16) & 0xff);
    const d = 1024 + (l >>> 24);
    const e = 768 + (h & 0xff);
    const f = 512 + ((h >>> 8) & 0xff);
    const g = 256 + ((h >>> 16) & 0xff);
    const z = h >>> 24;
    l = at(low, a) ^ at(low, b) ^ at(low, c) ^ at(low, d) ^ at(low, e) ^ at(low, f) ^ at(low, g) ^ at(low, z);
    h = at(high, a) ^ at(high, b) ^ at(high, c) ^ at(high, d) ^ at(high, e) ^ at(high, f) ^ at(high, g) ^ at(high, z);
  }
  for (; i < bytes.length; i++) {
    const index = (l ^ at(bytes, i)) & 0xff;
    l = ((l >>> 8) | (h << 24)) ^ at(low, index);
    h = (h >>> 8) ^ at(high, index);
  }
  state[0] = h;
  state[1] = l;
}
