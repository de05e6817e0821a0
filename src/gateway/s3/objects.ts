/** Objects through S3: read, written and deleted, under conditions. */
import type { OutgoingHttpHeaders } from "node:http";
import { HoldfastError, isHoldfastError } from "../../errors.ts";
import type { PoolObjectInfo } from "../../pool.ts";
import type { ChangeCondition, PutOptions, PutResult } from "../../store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../http-server.ts";
import { checkConditions, conditionsOf, parseRange, send, sendStream } from "../http-tools.ts";
import type { ConditionHeaders } from "../http-tools.ts";
import { checkClientName, etagOf, isUnknown } from "../object-facts.ts";
import { errorTags, sendXml } from "./answers.ts";
import type { Buckets } from "./buckets.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { takeObject } from "./incoming-object.ts";
import type { IncomingObject } from "./incoming-object.ts";
import { checkAcl, checksumMetadata, objectHeaders, requestMetadata } from "./object-headers.ts";
import { S3Error, toS3Error } from "./s3-error.ts";
import { parseXml, tag } from "./xml.ts";

/** Largest body of one PUT: S3's own limit, 5 GiB. */
export const MAX_PUT_BYTES = 5 * 1024 ** 3;

export class Objects {
  readonly #context: GatewayContext;
  readonly #buckets: Buckets;

  constructor(context: GatewayContext, buckets: Buckets) {
    this.#context = context;
    this.#buckets = buckets;
  }

  async stat(call: Call, bucket = call.bucket, key = call.key): Promise<PoolObjectInfo> {
    return this.#named(bucket, key, call.exchange.signal, (name) =>
      this.#context.store.stat(name, { signal: call.exchange.signal }),
    );
  }

  async get(call: Call): Promise<void> {
    const { exchange, query } = call;
    const { request } = exchange;
    const info = await this.stat(call);
    const etag = `"${etagOf(info)}"`;
    const headers: OutgoingHttpHeaders = objectHeaders(info, etag);
    if (request.headers["x-amz-checksum-mode"]?.toString().toUpperCase() === "ENABLED") {
      for (const [name, value] of Object.entries(info.metadata ?? {})) {
        if (name.startsWith("x-amz-checksum-")) headers[name] = value;
      }
    }
    for (const [name, value] of query) {
      const header =
        /^response-(content-type|content-language|expires|cache-control|content-disposition|content-encoding)$/u.exec(
          name,
        )?.[1];
      if (header !== undefined && !/[\r\n\0]/u.test(value)) headers[header] = value;
    }
    const decision = checkConditions(conditionsOf(exchange), { etag, modifiedMs: info.modifiedMs }, true);
    if (decision === 412) throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
    if (decision === 304) {
      send(exchange, 304, { ETag: etag, "Last-Modified": headers["last-modified"] });
      return;
    }
    const ifRange = request.headers["if-range"];
    const wanted = ifRange === undefined || ifRange === etag || ifRange === headers["last-modified"];
    const range = wanted ? parseRange(request.headers.range, info.size) : "whole";
    if (range === "unsatisfiable") {
      exchange.response.setHeader("Content-Range", `bytes */${info.size}`);
      throw new S3Error("InvalidRange", "the range lies behind the end of the object");
    }
    const status = range === "whole" ? 200 : 206;
    if (range === "whole") headers["content-length"] = info.size;
    else {
      headers["content-length"] = range.length;
      headers["content-range"] = `bytes ${range.offset}-${range.offset + range.length - 1}/${info.size}`;
      // A checksum of the whole does not describe a range.
      for (const name of Object.keys(headers)) if (name.startsWith("x-amz-checksum-")) delete headers[name];
    }
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(status, headers).end();
      return;
    }
    const result = await this.#named(call.bucket, call.key, exchange.signal, (name) =>
      this.#context.store.get(name, { signal: exchange.signal, ...(range === "whole" ? {} : { range }) }),
    );
    try {
      // Headers of one version must not stand before the bytes of another.
      if (result.info.size !== info.size || etagOf(result.info) !== etagOf(info)) {
        throw new HoldfastError("unavailable", "the object was replaced while it was being read; try again");
      }
      await sendStream(exchange, status, headers, result.body);
    } finally {
      await result.close();
    }
  }

  async put(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await this.#buckets.require(call).catch((error: unknown) => {
      // With a store down it may not be known. A write is owed to that store, not refused because of it.
      if (!isUnknown(error)) throw error;
    });
    checkAcl(exchange);
    const onlyIf = changeCondition(exchange);
    const metadata = requestMetadata(exchange);
    const name = this.#buckets.nameOf(bucket, key);
    const incoming = await takeObject(exchange, call.auth.payload, MAX_PUT_BYTES);
    const result = await this.#store(exchange, name, incoming, {
      onlyIf,
      metadata: () => ({ ...metadata, md5: incoming.md5(), ...checksumMetadata(incoming) }),
    });
    const headers: OutgoingHttpHeaders = { ETag: `"${incoming.md5()}"`, ...checksumMetadata(incoming) };
    exchange.fields["bytes"] = result.size;
    send(exchange, 200, headers);
  }

  async delete(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    const onlyIf = changeCondition(exchange);
    await this.#buckets.require(call);
    const name = this.#buckets.nameOf(bucket, key);
    const result = await this.#context.store.delete(name, { signal: exchange.signal, onlyIf });
    noteWrite(this.#context, exchange, name, result);
    send(exchange, 204);
  }

  async deleteMany(call: Call): Promise<void> {
    const { exchange, bucket } = call;
    const text = await takeWhole(call);
    await this.#buckets.require(call);
    const document = await parseXml(text, "Delete");
    const objects = document.all("Object");
    const quiet = document.text("Quiet") === "true";
    if (objects.length === 0 || objects.length > 1000) {
      throw new S3Error("MalformedXML", "from 1 to 1,000 objects are deleted at a time");
    }
    const keys = objects.map((object) => {
      const key = object.text("Key");
      const version = object.text("VersionId");
      if (key === undefined) throw new S3Error("MalformedXML", "an object without a key");
      if (key === "") throw new S3Error("UserKeyMustBeSpecified", "a key of no characters");
      for (const condition of ["LastModifiedTime", "Size"]) {
        if (object.text(condition) !== undefined)
          throw new S3Error("NotImplemented", `a delete takes no ${condition}; it takes an ETag`);
      }
      return { key, version, ifMatch: object.text("ETag") };
    });
    const results: string[] = keys.map(() => "");
    const one = async (index: number): Promise<void> => {
      const { key, version, ifMatch } = keys[index] ?? { key: "" };
      try {
        if (version !== undefined && version !== "null")
          throw new S3Error("NoSuchVersion", "objects have one version, null");
        checkClientName(this.#buckets.prefixOf(bucket) + key);
        const name = this.#buckets.nameOf(bucket, key);
        const onlyIf = ifMatch === undefined ? undefined : holding({ ifMatch });
        const result = await this.#context.store.delete(name, { signal: exchange.signal, onlyIf });
        noteWrite(this.#context, exchange, name, result);
        const versionTag = tag("VersionId", version);
        results[index] = quiet ? "" : `<Deleted>${tag("Key", key)}${versionTag}</Deleted>`;
      } catch (error) {
        results[index] = `<Error>${tag("Key", key)}${errorTags(toS3Error(error))}</Error>`;
      }
    };
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < keys.length) await one(next++);
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    sendXml(exchange, "DeleteResult", results.join(""));
  }

  /** Puts what a client sends; where its body is at fault, that is the error. */
  async #store(
    exchange: Exchange,
    name: string,
    incoming: IncomingObject,
    options: Pick<PutOptions, "metadata" | "onlyIf">,
  ): Promise<PutResult> {
    try {
      const { store, intake } = this.#context;
      const result = await intake.put(incoming.body, exchange.signal, (body, signal) =>
        store.put(name, body, { signal, ...options }),
      );
      noteWrite(this.#context, exchange, name, result);
      return result;
    } catch (error) {
      const problem = incoming.problem();
      throw problem === undefined ? error : problem;
    }
  }

  /** Tells a missing bucket from a missing key. */
  async #named<T>(bucket: string, key: string, signal: AbortSignal, work: (name: string) => Promise<T>): Promise<T> {
    try {
      if (this.#buckets.fixed !== undefined && bucket !== this.#buckets.fixed)
        throw new S3Error("NoSuchBucket", `there is no bucket ${bucket}`);
      return await work(this.#buckets.nameOf(bucket, key));
    } catch (error) {
      if (!isHoldfastError(error, "not-found") || error instanceof S3Error) throw error;
      if (!(await this.#buckets.exists(bucket, signal)))
        throw new S3Error("NoSuchBucket", `there is no bucket ${bucket}`, error);
      throw new S3Error("NoSuchKey", "the key does not exist", error);
    }
  }
}

/** What a request's conditions ask of the object that it changes; undefined where it has none. */
export function changeCondition(exchange: Exchange): ChangeCondition | undefined {
  for (const name of Object.keys(exchange.request.headers)) {
    if (/^if-(?:un)?modified-since$|^x-amz-if-match-/u.test(name))
      throw new S3Error("NotImplemented", `a change takes no ${name}`);
  }
  const { ifMatch, ifNoneMatch } = conditionsOf(exchange);
  return ifMatch === undefined && ifNoneMatch === undefined ? undefined : holding({ ifMatch, ifNoneMatch });
}

function holding(conditions: ConditionHeaders): ChangeCondition {
  return (current) => {
    if (conditions.ifMatch !== undefined && current === undefined)
      throw new S3Error("NoSuchKey", "the key does not exist");
    const target = current && { etag: `"${etagOf(current)}"`, modifiedMs: current.modifiedMs };
    if (checkConditions(conditions, target, false) !== "go") {
      throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
    }
  };
}
