/**
 * restic's REST server (and `rclone serve restic`, and what NAS makers ship of it) as a store: `rest:http://host/path`.
 *
 * The protocol knows no names of one's own and no replacing: it keeps blobs of fixed types whose name is the SHA-256 of
 * their content. So objects are not plain files there. What is kept instead (docs/stores.md has the format in full):
 *
 * - `data/<id>`: pieces of objects, 4 MiB at most, each behind 16 random bytes, so that no two pieces are one blob.
 * - `index/<id>`: segments, JSON, with records `name → version, size, pieces`, or `name → deleted`. The record with the
 *   highest version holds. A put is there when its record is: whole, at once, and in place of the one before.
 *
 * Every blob is checked against its name when it is read, so that one that is still being written, was cut, or has rotted
 * is never taken for what it should be. Each operation lists the segments once (operations at the same time share that)
 * and reads those that are new; small segments are merged now and then, so the list stays short.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { checkedBytes } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, throwIfAborted, toHoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { MAX_NAME_BYTES, compareNames } from "../../contract/names.ts";
import { conversationError, httpError } from "../../support/network-errors.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { resolveRange } from "../../contract/ranges.ts";
import { secretsOf } from "../../support/redact.ts";
import type { Body, GetResult, ObjectInfo, Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import { SharedRun } from "../../support/shared-run.ts";
import { raceSignal } from "../../support/signals.ts";
import { HttpClient } from "../base/http-client.ts";
import type { HttpAnswer } from "../base/http-client.ts";
import { drain } from "../base/http-service.ts";
import { serviceUrl } from "../base/place.ts";

export const restKind: StoreKind = {
  open: async (url, context) => openRestStore(url, context),
  // A repository below another's path is none of its blobs.
  place: (url, env) => ({
    server: ["rest", serviceUrl(baseOf(url)) ?? "", url.username ?? env["RESTIC_REST_USERNAME"] ?? ""],
    path: [],
  }),
};

/** Bytes of an object in one piece. A put holds three in memory, a read two. */
const PIECE_BYTES = 4 * 1024 * 1024;
const NONCE_BYTES = 16;
const PIECES_AT_ONCE = 3;

/** More small segments than this are merged. */
const MAX_SMALL_SEGMENTS = 32;
const SMALL_SEGMENT_BYTES = 256 * 1024;
/** A merged segment is begun anew at about this size. */
const SEGMENT_BYTES = 1024 * 1024;

/** A segment that claims to be larger was not written by this store. */
const MAX_SEGMENT_BYTES = 64 * 1024 * 1024;

/**
 * Merged segments are deleted only this long after the merge, in milliseconds: a listing that is under way meanwhile may
 * see neither the merged segment, made behind its back, nor the old ones, deleted before it came to them.
 */
const MERGED_GRACE_MS = 2 * 60 * 1000;

/** The record of a delete outlives every put that may have been under way, in milliseconds. */
const TOMBSTONE_MS = 30 * 24 * 60 * 60 * 1000;

/** How long a failed or cancelled put may take to delete its pieces, in milliseconds. */
const CLEANUP_MS = 2000;

/** A blob that is not what its name says may be one that is still being written: when to look again, in milliseconds. */
const LOOK_AGAIN_MS = [50, 200, 500];

/** How long closing waits for a merge of segments, in milliseconds. */
const CLOSE_MS = 5000;

/** Codes of answers that say that a blob was not taken. */
const REFUSED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["denied", "full", "throttled", "unsupported"]);

const ID = /^[0-9a-f]{64}$/u;

const RecordSchema = z.object({
  name: z.string().min(1).max(MAX_NAME_BYTES),
  /** 1,024 a millisecond since 1970, and always more than any version seen before. */
  version: z.number().int().nonnegative(),
  /** Decides between equal versions. */
  writer: z.string().regex(/^[0-9a-f]{16}$/u),
  deleted: z.literal(true).optional(),
  size: z.number().int().nonnegative().optional(),
  modifiedMs: z.number().optional(),
  pieceBytes: z
    .number()
    .int()
    .positive()
    .max(64 * 1024 * 1024)
    .optional(),
  pieces: z.array(z.string().regex(ID)).optional(),
});
type ObjectRecord = z.infer<typeof RecordSchema>;

const SegmentSchema = z.object({
  format: z.literal("holdfast-rest-1"),
  /** Random, so that no two segments are one blob. */
  nonce: z.string(),
  createdMs: z.number(),
  /** Segments whose records this one holds too. */
  merges: z.array(z.string().regex(ID)),
  records: z.array(RecordSchema),
});

interface Segment {
  readonly id: string;
  readonly bytes: number;
  readonly createdMs: number;
  readonly merges: readonly string[];
  readonly records: readonly ObjectRecord[];
}

const ListSchema = z
  .array(z.object({ name: z.string(), size: z.number().optional() }))
  .nullable()
  .transform((list) => list ?? []);

/** Opens a store on a restic REST server. Reaches out to nothing. Throws `config` for a wrong URL or CA file. */
export async function openRestStore(url: StoreUrl, context: StoreContext): Promise<Store> {
  const client = await Client.open(url, context);
  return new RestStore(client, url, context);
}

class RestStore implements Store {
  readonly label: string;
  readonly capabilities = {
    orderedList: true,
    conditionalPut: false,
    prefixNames: true,
    maxNameBytes: MAX_NAME_BYTES,
    caseSensitive: true,
    storeDigests: [],
  } as const;
  readonly #client: Client;
  readonly #index: Index;
  readonly #context: StoreContext;
  readonly #operations: Operations;
  #checked = false;
  #created = false;

  constructor(client: Client, url: StoreUrl, context: StoreContext) {
    this.label = context.label;
    this.#client = client;
    this.#context = context;
    this.#index = new Index(client, context);
    this.#operations = new Operations({
      context,
      secrets: [...secretsOf(url, context.env), client.password].filter((one) => one !== ""),
    });
  }

  put(name: string, body: Body, options: Parameters<Store["put"]>[2] = {}): ReturnType<Store["put"]> {
    return this.#operations.run("put", name, options, async ({ signal }) => {
      refuseUnsupported(options, NOT_ATOMIC);
      await this.#prepare(signal);
      if (!this.#created) {
        await this.#client.create(signal);
        this.#created = true;
      }
      const { pieces, size } = await this.#upload(body, signal);
      const record = { name, size, modifiedMs: this.#context.runtime.now(), pieceBytes: PIECE_BYTES, pieces };
      const { old } = await this.#index.commit(record, signal).catch(async (error: unknown) => {
        // Only where the server said no: after a lost answer, or with others still waiting, the record may be there.
        if (isHoldfastError(error) && REFUSED.has(error.code)) await this.#discard(pieces);
        throw error;
      });
      if (old?.pieces) await this.#discard(old.pieces);
      return { size };
    });
  }

  get(name: string, options: Parameters<Store["get"]>[1] = {}): Promise<GetResult> {
    return this.#operations.get(name, options, async ({ signal }) => {
      await this.#prepare(signal);
      for (let attempt = 1; ; attempt++) {
        const record = await this.#find(name, signal);
        const { start, end } = resolveRange(options.range, record.size ?? 0);
        try {
          return await this.#read(record, start, end, signal);
        } catch (error) {
          // Replaced or deleted between the look at the index and the first piece.
          if (attempt < 5 && isHoldfastError(error, "unavailable") && isHoldfastError(error.cause, "not-found"))
            continue;
          throw error;
        }
      }
    });
  }

  stat(name: string, options: Parameters<Store["stat"]>[1] = {}): Promise<ObjectInfo> {
    return this.#operations.run("stat", name, options, async ({ signal }) => {
      await this.#prepare(signal);
      return infoOf(await this.#find(name, signal));
    });
  }

  list(prefix: string, options: Parameters<Store["list"]>[1] = {}): AsyncIterable<ObjectInfo> {
    const { after } = options;
    const begin = async (signal: AbortSignal): Promise<ObjectRecord[]> => {
      await this.#prepare(signal);
      return [...(await this.#index.read(signal)).values()]
        .filter(
          ({ name, deleted }) =>
            !deleted && name.startsWith(prefix) && (after === undefined || compareNames(name, after) > 0),
        )
        .sort((a, b) => compareNames(a.name, b.name));
    };
    return this.#operations.iterate(options, async function* ({ signal }) {
      for (const record of await begin(signal)) yield infoOf(record);
    });
  }

  delete(name: string, options: Parameters<Store["delete"]>[1] = {}): ReturnType<Store["delete"]> {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      await this.#prepare(signal);
      const found = (await this.#index.read(signal)).get(name);
      if (!found || found.deleted) return { existed: false };
      const { old } = await this.#index.commit({ name, deleted: true }, signal);
      if (old?.pieces) await this.#discard(old.pieces);
      return { existed: true };
    });
  }

  async close(): Promise<void> {
    await this.#operations.close();
    await this.#index.close();
    await this.#client.close();
  }

  /** Refuses to write into a repository of restic's, where these blobs would be taken for damage. */
  async #prepare(signal: AbortSignal): Promise<void> {
    if (this.#checked) return;
    if (await this.#client.has("config", signal)) {
      throw new HoldfastError("config", "there is a restic repository at this URL: give the store a path of its own");
    }
    this.#checked = true;
  }

  async #find(name: string, signal: AbortSignal): Promise<ObjectRecord> {
    const record = (await this.#index.read(signal)).get(name);
    if (!record || record.deleted) throw notFound();
    return record;
  }

  async #upload(body: Body, signal: AbortSignal): Promise<{ pieces: string[]; size: number }> {
    const pieces: string[] = [];
    const failures: unknown[] = [];
    const running = new Set<Promise<void>>();
    let size = 0;
    const send = async (chunks: readonly Uint8Array[]): Promise<void> => {
      const blob = Buffer.concat([randomBytes(NONCE_BYTES), ...chunks]);
      const id = sha256(blob);
      pieces.push(id);
      const post = this.#client
        .post(`data/${id}`, blob, signal)
        .catch((error: unknown) => void failures.push(error))
        .finally(() => void running.delete(post));
      running.add(post);
      if (running.size >= PIECES_AT_ONCE) await Promise.race(running);
      if (failures.length > 0) throw failures[0];
    };
    try {
      let chunks: Uint8Array[] = [];
      let filled = 0;
      for await (const chunk of checkedBytes(body, signal)) {
        size += chunk.length;
        for (let at = 0; at < chunk.length;) {
          const part = chunk.subarray(at, at + PIECE_BYTES - filled);
          chunks.push(part);
          filled += part.length;
          at += part.length;
          if (filled === PIECE_BYTES) {
            await send(chunks);
            chunks = [];
            filled = 0;
          }
        }
      }
      if (filled > 0) await send(chunks);
      await Promise.all(running);
      if (failures.length > 0) throw failures[0];
      throwIfAborted(signal);
      return { pieces, size };
    } catch (error) {
      await Promise.all(running);
      await this.#discard(pieces);
      throw error;
    }
  }

  /** The last piece first: while the first one is there, a merge of segments knows that this was not done to the end. */
  async #discard(pieces: readonly string[]): Promise<void> {
    const signal = AbortSignal.timeout(CLEANUP_MS + pieces.length * 100);
    try {
      for (const id of pieces.toReversed()) await this.#client.delete(`data/${id}`, signal);
    } catch (error) {
      // They are not part of any object any more: no promise is broken while they are still there.
      this.#context.logger.warn("the server keeps pieces that are no longer needed", {
        store: this.label,
        reason: toHoldfastError(error, "unavailable").code,
      });
    }
  }

  async #read(record: ObjectRecord, start: number, end: number, signal: AbortSignal): Promise<GetResult> {
    const pieceBytes = record.pieceBytes ?? PIECE_BYTES;
    const info = infoOf(record);
    const fetch = (i: number): Promise<Uint8Array> => {
      const piece = this.#piece(record, i, pieceBytes, signal);
      piece.catch(() => undefined);
      return piece;
    };
    const first = Math.floor(start / pieceBytes);
    const last = end === start ? first - 1 : Math.floor((end - 1) / pieceBytes);
    let next = last < first ? undefined : fetch(first);
    await next;
    const body = async function* (): AsyncGenerator<Uint8Array> {
      for (let i = first; i <= last; i++) {
        const bytes = await next;
        next = i < last ? fetch(i + 1) : undefined;
        const from = i * pieceBytes;
        if (bytes) yield bytes.subarray(Math.max(start - from, 0), Math.min(end - from, bytes.length));
      }
    };
    return {
      info,
      body: body(),
      close: async () => {
        await next?.catch(() => undefined);
      },
    };
  }

  async #piece(record: ObjectRecord, i: number, pieceBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const id = record.pieces?.[i];
    const size = Math.min(pieceBytes, (record.size ?? 0) - i * pieceBytes);
    if (id === undefined || size <= 0) throw new HoldfastError("corrupt", "the object's record lacks a piece");
    try {
      const blob = await this.#client.read(`data/${id}`, id, NONCE_BYTES + size, signal);
      if (blob.length !== NONCE_BYTES + size)
        throw new HoldfastError("corrupt", "a piece of the object has a wrong length");
      return blob.subarray(NONCE_BYTES);
    } catch (error) {
      if (!isHoldfastError(error, "not-found")) throw error;
      const now = (await this.#index.read(signal)).get(record.name);
      if (now && now.version === record.version && now.writer === record.writer) {
        throw new HoldfastError("corrupt", "a piece of the object is gone from the server", { cause: error });
      }
      throw new HoldfastError("unavailable", "the object was replaced or deleted while it was read", { cause: error });
    }
  }
}

function infoOf(record: ObjectRecord): ObjectInfo {
  return {
    name: record.name,
    size: record.size ?? 0,
    ...(record.modifiedMs === undefined ? {} : { modifiedMs: record.modifiedMs }),
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function isNewer(a: ObjectRecord, b: ObjectRecord): boolean {
  return a.version > b.version || (a.version === b.version && a.writer > b.writer);
}

type NewRecord = Omit<ObjectRecord, "version" | "writer">;

interface Commit {
  readonly record: NewRecord;
  readonly resolve: (result: { old: ObjectRecord | undefined }) => void;
  readonly reject: (error: unknown) => void;
}

/** The records of all segments, read anew for every operation and written many at a time. */
class Index {
  readonly #client: Client;
  readonly #context: StoreContext;
  readonly #writer = randomBytes(8).toString("hex");
  /** Ends the work that belongs to no single caller: commits for several, merges of segments. */
  readonly #closing = new AbortController();
  readonly #segments = new Map<string, Segment>();
  #records: Map<string, ObjectRecord> = new Map();
  #version = 0;
  #waiting: Commit[] = [];
  #committing: Promise<void> | undefined;
  #merging: Promise<void> | undefined;

  constructor(client: Client, context: StoreContext) {
    this.#client = client;
    this.#context = context;
  }

  /** The newest record of every name, as the server has them after this call began. */
  async read(signal: AbortSignal): Promise<ReadonlyMap<string, ObjectRecord>> {
    await raceSignal(this.#refresh.run(), signal);
    return this.#records;
  }

  /**
   * Makes a record durable, with a version above all that the server had when this call began. Resolves with the record
   * that it replaces. Once handed in it is not taken back: a signal that fires ends the wait alone.
   */
  async commit(record: NewRecord, signal: AbortSignal): Promise<{ old: ObjectRecord | undefined }> {
    throwIfAborted(signal);
    const done = new Promise<{ old: ObjectRecord | undefined }>((resolve, reject) => {
      this.#waiting.push({ record, resolve, reject });
    });
    this.#commitWaiting();
    return raceSignal(done, signal);
  }

  #commitWaiting(): void {
    if (this.#waiting.length === 0) return;
    this.#committing ??= this.#commitAll().finally(() => {
      this.#committing = undefined;
      this.#commitWaiting();
    });
  }

  async close(): Promise<void> {
    // A merge that begins with the last put of a short run would never come about if it were always cut off.
    const abort = (): void => this.#closing.abort(new HoldfastError("invalid", "the store is closed"));
    const cancel = this.#context.runtime.timer(CLOSE_MS, abort);
    await this.#committing?.catch(() => undefined);
    await this.#merging?.catch(() => undefined);
    cancel();
    abort();
    const running = [this.#committing, this.#merging, this.#refresh.idle()];
    for (const work of running) await work?.catch(() => undefined);
  }

  /** A look at the server that begins after the call: one that is under way already may have missed something. */
  readonly #refresh = new SharedRun(() => this.#look());

  async #look(): Promise<void> {
    const signal = this.#closing.signal;
    for (let attempt = 1; ; attempt++) {
      const listed = await this.#client.list("index/", signal);
      const ids = new Set(listed.filter((id) => ID.test(id)));
      const gone = [...this.#segments.keys()].filter((id) => !ids.has(id));
      try {
        const found = await mapLimit(
          [...ids].filter((id) => !this.#segments.has(id)),
          8,
          (id) => this.#readSegment(id, signal),
        );
        for (const segment of found) this.#add(segment);
        if (gone.length > 0) {
          for (const id of gone) this.#segments.delete(id);
          this.#records = new Map();
          for (const segment of this.#segments.values()) this.#merge(segment);
        }
        return;
      } catch (error) {
        // Merged and deleted by another between the list and the read.
        if (attempt === 5 || !isHoldfastError(error, "not-found")) throw error;
      }
    }
  }

  async #readSegment(id: string, signal: AbortSignal): Promise<Segment> {
    const blob = await this.#client.read(`index/${id}`, id, MAX_SEGMENT_BYTES, signal);
    let parsed: unknown;
    try {
      parsed = JSON.parse(Buffer.from(blob).toString("utf8"));
    } catch {
      parsed = undefined;
    }
    const result = SegmentSchema.safeParse(parsed);
    if (!result.success) {
      throw new HoldfastError("corrupt", `index/${id} on the server is no segment of this store's`);
    }
    const { createdMs, merges, records } = result.data;
    return { id, bytes: blob.length, createdMs, merges, records };
  }

  #add(segment: Segment): void {
    this.#segments.set(segment.id, segment);
    this.#merge(segment);
  }

  #merge(segment: Segment): void {
    for (const record of segment.records) {
      this.#version = Math.max(this.#version, record.version);
      const held = this.#records.get(record.name);
      if (!held || isNewer(record, held)) this.#records.set(record.name, record);
    }
  }

  async #commitAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#refresh.run();
        const old = batch.map(({ record }) => this.#records.get(record.name));
        const records = batch.map(({ record }): ObjectRecord => {
          this.#version = Math.max(this.#version + 1, this.#context.runtime.now() * 1024);
          return { ...record, version: this.#version, writer: this.#writer };
        });
        await this.#write(records, []);
        const seen = new Map<string, ObjectRecord>();
        for (const [i, { record, resolve }] of batch.entries()) {
          // Two puts of one name in one segment: the second replaces the first.
          resolve({ old: seen.get(record.name) ?? old[i] });
          const made = records[i];
          if (made) seen.set(record.name, made);
        }
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#merging ??= this.#mergeSegments()
      .catch((error: unknown) => {
        // Nothing is lost: the segments stay as they are, and the next commit tries again.
        this.#context.logger.debug("segments were not merged", { reason: toHoldfastError(error).code });
      })
      .finally(() => {
        this.#merging = undefined;
      });
  }

  async #write(records: readonly ObjectRecord[], merges: readonly string[]): Promise<void> {
    const createdMs = this.#context.runtime.now();
    const blob = Buffer.from(
      JSON.stringify({ format: "holdfast-rest-1", nonce: randomBytes(16).toString("hex"), createdMs, merges, records }),
    );
    const id = sha256(blob);
    await this.#client.post(`index/${id}`, blob, this.#closing.signal);
    this.#add({ id, bytes: blob.length, createdMs, merges, records });
  }

  /** Segments that no other has taken up. */
  #standing(): Segment[] {
    const merged = new Set([...this.#segments.values()].flatMap((segment) => segment.merges));
    return [...this.#segments.values()].filter((segment) => !merged.has(segment.id));
  }

  async #mergeSegments(): Promise<void> {
    const signal = this.#closing.signal;
    const now = this.#context.runtime.now();
    const due = [...this.#segments.values()]
      .filter((segment) => now - segment.createdMs >= MERGED_GRACE_MS)
      .flatMap((segment) => segment.merges.filter((id) => this.#segments.has(id)));
    await mapLimit([...new Set(due)], 4, (id) => this.#client.delete(`index/${id}`, signal));
    const standing = this.#standing();
    const small = standing.filter((segment) => segment.bytes < SMALL_SEGMENT_BYTES);
    const held = standing.reduce((sum, segment) => sum + segment.records.length, 0);
    const all = held > 2 * this.#records.size + 1000;
    if (!all && small.length <= MAX_SMALL_SEGMENTS) return;
    const sources = all ? standing : small;
    const kept = new Map<string, ObjectRecord>();
    const beaten: ObjectRecord[] = [];
    for (const record of sources.flatMap((segment) => segment.records)) {
      const newest = this.#records.get(record.name);
      if (newest && isNewer(newest, record)) beaten.push(record);
      else if (!(all && record.deleted && record.version / 1024 < now - TOMBSTONE_MS)) kept.set(record.name, record);
    }
    const merges = sources.flatMap((segment) => [segment.id, ...segment.merges.filter((id) => this.#segments.has(id))]);
    const parts: ObjectRecord[][] = [[]];
    let bytes = 0;
    for (const record of kept.values()) {
      const size = 200 + 3 * record.name.length + 67 * (record.pieces?.length ?? 0);
      if (bytes + size > SEGMENT_BYTES && bytes > 0) {
        parts.push([]);
        bytes = 0;
      }
      parts.at(-1)?.push(record);
      bytes += size;
    }
    // The last segment alone names the ones that were merged: until it is there, none of these may go.
    for (const [i, part] of parts.entries()) await this.#write(part, i === parts.length - 1 ? merges : []);
    for (const { pieces = [] } of beaten) {
      const [first] = pieces;
      if (first === undefined || !(await this.#client.has(`data/${first}`, signal))) continue;
      for (const id of pieces.toReversed()) await this.#client.delete(`data/${id}`, signal);
    }
  }
}

/** The server's URL, with the path of the store; ends with a slash. */
function baseOf(url: StoreUrl): string {
  if (url.host === "") throw new HoldfastError("config", "a rest: URL has the form rest:http://host:port/path");
  if (url.query !== undefined) throw new HoldfastError("config", "a rest: URL takes no parameters");
  const protocol = /^rest:https:/iu.test(url.text) ? "https" : "http";
  const host = url.host.includes(":") ? `[${url.host}]` : url.host;
  return `${protocol}://${host}${url.port === undefined ? "" : `:${url.port}`}${url.path.replace(/\/+$/u, "")}/`;
}

/** The protocol: https://restic.readthedocs.io/en/stable/100_references.html#rest-backend, in its second version. */
class Client {
  /** Path of the store, encoded; ends with a slash. */
  readonly #base: string;
  readonly #authorization: string | undefined;
  readonly #http: HttpClient;
  readonly #context: StoreContext;
  readonly password: string;

  private constructor(base: string, http: HttpClient, context: StoreContext, username: string, password: string) {
    this.#base = base;
    this.#http = http;
    this.#context = context;
    this.password = password;
    this.#authorization =
      username === "" && password === ""
        ? undefined
        : `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  }

  static async open(url: StoreUrl, context: StoreContext): Promise<Client> {
    const { env } = context;
    const base = new URL(baseOf(url));
    let ca: string[] | undefined;
    if (env["RESTIC_CACERT"]) {
      try {
        ca = [await readFile(env["RESTIC_CACERT"], "utf8")];
      } catch (error) {
        throw new HoldfastError("config", `the CA file of RESTIC_CACERT cannot be read`, { cause: error });
      }
    }
    const http = new HttpClient({ origin: base.origin, tls: ca === undefined ? {} : { ca }, connections: 16, env });
    return new Client(
      base.pathname,
      http,
      context,
      url.username ?? env["RESTIC_REST_USERNAME"] ?? "",
      url.password ?? env["RESTIC_REST_PASSWORD"] ?? "",
    );
  }

  async close(): Promise<void> {
    this.#http.close();
  }

  async create(signal: AbortSignal): Promise<void> {
    await this.#ask("POST", "?create=true", signal);
  }

  /** Names of the blobs of a type. */
  async list(path: string, signal: AbortSignal): Promise<string[]> {
    const response = await this.#send("GET", path, signal);
    // A place that was never written to.
    if (response.status === 404) {
      await this.#drop(response, signal);
      return [];
    }
    await this.#refuse(response, signal);
    let parsed: unknown;
    try {
      parsed = JSON.parse(await text(response, signal));
    } catch (error) {
      if (error instanceof SyntaxError) throw new HoldfastError("corrupt", "the server's list is no JSON");
      throw error;
    }
    const list = ListSchema.safeParse(parsed);
    if (!list.success) throw new HoldfastError("corrupt", "the server's list is not what the protocol says");
    return list.data.map((one) => one.name);
  }

  async has(path: string, signal: AbortSignal): Promise<boolean> {
    const response = await this.#send("HEAD", path, signal);
    if (response.status === 404) {
      await this.#drop(response, signal);
      return false;
    }
    await this.#refuse(response, signal);
    await this.#drop(response, signal);
    return true;
  }

  /** Stores a blob under its digest, with which `path` ends. */
  async post(path: string, blob: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await this.#ask("POST", path, signal, blob);
    } catch (error) {
      if (!isHoldfastError(error, "denied")) throw error;
      // A blob that is there is refused, and it is there where the answer to an earlier request for the same was lost.
      const isThere = await this.read(path, path.slice(path.indexOf("/") + 1), blob.length, signal).catch(
        () => undefined,
      );
      if (isThere === undefined) throw error;
    }
  }

  /** Whether there was such a blob. */
  async delete(path: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#ask("DELETE", path, signal);
      return true;
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return false;
      throw error;
    }
  }

  /** A whole blob of at most `maxBytes`, checked against its name. */
  async read(path: string, id: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    for (let attempt = 0; ; attempt++) {
      const response = await this.#send("GET", path, signal);
      await this.#refuse(response, signal);
      const blob = await bytes(response, maxBytes, signal);
      if (blob && sha256(blob) === id) return blob;
      // A blob that is too long does not become right by reading it again.
      const waitMs = blob ? LOOK_AGAIN_MS[attempt] : undefined;
      if (waitMs === undefined) {
        throw new HoldfastError("corrupt", `${path} on the server is not what its name says: cut short, or damaged`);
      }
      await this.#context.runtime.sleep(waitMs, signal);
    }
  }

  async #ask(method: "POST" | "DELETE", path: string, signal: AbortSignal, blob?: Uint8Array): Promise<void> {
    const response = await this.#send(method, path, signal, blob);
    await this.#refuse(response, signal);
    await this.#drop(response, signal);
  }

  /** Rejects unless the server said that it did what was asked. */
  async #refuse(response: HttpAnswer, signal: AbortSignal): Promise<void> {
    const { status } = response;
    if (status >= 200 && status < 300) return;
    await this.#drop(response, signal);
    this.#context.logger.debug("the REST server refused a request", { status });
    const message = `the server answered with the status ${status}`;
    if (status === 413) throw new HoldfastError("full", message);
    // A blob that arrived damaged: the server computes its digest too.
    if (status === 400) throw new HoldfastError("unavailable", `${message}: it takes the bytes for damaged`);
    const why =
      status === 401
        ? ": it does not accept the user name and password"
        : status >= 300 && status < 400
          ? ": it redirects elsewhere, which is not followed"
          : "";
    throw httpError({
      status,
      message: message + why,
      retryAfter: response.headers["retry-after"]?.toString(),
      nowMs: this.#context.runtime.now(),
    });
  }

  /** Reads what an answer has to its end, so that its connection can be used again. */
  async #drop(response: HttpAnswer, signal: AbortSignal): Promise<void> {
    try {
      await drain(response);
    } catch (error) {
      throw conversationError(error, "the REST server", signal);
    }
  }

  async #send(
    method: "GET" | "HEAD" | "POST" | "DELETE",
    path: string,
    signal: AbortSignal,
    blob?: Uint8Array,
  ): Promise<HttpAnswer> {
    return this.#http.send({
      method,
      path: this.#base + path,
      signal,
      headers: {
        accept: "application/vnd.x.restic.rest.v2",
        ...(blob ? { "content-type": "application/octet-stream" } : {}),
        ...(this.#authorization === undefined ? {} : { authorization: this.#authorization }),
      },
      body: blob,
    });
  }
}

async function text(response: HttpAnswer, signal: AbortSignal): Promise<string> {
  const blob = await bytes(response, MAX_SEGMENT_BYTES, signal);
  if (!blob) throw new HoldfastError("corrupt", "the server's answer is longer than any that this store expects");
  return Buffer.from(blob).toString("utf8");
}

/** Undefined for a body of more than `maxBytes`. */
async function bytes(response: HttpAnswer, maxBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body) {
      const part = chunk as Uint8Array;
      size += part.length;
      if (size > maxBytes) return undefined;
      chunks.push(part);
    }
  } catch (error) {
    throw conversationError(error, "the REST server", signal);
  }
  return Buffer.concat(chunks);
}

async function mapLimit<T, R>(items: readonly T[], limit: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) {
      // oxlint-disable-next-line typescript/no-non-null-assertion -- i is below the length
      results[i] = await work(items[i]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
