/** Buckets of the S3 gateway: first parts of names, or the one bucket that is the whole pool. */
import { Buffer } from "node:buffer";
import { MAX_NAME_BYTES, compareNames, isReserved } from "../../contract/names.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import { percentEncode } from "../../support/signature-v4.ts";
import { send } from "../http-tools.ts";
import { FOLDER_MARKER, checkClientName } from "../object-facts.ts";
import { putIfAbsent } from "../put-if-absent.ts";
import { takeAcl } from "./acls.ts";
import { OWNER, isoDate, sendXml } from "./answers.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { decodeToken, encodeToken } from "./paging.ts";
import { S3Error } from "./s3-error.ts";
import type { Uploads } from "./uploads.ts";
import { parseXml, tag } from "./xml.ts";

/** An existing bucket is believed to be there for this long, in milliseconds. */
const BUCKET_KNOWN_MS = 10_000;
/** S3's limit. */
const MAX_KEY_BYTES = 1024;

export class Buckets {
  /** The one bucket that is the whole pool; undefined where buckets are first parts of names. */
  readonly fixed: string | undefined;
  readonly #context: GatewayContext;
  readonly #uploads: Uploads;
  /** Bucket → until when it is believed to be there. */
  readonly #known = new Map<string, number>();

  constructor(context: GatewayContext, uploads: Uploads, fixed: string | undefined) {
    this.#context = context;
    this.#uploads = uploads;
    this.fixed = fixed;
  }

  /** Beginning of the names of a bucket's objects. */
  prefixOf(bucket: string): string {
    return this.fixed === undefined ? `${bucket}/` : "";
  }

  /** Name of the object that stands for a key. */
  nameOf(bucket: string, key: string): string {
    return this.prefixOf(bucket) + (key.endsWith("/") ? key + FOLDER_MARKER : key);
  }

  /** Throws for keys that no object can have. */
  checkKey(bucket: string, key: string): void {
    if (Buffer.byteLength(key) > MAX_KEY_BYTES) throw new S3Error("KeyTooLongError", "a key has at most 1,024 bytes");
    if (Buffer.byteLength(this.nameOf(bucket, key)) > MAX_NAME_BYTES)
      throw new S3Error("KeyTooLongError", "bucket and key have at most 1,023 bytes together");
    checkClientName(this.prefixOf(bucket) + key);
  }

  /** Throws NoSuchBucket where the bucket of a call is not there. */
  async require(call: Call): Promise<void> {
    if (!(await this.exists(call.bucket, call.exchange.signal))) {
      if (this.fixed === undefined) checkBucketName(call.bucket);
      throw new S3Error("NoSuchBucket", `there is no bucket ${call.bucket}`);
    }
  }

  /** Whether a bucket is there; rejects when that cannot be known. */
  async exists(bucket: string, signal: AbortSignal): Promise<boolean> {
    if (this.fixed !== undefined) return bucket === this.fixed;
    if (isReserved(bucket) || bucket.includes("/")) return false;
    const now = this.#context.runtime.monotonicMs();
    if ((this.#known.get(bucket) ?? 0) > now) return true;
    for await (const _ of this.#context.store.list(`${bucket}/`, { signal })) {
      if (this.#known.size > 1000) this.#known.clear();
      this.#known.set(bucket, now + BUCKET_KNOWN_MS);
      return true;
    }
    return false;
  }

  async list(call: Call): Promise<void> {
    const { exchange, query } = call;
    const { signal } = exchange;
    const prefix = query.get("prefix") ?? "";
    const token = query.get("continuation-token");
    const after = token === undefined ? "" : decodeToken(token);
    const max = maxBuckets(query.get("max-buckets"));
    const buckets = new Map<string, number>();
    if (this.fixed === undefined) {
      for (const info of await this.#context.listings.entries("", false, { signal })) {
        const slash = info.name.indexOf("/");
        const bucket = info.name.slice(0, slash);
        if (slash < 1 || isReserved(info.name)) continue;
        const madeMs = info.modifiedMs ?? 0;
        buckets.set(bucket, Math.min(buckets.get(bucket) ?? madeMs, madeMs));
      }
    } else buckets.set(this.fixed, 0);
    const found = [...buckets]
      .filter(([name]) => name.startsWith(prefix) && (after === "" || compareNames(name, after) > 0))
      .sort((a, b) => compareNames(a[0], b[0]));
    const page = found.slice(0, max);
    const last = page.at(-1)?.[0];
    const more = found.length > page.length && last !== undefined ? tag("ContinuationToken", encodeToken(last)) : "";
    const list = page
      .map(([name, madeMs]) => `<Bucket>${tag("Name", name)}${tag("CreationDate", isoDate(madeMs))}</Bucket>`)
      .join("");
    sendXml(
      exchange,
      "ListAllMyBucketsResult",
      `<Owner>${OWNER}</Owner><Buckets>${list}</Buckets>${tag("Prefix", query.get("prefix"))}${more}`,
    );
  }

  async create(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    const body = await takeWhole(call);
    const configuration = body.length > 0 ? await parseXml(body, "CreateBucketConfiguration") : undefined;
    for (const name of ["Location", "Bucket", "Tags"]) {
      if (configuration && configuration.all(name).length > 0)
        throw new S3Error("NotImplemented", `a bucket is made without ${name}`);
    }
    const region = configuration?.text("LocationConstraint");
    if (this.fixed !== undefined) {
      if (bucket !== this.fixed) throw new S3Error("AccessDenied", `this gateway has the one bucket ${this.fixed}`);
    } else {
      checkBucketName(bucket);
      const name = `${bucket}/${FOLDER_MARKER}`;
      await this.#context.locks.run(name, async () => {
        if (await this.exists(bucket, exchange.signal)) {
          // S3 does so too: making one's own bucket again succeeds in its oldest region only.
          if (region === undefined || region === "" || region === "us-east-1") return;
          throw new S3Error("BucketAlreadyOwnedByYou", `the bucket ${bucket} is there already`);
        }
        // A folder that was made meanwhile by another protocol is the bucket as well.
        const made = await putIfAbsent(this.#context.store, name, { signal: exchange.signal });
        if (made) noteWrite(this.#context, exchange, name, made);
      });
    }
    send(exchange, 200, { Location: `/${percentEncode(bucket)}` });
  }

  async delete(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    await this.require(call);
    if (this.fixed !== undefined) throw new S3Error("AccessDenied", "the bucket is the pool itself");
    const marker = `${bucket}/${FOLDER_MARKER}`;
    const uploads = await this.#context.locks.run(marker, async () => {
      // Those that a new bucket of this name will have are not this one's.
      const begun = await this.#uploads.list(bucket);
      for (const info of await this.#context.listings.entries(`${bucket}/`, false, { signal: exchange.signal })) {
        if (info.name !== marker) throw new S3Error("BucketNotEmpty", `the bucket ${bucket} is not empty`);
      }
      this.#known.delete(bucket);
      noteWrite(this.#context, exchange, marker, await this.#context.store.delete(marker, { signal: exchange.signal }));
      return begun;
    });
    for (const upload of uploads) await this.#uploads.abort(upload);
    send(exchange, 204);
  }

  async putAcl(call: Call): Promise<void> {
    await this.require(call);
    await takeAcl(call);
    send(call.exchange, 200);
  }
}

/** How many buckets a page has at most; all of them where the client does not say. */
function maxBuckets(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (!/^\d{1,5}$/u.test(text) || Number(text) < 1 || Number(text) > 10_000)
    throw new S3Error("InvalidArgument", "max-buckets is from 1 to 10,000");
  return Number(text);
}

/** Throws InvalidBucketName for names that no bucket is made with. Folders of a pool may have others. */
function checkBucketName(bucket: string): void {
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/u.test(bucket) || /\.\.|^\d+\.\d+\.\d+\.\d+$/u.test(bucket)) {
    throw new S3Error("InvalidBucketName", "a bucket's name has 3 to 63 lower-case letters, digits, dots and dashes");
  }
}
