/**
 * WebDAV, class 1 and 2 (RFC 4918), in front of a pool: who asks, and what for.
 *
 * A path is an object's name. A folder is there while an object is below it, or as an object of its own where it must
 * outlive its content (see object-facts.ts). Properties that clients set are kept in the object's metadata.
 */
import type { OutgoingHttpHeaders } from "node:http";
import { toHoldfastError } from "../../contract/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import type { Exchange, Gateway } from "../exchange.ts";
import { basicUser, clientMessage, send, statusOf } from "../http-tools.ts";
import { escapeXml } from "../../support/xml.ts";
import { toPath } from "./call.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import { Files } from "./files.ts";
import { LockRequests } from "./lock-requests.ts";
import { Properties } from "./properties.ts";
import { Resources } from "./resources.ts";
import { TreeChanges } from "./tree-changes.ts";
import { PROLOG, element } from "./xml.ts";

const ALLOW = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, LOCK, UNLOCK";

export function createWebdavGateway(context: GatewayContext): Gateway {
  return new WebdavGateway(context);
}

class WebdavGateway implements Gateway {
  readonly protocol = "webdav";
  readonly #context: GatewayContext;
  readonly #locks: LockRequests;
  readonly #properties: Properties;
  readonly #files: Files;
  readonly #tree: TreeChanges;

  constructor(context: GatewayContext) {
    const resources = new Resources(context);
    this.#context = context;
    this.#locks = new LockRequests(context, resources);
    this.#properties = new Properties(context, resources, this.#locks);
    this.#files = new Files(context, resources, this.#locks);
    this.#tree = new TreeChanges(context, resources, this.#locks);
  }

  async handle(exchange: Exchange): Promise<void> {
    const { method, request } = exchange;
    let user = "";
    if (this.#context.credentials.length > 0) {
      const credential = basicUser(request.headers.authorization, this.#context.credentials);
      if (!credential) {
        send(exchange, 401, { "WWW-Authenticate": 'Basic realm="holdfast", charset="UTF-8"' });
        return;
      }
      user = credential.user;
      exchange.fields["user"] = user;
      if (credential.readOnly && !["GET", "HEAD", "OPTIONS", "PROPFIND"].includes(method)) {
        throw new DavStatus(403, "this user may only read");
      }
    }
    if (method === "OPTIONS") {
      send(exchange, 200, { Allow: ALLOW, DAV: "1, 2", "MS-Author-Via": "DAV", "Accept-Ranges": "bytes" });
      return;
    }
    const path = toPath(exchange.rawPath);
    const call: Call = { exchange, path, user, tokens: new Set() };
    switch (method) {
      case "GET":
      case "HEAD":
        return this.#files.get(call);
      case "PROPFIND":
        return this.#properties.propfind(call);
      case "PUT":
        return this.#files.put(call);
      case "DELETE":
        return this.#tree.delete(call);
      case "MKCOL":
        return this.#tree.mkcol(call);
      case "COPY":
      case "MOVE":
        return this.#tree.copy(call, method === "MOVE");
      case "PROPPATCH":
        return this.#properties.proppatch(call);
      case "LOCK":
        return this.#locks.lock(call);
      case "UNLOCK":
        return this.#locks.unlock(call);
      default:
        send(exchange, 405, { Allow: ALLOW });
    }
  }

  fail(exchange: Exchange, error: unknown): void {
    const problem = toHoldfastError(error);
    const status = problem instanceof DavStatus ? problem.status : statusOf(problem);
    const headers: OutgoingHttpHeaders = { "Content-Type": 'application/xml; charset="utf-8"' };
    if (problem.retryAfterMs !== undefined) headers["Retry-After"] = Math.ceil(problem.retryAfterMs / 1000);
    if (status === 405) headers["Allow"] = ALLOW;
    const condition = problem instanceof DavStatus && problem.condition ? `<D:${problem.condition}/>` : "";
    const text = element("urn:holdfast", "message", escapeXml(clientMessage(problem)));
    send(exchange, status, headers, `${PROLOG}<D:error xmlns:D="DAV:">${condition}${text}</D:error>`);
  }
}
