/**
 * Segments: the ledger's immutable files. docs/format.md describes them for other programs.
 *
 * A segment is lines of JSON: a head, one line for each store or object record, and a foot with the number of records
 * and the SHA-256 of all bytes before it. From 4 KiB it is compressed with gzip. A segment that is cut short or changed
 * is `corrupt` as a whole, and is read from another store.
 */
import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import * as z from "zod/mini";
import { HoldfastError } from "../contract/errors.ts";
import { checkName } from "../contract/names.ts";
import { isVersion } from "./hybrid-clock.ts";
import type { Version } from "./hybrid-clock.ts";
import type {
  Content,
  CopyMark,
  CopyState,
  ObjectRecord,
  PoolRecord,
  StoreId,
  StoreRecord,
  WriterRecord,
} from "./record.ts";

export const SEGMENT_PREFIX = ".holdfast/ledger/";
/** Version of the format, in the head of each segment. A reader refuses a higher one, and reads lower ones. */
export const FORMAT = 2;
const COMPRESS_FROM_BYTES = 4096;
/** A segment with more bytes than this, packed or unpacked, is damaged. Writers stay below half of it. */
export const MAX_SEGMENT_BYTES = 128 * 1024 * 1024;
/**
 * The limit of one line, and of a segment's bytes beside its records. The digests of a 6 TiB object's pieces fit in.
 */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_FOOT_BYTES = 1024;
/** The limit of a record's average bytes: a segment with few records by its name cannot unpack to many bytes. */
const MAX_RECORD_BYTES = 64 * 1024;
const MAX_STORES = 10_000;

/** Records of all kinds, as one segment has them. */
export interface Records {
  readonly objects: readonly ObjectRecord[];
  readonly stores?: readonly StoreRecord[];
  readonly pools?: readonly PoolRecord[];
  readonly writers?: readonly WriterRecord[];
}

export interface Segment extends Records {
  readonly pool: string;
  /** The segments whose records this one has. A store that has this one can remove them. */
  readonly replaces: readonly string[];
}

export function countRecords({ objects, stores = [], pools = [], writers = [] }: Records): number {
  return objects.length + stores.length + pools.length + writers.length;
}

const STATE_LETTERS: Record<CopyState, string> = { holds: "h", copy: "c", delete: "d", none: "n" };
const LETTER_STATES: Record<string, CopyState> = { h: "holds", c: "copy", d: "delete", n: "none" };

const version = z.string().check(z.refine(isVersion));
const storeId = z.string().check(z.regex(/^[0-9a-f]{16}$/u));
const copyCount = z.number().check(z.int(), z.gte(0), z.lte(MAX_STORES));
const headForm = z.object({
  holdfast: z.number(),
  pool: z.string(),
  stores: z.array(storeId),
  replaces: z.optional(z.array(z.string().check(z.maxLength(200)))),
});
const storeForm = z.object({
  store: storeId,
  rev: version,
  /** The one address, in format 1. */
  fp: z.optional(z.string()),
  at: z.optional(z.array(z.string())),
  label: z.string(),
  state: z.enum(["expected", "joining", "member", "draining", "drained", "removed"]),
  censused: z.boolean(),
  prefixes: z.optional(z.array(z.string())),
});
const poolForm = z.object({
  mode: z.enum(["stripe", "mirror"]),
  rev: version,
  min: copyCount,
  sure: copyCount,
});
const writerForm = z.object({ writer: z.string().check(z.regex(/^[0-9a-f]{8}$/u)), rev: version });
const footForm = z.object({ records: z.number(), sha256: z.string() });

/**
 * The name of a segment. Names of one level are in the order of writing; the version makes them unique. `level` 0: as
 * written; higher: compacted.
 */
export function segmentName(level: number, at: Version, records: number): string {
  return `${SEGMENT_PREFIX}${level}-${at}-${records}`;
}

/** The level and the number of records, from a segment's name; undefined for any other name. */
export function parseSegmentName(name: string): { level: number; records: number } | undefined {
  const match = /^(\d{1,3})-([0-9a-f]{16}(?:[0-9a-f]{16})?-[0-9a-f]{16})-(\d{1,10})$/u.exec(
    name.slice(SEGMENT_PREFIX.length),
  );
  return name.startsWith(SEGMENT_PREFIX) && match ? { level: Number(match[1]), records: Number(match[3]) } : undefined;
}

export function encodeSegment(segment: Segment): Uint8Array {
  const text = [...segmentLines(segment)].join("");
  const bytes = Buffer.from(text);
  return bytes.length < COMPRESS_FROM_BYTES ? bytes : gzipSync(bytes, { level: 1 });
}

/** The lines of a segment. */
function* segmentLines(segment: Segment): Generator<string> {
  const { pool, replaces, stores = [], pools = [], writers = [], objects } = segment;
  const hash = createHash("sha256");
  // Records name a store by its position in the head's table, or by its full id if it is not in the table.
  const ids = stores.map((store) => store.id);
  const table = new Map(ids.map((id, index) => [id, index]));
  const line = (value: unknown): string => {
    const text = `${JSON.stringify(value)}\n`;
    hash.update(text);
    return text;
  };
  yield line({ holdfast: FORMAT, pool, stores: ids, ...(replaces.length > 0 ? { replaces } : {}) });
  for (const { id, rev, addresses, label, state, censused, prefixes } of stores) {
    yield line({ store: id, rev, at: addresses, label, state, censused, prefixes });
  }
  for (const { mode, rev, min, sure } of pools) yield line({ mode, rev, min, sure });
  for (const { machine, rev } of writers) yield line({ writer: machine, rev });
  for (const record of objects) yield line(packRecord(record, table));
  yield `${JSON.stringify({ records: countRecords(segment), sha256: hash.digest("hex") })}\n`;
}

/**
 * Throws `corrupt` unless the bytes are a whole, unchanged segment of this pool's format. `records`: the number of records
 * in its name, which limits the unpacked bytes.
 */
export function decodeSegment(bytes: Uint8Array, records = Infinity): Segment {
  const damaged = (why: string, cause?: unknown): HoldfastError =>
    new HoldfastError("corrupt", `a segment of the ledger is damaged: ${why}`, { cause });
  let text: Buffer;
  try {
    const most = Math.min(MAX_SEGMENT_BYTES, MAX_LINE_BYTES + records * MAX_RECORD_BYTES);
    text = bytes[0] === 0x1f ? gunzipSync(bytes, { maxOutputLength: most }) : Buffer.from(bytes);
  } catch (error) {
    throw damaged("it cannot be decompressed", error);
  }
  // The foot is the last line.
  const end = text.length - 1;
  if (end < 0 || text[end] !== 0x0a) throw damaged("its end is missing");
  const footStart = text.lastIndexOf(0x0a, end - 1) + 1;
  if (end - footStart > MAX_FOOT_BYTES) throw damaged("its end is missing");
  const foot = parseLine(footForm, text.subarray(footStart, end), damaged);
  if (createHash("sha256").update(text.subarray(0, footStart)).digest("hex") !== foot.sha256) {
    throw damaged("its digest is wrong");
  }
  const objects: ObjectRecord[] = [];
  const stores: StoreRecord[] = [];
  const pools: PoolRecord[] = [];
  const writers: WriterRecord[] = [];
  let head: z.infer<typeof headForm> | undefined;
  let start = 0;
  while (start < footStart) {
    const stop = text.indexOf(0x0a, start);
    const line = text.subarray(start, stop);
    start = stop + 1;
    if (line.length > MAX_LINE_BYTES) throw damaged("a line is too long");
    if (head === undefined) {
      head = parseLine(headForm, line, damaged);
      if (head.holdfast > FORMAT) {
        throw new HoldfastError(
          "unsupported",
          `the ledger was written in format ${head.holdfast}, by a newer Holdfast`,
        );
      }
      continue;
    }
    const value = parseJson(line, damaged);
    if (has(value, "store")) stores.push(unpackStore(parseForm(storeForm, value, damaged)));
    else if (has(value, "mode")) pools.push(parseForm(poolForm, value, damaged));
    else if (has(value, "writer")) {
      const { writer, rev } = parseForm(writerForm, value, damaged);
      writers.push({ machine: writer, rev });
    } else objects.push(unpackRecord(value, head.stores, damaged));
  }
  if (head === undefined) throw damaged("its head is missing");
  const segment = { pool: head.pool, replaces: head.replaces ?? [], stores, pools, writers, objects };
  if (countRecords(segment) !== foot.records) throw damaged("records are missing");
  return segment;
}

function has(value: unknown, key: string): boolean {
  return typeof value === "object" && value !== null && key in value;
}

function unpackStore(line: z.infer<typeof storeForm>): StoreRecord {
  const { store, rev, fp, at, label, state, censused, prefixes } = line;
  const addresses = at ?? (fp === undefined ? [] : [fp]);
  return { id: store, rev, addresses, label, state, censused, ...(prefixes === undefined ? {} : { prefixes }) };
}

type Damaged = (why: string, cause?: unknown) => HoldfastError;

function parseJson(line: Uint8Array, damaged: Damaged): unknown {
  try {
    return JSON.parse(Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString("utf8"));
  } catch (error) {
    throw damaged("a line is not JSON", error);
  }
}

function parseForm<T>(form: z.ZodMiniType<T>, value: unknown, damaged: Damaged): T {
  const result = z.safeParse(form, value);
  if (!result.success) throw damaged("a line has an unknown form", result.error);
  return result.data;
}

function parseLine<T>(form: z.ZodMiniType<T>, line: Uint8Array, damaged: Damaged): T {
  return parseForm(form, parseJson(line, damaged), damaged);
}

/** The short form of a record in a segment and in the local index. docs/format.md explains the keys. */
export interface PackedRecord {
  n: string;
  v: string;
  b?: string;
  /** `r`: an intent of repair. */
  k: "p" | "d" | "i" | "r";
  s?: number;
  h?: string;
  pb?: number;
  ps?: string;
  f?: string;
  m?: Readonly<Record<string, string>>;
  c: Record<string, string | readonly string[]>;
  x?: readonly string[];
  z?: readonly string[];
}

export function packRecord(record: ObjectRecord, table: ReadonlyMap<StoreId, number>): PackedRecord {
  const copies: PackedRecord["c"] = {};
  for (const [id, mark] of Object.entries(record.copies)) {
    const letter = STATE_LETTERS[mark.state];
    const key = table.get(id)?.toString() ?? id;
    const rev = mark.rev === record.version ? "" : mark.rev;
    if (mark.late !== undefined) copies[key] = [letter, rev, mark.reason ?? "", mark.late];
    else if (mark.reason !== undefined) copies[key] = [letter, rev, mark.reason];
    else if (rev !== "") copies[key] = [letter, rev];
    else copies[key] = letter;
  }
  const { content } = record;
  const packed: PackedRecord = {
    n: record.name,
    v: record.version,
    k: record.kind === "put" ? "p" : record.kind === "delete" ? "d" : record.repair === true ? "r" : "i",
    c: copies,
  };
  if (record.base !== "") packed.b = record.base;
  if (content !== undefined) {
    packed.s = content.size;
    packed.h = content.sha256;
    if (content.pieces !== "") {
      packed.pb = content.pieceBytes;
      packed.ps = Buffer.from(content.pieces, "hex").toString("base64");
    }
  }
  if (record.former !== undefined) packed.f = record.former;
  if (record.metadata !== undefined) packed.m = record.metadata;
  if (record.settles !== undefined) packed.x = record.settles;
  if (record.undone !== undefined) packed.z = record.undone;
  return packed;
}

/** Checked by hand: a segment may hold a million of these, and a schema library takes most of the time of reading it. */
export function unpackRecord(value: unknown, ids: readonly StoreId[], damaged: Damaged): ObjectRecord {
  if (typeof value !== "object" || value === null) throw damaged("a record is not an object");
  const packed = value as Partial<PackedRecord>;
  const { n, v, k, c } = packed;
  if (typeof n !== "string" || !isVersion(v) || typeof c !== "object" || c === null)
    throw damaged("a record is incomplete");
  if (!isName(n)) throw damaged("a record has no valid name");
  if (packed.b !== undefined && !isVersion(packed.b)) throw damaged("a record has no valid base");
  const copies: Record<StoreId, CopyMark> = {};
  for (const [key, packedMark] of Object.entries<unknown>(c)) {
    const id = STORE_ID.test(key) ? key : ids[Number(key)];
    const [letter, since, reason, late]: readonly unknown[] = Array.isArray(packedMark) ? packedMark : [packedMark];
    const state = LETTER_STATES[String(letter)];
    const rev: unknown = since === undefined || since === "" ? v : since;
    if (id === undefined || state === undefined || !(rev === v || isVersion(rev)))
      throw damaged("a record has an unknown mark");
    copies[id] = {
      state,
      rev,
      ...(typeof reason === "string" && reason !== "" ? { reason } : {}),
      ...(isVersion(late) ? { late } : {}),
    };
  }
  const kind = k === "p" ? "put" : k === "d" ? "delete" : k === "i" || k === "r" ? "intent" : undefined;
  if (kind === undefined) throw damaged("a record is of an unknown kind");
  const content = packed.s === undefined ? undefined : unpackContent(packed, damaged);
  if (kind === "put" && content === undefined) throw damaged("a put has no content");
  const { f, m, x, z } = packed;
  if (f !== undefined && !(typeof f === "string" && f.length <= 64))
    throw damaged("a record has no valid former digest");
  if (m !== undefined && !isMetadata(m)) throw damaged("a record has no valid metadata");
  if (x !== undefined && !(Array.isArray(x) && x.every(isVersion)))
    throw damaged("a record settles something that is not a version");
  if (z !== undefined && !(Array.isArray(z) && z.every(isVersion)))
    throw damaged("a record takes back something that is not a version");
  return {
    name: n,
    version: v,
    base: packed.b ?? "",
    kind,
    copies,
    ...(content === undefined ? {} : { content }),
    ...(f === undefined ? {} : { former: f }),
    ...(m === undefined ? {} : { metadata: m }),
    ...(x === undefined ? {} : { settles: x }),
    ...(z === undefined ? {} : { undone: z }),
    ...(k === "r" ? { repair: true } : {}),
  };
}

const STORE_ID = /^[0-9a-f]{16}$/u;

function isName(name: string): boolean {
  try {
    checkName(name);
    return true;
  } catch {
    return false;
  }
}

function isMetadata(value: unknown): value is Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values({ ...value }).every((one: unknown) => typeof one === "string");
}

function unpackContent({ s, h, pb, ps }: Partial<PackedRecord>, damaged: Damaged): Content {
  if (!isCount(s) || typeof h !== "string" || h.length > 64) throw damaged("a record has no digest");
  const pieceBytes = pb ?? Math.max(1, s);
  if (!isCount(pieceBytes) || pieceBytes === 0) throw damaged("a record has no valid pieces");
  const digests: unknown = ps ?? "";
  if (typeof digests !== "string") throw damaged("a record has no valid pieces");
  const pieces = Buffer.from(digests, "base64").toString("hex");
  if (pieces !== "" && pieces.length !== Math.ceil(s / pieceBytes) * 16)
    throw damaged("a record lacks pieces' digests");
  return { size: s, sha256: h, pieceBytes, pieces };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
