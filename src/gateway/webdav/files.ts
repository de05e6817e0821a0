/** GET, HEAD and PUT: files, and the page that a folder is to a browser. */
import type { OutgoingHttpHeaders } from "node:http";
import { onceBody, toBody } from "../../contract/body.ts";
import type { Body, ChangeCondition, ObjectInfo } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import { rangeHeaders, sendContent } from "../content.ts";
import type { Exchange } from "../exchange.ts";
import {
  checkConditions,
  conditionsOf,
  contentLength,
  hasBody,
  incomingBytes,
  fromHeader,
  parseRange,
  send,
  toHeader,
} from "../http-tools.ts";
import { escapeXml } from "../../support/xml.ts";
import { checkClientName, etagOf, isUnknown } from "../object-facts.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import type { LockRequests } from "./lock-requests.ts";
import { changeCondition } from "./preconditions.ts";
import { deadMetadata } from "./properties.ts";
import { hrefOf, modifiedOf } from "./resources.ts";
import type { Resources } from "./resources.ts";

/** A PUT of more than this is checked before its body comes, and once more when it is done. */
const EARLY_BYTES = 1024 * 1024;

export class Files {
  readonly #context: GatewayContext;
  readonly #resources: Resources;
  readonly #locks: LockRequests;

  constructor(context: GatewayContext, resources: Resources, locks: LockRequests) {
    this.#context = context;
    this.#resources = resources;
    this.#locks = locks;
  }

  async get(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { request } = exchange;
    const found = await this.#resources.require(path, exchange.signal);
    if (found.kind === "folder") return this.#index(exchange, path);
    const { info } = found;
    const etag = `"${etagOf(info)}"`;
    const modifiedMs = modifiedOf(info);
    const headers: OutgoingHttpHeaders = {
      "Content-Type": toHeader(info.metadata?.["content-type"] ?? "application/octet-stream"),
      "Last-Modified": new Date(modifiedMs).toUTCString(),
      ETag: etag,
      "Accept-Ranges": "bytes",
      // A page that somebody stored must not run as the gateway's own.
      "Content-Security-Policy": "sandbox",
      "X-Content-Type-Options": "nosniff",
    };
    const decision = checkConditions(conditionsOf(exchange), { etag, modifiedMs }, true);
    if (decision !== "go") {
      send(exchange, decision, { ETag: etag });
      return;
    }
    const ifRange = request.headers["if-range"];
    const wanted = ifRange === undefined || ifRange === etag || ifRange === headers["Last-Modified"];
    const range = wanted && exchange.method === "GET" ? parseRange(request.headers.range, info.size) : "whole";
    if (range === "unsatisfiable") {
      send(exchange, 416, { "Content-Range": `bytes */${info.size}` });
      return;
    }
    const whole = range === "whole";
    Object.assign(headers, rangeHeaders(range, info.size));
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(200, headers).end();
      return;
    }
    const { signal } = exchange;
    const result = await this.#context.store.get(path, { signal, reuse: true, ...(whole ? {} : { range }) });
    const isKnown = etagOf(result.info) === etagOf(info);
    await sendContent(exchange, { status: whole ? 200 : 206, headers }, result, isKnown);
  }

  async put(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal, request } = exchange;
    if (path === "") throw new DavStatus(405, "the root is a folder");
    checkClientName(path);
    if (exchange.rawPath.endsWith("/")) throw new DavStatus(409, "a file's address has no slash at its end");
    if (request.headers["content-range"] !== undefined) throw new DavStatus(400, "a file is put whole, not in ranges");
    const size = contentLength(exchange) ?? (hasBody(exchange) ? undefined : 0);
    // A request that is going to be refused is refused before much of its body comes.
    if (request.headers.expect !== undefined || size === undefined || size > EARLY_BYTES) await this.#admit(call);
    const metadata = headerMetadata(exchange);
    const body = size === 0 ? toBody("") : onceBody(() => incomingBytes(exchange), size, true);
    const put = async (body: Body, within: AbortSignal): Promise<void> => {
      const { found, condition } = await this.#admit(call);
      let former = found;
      const onlyIf: ChangeCondition | undefined =
        condition &&
        ((current) => {
          condition(current);
          former = current;
        });
      const result = await this.#context.store.put(path, body, {
        signal: within,
        metadata: () => ({ ...deadMetadata(former?.metadata), ...metadata }),
        onlyIf,
      });
      noteWrite(this.#context, exchange, path, result);
      exchange.fields["bytes"] = result.size;
      const stored = await this.#resources.stat(path, signal);
      send(exchange, former ? 204 : 201, stored ? { ETag: `"${etagOf(stored)}"` } : {});
    };
    const { intake, locks } = this.#context;
    await intake.put(body, signal, (body, within) => locks.run(path, () => put(body, within)));
  }

  /** What a PUT finds at its address, and what it asks of it. Throws where it may not be done. */
  async #admit(call: Call): Promise<{ found: ObjectInfo | undefined; condition: ChangeCondition | undefined }> {
    const { exchange, path } = call;
    const { signal, request } = exchange;
    const ifHeader = await this.#locks.checkIf(call);
    const condition = changeCondition(call, ifHeader);
    const conditional = ["if", "if-match", "if-none-match", "if-unmodified-since"].some(
      (name) => name in request.headers,
    );
    const found = await this.#resources.find(path, signal).catch((error: unknown) => {
      // With a store down it may not be known what is there. A write is owed to that store, not refused because of it.
      if (conditional || !isUnknown(error)) throw error;
      return undefined;
    });
    if (found?.kind === "folder") throw new DavStatus(405, "there is a folder at this address");
    this.#locks.checkLocks(call, path, { member: !found });
    condition?.(found?.info);
    if (!found) await this.#resources.requireParent(path, signal);
    return { found: found?.info, condition };
  }

  /** A page for people who look at a folder in a browser. */
  async #index(exchange: Exchange, path: string): Promise<void> {
    const lines = (await this.#resources.children(path, exchange.signal)).map((child) => {
      const name = child.path.slice(child.path.lastIndexOf("/") + 1) + (child.kind === "folder" ? "/" : "");
      return `<li><a href="${escapeXml(hrefOf(child))}">${escapeXml(name)}</a></li>`;
    });
    const title = escapeXml(`/${path}`);
    const page = `<!DOCTYPE html><meta charset="utf-8"><title>${title}</title><h1>${title}</h1><ul>${lines.join("")}</ul>\n`;
    send(
      exchange,
      200,
      { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'" },
      page,
    );
  }
}

/** What the headers of a PUT give the file. */
function headerMetadata({ request, response }: Exchange): Record<string, string> {
  const metadata: Record<string, string> = {};
  const type = request.headers["content-type"];
  if (type !== undefined) metadata["content-type"] = fromHeader(type).text;
  const mtime = /^-?\d{1,12}(\.\d+)?$/u.exec(request.headers["x-oc-mtime"]?.toString() ?? "");
  if (mtime) {
    metadata["mtime"] = Number(mtime[0]).toFixed(3);
    response.setHeader("X-OC-Mtime", "accepted");
  }
  return metadata;
}
