/** A mirror with very many objects, without putting each: files are made in its folders, and the ledger's segments for them. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { IDENTITY_NAME, parseIdentity } from "../src/ledger/identity.ts";
import type { CopyMark, ObjectRecord } from "../src/ledger/record.ts";
import { SEGMENT_PREFIX, encodeSegment, parseSegmentName, segmentName } from "../src/ledger/segment.ts";

/** Records in one segment, and its level: as the ledger's own compaction leaves them. */
const SEGMENT_RECORDS = 20_000;
const LEVEL = 9;

/**
 * Adds objects of the same bytes under each of the names to a mirror of these folders, which exists and holds something
 * already. What is there afterwards is what puts by the same machine would have left.
 */
export function fillMirror(folders: readonly string[], names: readonly string[], bytes: Uint8Array): void {
  const identities = folders.map((folder) => parseIdentity(readFileSync(join(folder, IDENTITY_NAME)), folder));
  const [first] = folders;
  const pool = identities[0]?.pool;
  if (first === undefined || pool === undefined) throw new Error("a mirror has folders");
  const segments = readdirSync(join(first, SEGMENT_PREFIX));
  const writer = segments.find((name) => parseSegmentName(SEGMENT_PREFIX + name) !== undefined)?.split("-")[2];
  if (writer === undefined) throw new Error("nothing was put into the mirror yet");
  const content = {
    size: bytes.byteLength,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    pieceBytes: 1024 * 1024,
    pieces: "",
  };
  const now = Date.now();
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
  for (let at = 0; at < names.length; at += SEGMENT_RECORDS) {
    const objects = names.slice(at, at + SEGMENT_RECORDS).map((name, index): ObjectRecord => {
      const version = `${hex(now + at / SEGMENT_RECORDS, 12)}${hex(index, 4)}-${writer}`;
      const mark: CopyMark = { state: "holds", rev: version };
      const copies = Object.fromEntries(identities.map(({ store }) => [store, mark]));
      return { name, version, base: "", kind: "put", content, copies };
    });
    const name = segmentName(LEVEL, `${hex(now + at / SEGMENT_RECORDS, 12)}ffff-${writer}`, objects.length);
    const segment = encodeSegment({ pool, replaces: [], stores: [], objects });
    for (const folder of folders) writeFileSync(join(folder, name), segment);
  }
  for (const folder of folders) {
    for (const above of new Set(names.map(dirname))) mkdirSync(join(folder, above), { recursive: true });
    for (const name of names) writeFileSync(join(folder, name), bytes);
  }
}
