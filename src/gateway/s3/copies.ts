/** Objects copied within the pool, whole or as parts of uploads. */
import { createHash } from "node:crypto";
import { toBody } from "../../contract/body.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { Body, ChangeCondition, ObjectMetadata } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { ClientError, checkConditions, conditionsOf, fromHeader, parseRange, percentDecode } from "../http-tools.ts";
import { etagOf, isSameVersion, isUnknown } from "../object-facts.ts";
import { spooled } from "../spooled.ts";
import { isoDate, withKeepAlive } from "./answers.ts";
import type { Buckets } from "./buckets.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { askedAlgorithm, createChecksum } from "./checksums.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { checksumTags, keptWithContent, requestMetadata } from "./object-headers.ts";
import { changeCondition } from "./objects.ts";
import type { Objects } from "./objects.ts";
import { S3Error } from "./s3-error.ts";
import type { PartFacts, Upload, Uploads } from "./uploads.ts";
import { tag } from "./xml.ts";

export class Copies {
  readonly #context: GatewayContext;
  readonly #buckets: Buckets;
  readonly #objects: Objects;
  readonly #uploads: Uploads;

  constructor(context: GatewayContext, buckets: Buckets, objects: Objects, uploads: Uploads) {
    this.#context = context;
    this.#buckets = buckets;
    this.#objects = objects;
    this.#uploads = uploads;
  }

  async copy(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    const onlyIf = changeCondition(exchange);
    await takeWhole(call);
    await this.#buckets.require(call);
    const source = copySource(exchange);
    const info = await this.#sourceInfo(call, source);
    const from = this.#buckets.nameOf(source.bucket, source.key);
    const to = this.#buckets.nameOf(bucket, key);
    const replace = replacesMetadata(exchange);
    if (from === to && !replace) {
      throw new S3Error("InvalidRequest", "an object is copied onto itself only to replace its metadata");
    }
    const metadata = copiedMetadata(exchange, info, replace);
    const algorithm = askedAlgorithm(exchange);
    const result = await this.#context.store.get(from, { signal: exchange.signal });
    await withKeepAlive(exchange, "CopyObjectResult", async () => {
      const put = async (body: Body): Promise<ObjectMetadata> => {
        const known = metadata["md5"] ?? metadata["etag"];
        const digests = new Digests(known === undefined, algorithm);
        let stored: ObjectMetadata = {};
        const done = await this.#context.store.put(to, digests.of(body), {
          signal: exchange.signal,
          metadata: () => (stored = { ...metadata, ...digests.metadata() }),
          onlyIf: from === to ? unchanged(info, onlyIf) : onlyIf,
        });
        noteWrite(this.#context, exchange, to, done);
        return stored;
      };
      let stored: ObjectMetadata;
      try {
        if (!isSameVersion(result.info, info)) throw replaced();
        const body = toBody(result.body, { size: result.info.size });
        // An object must not be read while it is being replaced.
        stored = await (from === to ? spooled(body, exchange.signal, put) : put(body));
      } finally {
        await result.close();
      }
      const etag = stored["md5"] ?? stored["etag"] ?? "";
      return (
        tag("LastModified", isoDate(await this.#modifiedMs(call))) + tag("ETag", `"${etag}"`) + checksumTags(stored)
      );
    });
  }

  /** When the object of a call was written, as listings will say; the copy is done even where that cannot be asked now. */
  async #modifiedMs(call: Call): Promise<number> {
    try {
      return (await this.#objects.stat(call)).modifiedMs ?? 0;
    } catch (error) {
      if (isUnknown(error)) return this.#context.runtime.now();
      throw error;
    }
  }

  async copyPart(call: Call, upload: Upload, number: number): Promise<void> {
    const { exchange } = call;
    await takeWhole(call);
    const source = copySource(exchange);
    const info = await this.#sourceInfo(call, source);
    const header = exchange.request.headers["x-amz-copy-source-range"]?.toString();
    const range = parseRange(header, info.size);
    if (range === "unsatisfiable" || (header !== undefined && range === "whole")) {
      throw new S3Error("InvalidArgument", "x-amz-copy-source-range is not a range of the source");
    }
    const match = header === undefined ? undefined : /^bytes=\d+-(\d+)$/u.exec(header);
    if (header !== undefined && (!match || Number(match[1]) >= info.size)) {
      throw new S3Error("InvalidArgument", "x-amz-copy-source-range is not a range of the source");
    }
    const name = this.#buckets.nameOf(source.bucket, source.key);
    const result = await this.#context.store.get(name, {
      signal: exchange.signal,
      ...(range === "whole" ? {} : { range }),
    });
    await withKeepAlive(exchange, "CopyPartResult", async () => {
      try {
        if (etagOf(result.info) !== etagOf(info)) throw replaced();
        const md5 = createHash("md5");
        const sum = upload.algorithm ? createChecksum(upload.algorithm) : undefined;
        const hashed = async function* (): AsyncGenerator<Uint8Array> {
          for await (const chunk of result.body) {
            md5.update(chunk);
            sum?.update(chunk);
            yield chunk;
          }
        };
        const size = range === "whole" ? result.info.size : range.length;
        const facts = (): Pick<PartFacts, "md5" | "checksums"> => ({
          md5: md5.digest("hex"),
          checksums: sum && upload.algorithm ? { [upload.algorithm]: sum.digest().toString("base64") } : {},
        });
        const part = await this.#uploads.putPart(upload, number, toBody(hashed(), { size }), facts, exchange.signal);
        return tag("LastModified", isoDate(part.modifiedMs)) + tag("ETag", `"${part.md5}"`);
      } finally {
        await result.close();
      }
    });
  }

  async #sourceInfo(call: Call, source: { bucket: string; key: string }): Promise<PoolObjectInfo> {
    this.#buckets.checkKey(source.bucket, source.key);
    const info = await this.#objects.stat(call, source.bucket, source.key);
    const conditions = conditionsOf(call.exchange, "x-amz-copy-source-");
    const target = { etag: `"${etagOf(info)}"`, modifiedMs: info.modifiedMs };
    if (checkConditions(conditions, target, true) !== "go") {
      throw new S3Error("PreconditionFailed", "a condition on the source does not hold");
    }
    return info;
  }
}

/** An object copied onto itself is what it was, with other metadata: what was put meanwhile must not be undone by it. */
function unchanged(copied: PoolObjectInfo, onlyIf: ChangeCondition | undefined): ChangeCondition {
  return (current) => {
    onlyIf?.(current);
    if (!isSameVersion(current, copied)) throw replaced();
  };
}

function replaced(): ClientError {
  return new ClientError("unavailable", "the source was replaced while it was being copied; try again");
}

/** What a copy is kept with: the source's metadata or the request's, and in both cases what tells of the content. */
function copiedMetadata(exchange: Exchange, info: PoolObjectInfo, replace: boolean): Record<string, string> {
  const kept = Object.entries(info.metadata ?? {}).filter(([name]) => !replace || keptWithContent(name));
  // One checksum is kept: the one that the client asks for, where it asks for one.
  const other =
    askedAlgorithm(exchange) === undefined ? [] : kept.filter(([name]) => name.startsWith("x-amz-checksum-"));
  const metadata = Object.fromEntries(kept.filter((entry) => !other.includes(entry)));
  return replace ? { ...metadata, ...requestMetadata(exchange) } : metadata;
}

/** Digests of a body, taken as it goes by. */
class Digests {
  readonly #withMd5: boolean;
  readonly #algorithm: ChecksumAlgorithm | undefined;
  #found: () => ObjectMetadata = () => ({});

  constructor(withMd5: boolean, algorithm: ChecksumAlgorithm | undefined) {
    this.#withMd5 = withMd5;
    this.#algorithm = algorithm;
  }

  /** The same body; each time that it is read the digests are taken anew. */
  of(body: Body): Body {
    if (!this.#withMd5 && this.#algorithm === undefined) return body;
    // Without the path of a file, which a store could copy without reading it here.
    return { size: body.size, reopenable: body.reopenable, open: () => this.#read(body.open()) };
  }

  /** What was found when the body was last read to its end. */
  metadata(): ObjectMetadata {
    return this.#found();
  }

  async *#read(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const md5 = this.#withMd5 ? createHash("md5") : undefined;
    const sum = this.#algorithm === undefined ? undefined : createChecksum(this.#algorithm);
    for await (const chunk of chunks) {
      md5?.update(chunk);
      sum?.update(chunk);
      yield chunk;
    }
    const found = {
      ...(md5 === undefined ? {} : { md5: md5.digest("hex") }),
      ...(sum === undefined ? {} : { [`x-amz-checksum-${this.#algorithm}`]: sum.digest().toString("base64") }),
    };
    this.#found = () => found;
  }
}

function replacesMetadata(exchange: Exchange): boolean {
  const directive = exchange.request.headers["x-amz-metadata-directive"]?.toString().toUpperCase() ?? "COPY";
  if (directive !== "COPY" && directive !== "REPLACE") {
    throw new S3Error("InvalidArgument", "x-amz-metadata-directive must be COPY or REPLACE");
  }
  return directive === "REPLACE";
}

/** Clients should encode the source's path; some do not, or not all of it. What is no encoding stands for itself. */
function decodedSource(rawPath: string): string {
  return fromHeader(rawPath).text.replace(/(?:%[0-9a-f]{2})+/giu, (encoded) => {
    try {
      return percentDecode(encoded);
    } catch {
      return encoded;
    }
  });
}

function copySource(exchange: Exchange): { bucket: string; key: string } {
  const header = exchange.request.headers["x-amz-copy-source"]?.toString() ?? "";
  const [rawPath = "", rawQuery = ""] = header.split("?", 2);
  const text = decodedSource(rawPath).replace(/^\//u, "");
  const slash = text.indexOf("/");
  const version = /^versionId=([^&]*)$/u.exec(rawQuery)?.[1];
  if (slash < 1 || slash === text.length - 1 || (rawQuery !== "" && version === undefined)) {
    throw new S3Error("InvalidArgument", "x-amz-copy-source must be BUCKET/KEY, with versionId at most");
  }
  if (version !== undefined && version !== "null") throw new S3Error("NoSuchVersion", "objects have one version, null");
  return { bucket: text.slice(0, slash), key: text.slice(slash + 1) };
}
