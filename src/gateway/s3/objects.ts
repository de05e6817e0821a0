/** Objects through S3: read, written and deleted, under conditions. */
import type { OutgoingHttpHeaders } from "node:http";
import { isHoldfastError } from "../../contract/errors.ts";
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { ChangeCondition, PutOptions, PutResult } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import { sendContent } from "../content.ts";
import type { Exchange } from "../exchange.ts";
import { checkConditions, conditionsOf, parseRange, send, toHeader } from "../http-tools.ts";
import type { ConditionHeaders, ServedRange } from "../http-tools.ts";
import { etagOf, isUnknown } from "../object-facts.ts";
import { sendAttributes } from "./attributes.ts";
import type { Buckets } from "./buckets.ts";
import type { Call } from "./call.ts";
import { takeObject } from "./incoming-object.ts";
import type { IncomingObject } from "./incoming-object.ts";
import { checksumMetadata, objectHeaders, requestMetadata } from "./object-headers.ts";
import { partNumber, partRange, partsCount } from "./part-sizes.ts";
import { S3Error } from "./s3-error.ts";

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
    const part = query.has("partNumber") ? partNumber(query.get("partNumber")) : undefined;
    if (part !== undefined && request.headers.range !== undefined)
      throw new S3Error("InvalidRequest", "a part is asked for by its number or by a range, not by both");
    const info = await this.stat(call);
    const etag = `"${etagOf(info)}"`;
    const headers: OutgoingHttpHeaders = { ...objectHeaders(info, etag), ...askedHeaders(query) };
    const decision = checkConditions(conditionsOf(exchange), { etag, modifiedMs: info.modifiedMs }, true);
    if (decision === 412) throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
    if (decision === 304) {
      send(exchange, 304, { ETag: etag, "Last-Modified": headers["last-modified"] });
      return;
    }
    const range = part === undefined ? askedRange(exchange, info, headers) : partRange(info, part);
    // A range of no bytes cannot be written down.
    const isRange = range !== "whole" && range.length > 0;
    headers["content-length"] = range === "whole" ? info.size : range.length;
    if (isRange) headers["content-range"] = `bytes ${range.offset}-${range.offset + range.length - 1}/${info.size}`;
    if (part !== undefined) {
      const count = partsCount(info.metadata);
      if (count !== undefined) headers["x-amz-mp-parts-count"] = count;
    }
    const isWhole = range === "whole" || range.length === info.size;
    // A checksum of the whole does not describe a range.
    if (isWhole && request.headers["x-amz-checksum-mode"]?.toString().toUpperCase() === "ENABLED") {
      for (const [name, value] of Object.entries(info.metadata ?? {})) {
        if (name.startsWith("x-amz-checksum-")) headers[name] = value;
      }
    }
    const status = isRange ? 206 : 200;
    if (exchange.method === "HEAD" || (range !== "whole" && !isRange)) {
      exchange.response.writeHead(status, headers).end();
      return;
    }
    const { signal } = exchange;
    const result = await this.#named(call.bucket, call.key, signal, (name) =>
      this.#context.store.get(name, { signal, reuse: true, ...(isRange ? { range } : {}) }),
    );
    const isKnown = result.info.size === info.size && etagOf(result.info) === etagOf(info);
    await sendContent(exchange, { status, headers }, result, isKnown, "object");
  }

  async attributes(call: Call): Promise<void> {
    sendAttributes(call.exchange, await this.stat(call));
  }

  async put(call: Call): Promise<void> {
    const { exchange, bucket, key } = call;
    await this.#buckets.require(call).catch((error: unknown) => {
      // With a store down it may not be known. A write is owed to that store, not refused because of it.
      if (!isUnknown(error)) throw error;
    });
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

/** Headers of the answer that the address asks for. */
function askedHeaders(query: ReadonlyMap<string, string>): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [word, value] of query) {
    if (!word.startsWith("response-")) continue;
    // oxlint-disable-next-line no-control-regex -- these are what is looked for
    if (/[\u0000-\u001f\u007f]/u.test(value)) throw new S3Error("InvalidArgument", `${word} holds a control character`);
    headers[word.slice("response-".length)] = toHeader(value);
  }
  return headers;
}

/** What the headers Range and If-Range ask for. Throws InvalidRange. */
function askedRange(exchange: Exchange, info: PoolObjectInfo, headers: OutgoingHttpHeaders): ServedRange | "whole" {
  const { "if-range": ifRange, range: given } = exchange.request.headers;
  const wanted = ifRange === undefined || ifRange === headers["etag"] || ifRange === headers["last-modified"];
  const range = wanted ? parseRange(given, info.size) : "whole";
  if (range !== "unsatisfiable") return range;
  exchange.response.setHeader("Content-Range", `bytes */${info.size}`);
  throw new S3Error("InvalidRange", "the range lies behind the end of the object");
}

/** What a request's conditions ask of the object that it changes; undefined where it has none. */
export function changeCondition(exchange: Exchange): ChangeCondition | undefined {
  const { ifMatch, ifNoneMatch } = conditionsOf(exchange);
  return ifMatch === undefined && ifNoneMatch === undefined ? undefined : holding({ ifMatch, ifNoneMatch });
}

export function holding(conditions: ConditionHeaders): ChangeCondition {
  return (current) => {
    if (conditions.ifMatch !== undefined && current === undefined)
      throw new S3Error("NoSuchKey", "the key does not exist");
    const target = current && { etag: `"${etagOf(current)}"`, modifiedMs: current.modifiedMs };
    if (checkConditions(conditions, target, false) !== "go") {
      throw new S3Error("PreconditionFailed", "a condition of the request does not hold");
    }
  };
}
