/**
 * WebDAV, class 1 and 2 (RFC 4918), in front of a pool.
 *
 * A path is an object's name. A folder is there while an object is below it, or as an object of its own where it must
 * outlive its content (see object-facts.ts). Properties that clients set are kept in the object's metadata.
 */
import type { OutgoingHttpHeaders } from "node:http";
import { toBody } from "../../body.ts";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../errors.ts";
import { isReserved } from "../../names.ts";
import type { PoolObjectInfo } from "../../pool.ts";
import type { Body, ObjectMetadata } from "../../store.ts";
import { encodePath } from "../../signature-v4.ts";
import { escapeXml } from "../../xml.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange, Gateway } from "../http-server.ts";
import {
  basicUser,
  checkConditions,
  conditionsOf,
  contentLength,
  hasBody,
  incomingBytes,
  parseRange,
  percentDecode,
  readSmall,
  send,
  sendStream,
  statusOf,
} from "../http-tools.ts";
import { FOLDER_MARKER, checkClientName, etagOf, isFolderMarker, isUnknown } from "../object-facts.ts";
import { spooled } from "../spooled.ts";
import { Locks, parseIf, parseTimeout } from "./locks.ts";
import type { IfList, Lock } from "./locks.ts";
import { davChild, element, elements, innerXml, outerXml, parseDocument } from "./xml.ts";
import type { XmlNode } from "./xml.ts";

const MAX_XML_BYTES = 1024 * 1024;
/** Objects copied or deleted at once when a folder is. */
const AT_ONCE = 8;
const ALLOW = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, LOCK, UNLOCK";
const RESOURCE_NAMES = [
  "creationdate",
  "displayname",
  "getlastmodified",
  "resourcetype",
  "supportedlock",
  "lockdiscovery",
];
const FILE_NAMES = [...RESOURCE_NAMES, "getcontentlength", "getcontenttype", "getetag"];
/** Properties that only the gateway sets. */
const protectedNames = new Set(FILE_NAMES.filter((name) => name !== "displayname"));
const DEAD = "dav:";

/** An answer other than success, thrown. */
class DavStatus extends HoldfastError {
  readonly status: number;
  /** Name of the DAV: element that says which condition failed. */
  readonly condition: string | undefined;

  constructor(status: number, message: string, condition?: string) {
    super(status === 404 ? "not-found" : "invalid", message);
    this.status = status;
    this.condition = condition;
  }
}

type Resource =
  | { readonly kind: "file"; readonly path: string; readonly info: PoolObjectInfo }
  | { readonly kind: "folder"; readonly path: string; readonly marker?: PoolObjectInfo; readonly modifiedMs: number };

export function createWebdavGateway(context: GatewayContext): Gateway {
  return new WebdavGateway(context);
}

class WebdavGateway implements Gateway {
  readonly protocol = "webdav";
  readonly #context: GatewayContext;
  readonly #locks: Locks;

  constructor(context: GatewayContext) {
    this.#context = context;
    this.#locks = new Locks(() => context.runtime.now());
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
        return this.#get(call);
      case "PROPFIND":
        return this.#propfind(call);
      case "PUT":
        return this.#put(call);
      case "DELETE":
        return this.#delete(call);
      case "MKCOL":
        return this.#mkcol(call);
      case "COPY":
      case "MOVE":
        return this.#copy(call, method === "MOVE");
      case "PROPPATCH":
        return this.#proppatch(call);
      case "LOCK":
        return this.#lock(call);
      case "UNLOCK":
        return this.#unlock(call);
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
    const message = problem.code === "internal" ? "an internal error happened" : problem.message;
    const condition = problem instanceof DavStatus && problem.condition ? `<D:${problem.condition}/>` : "";
    const text = element("urn:holdfast", "message", escapeXml(message));
    send(exchange, status, headers, `${PROLOG}<D:error xmlns:D="DAV:">${condition}${text}</D:error>`);
  }

  // ---- what there is

  /** What stands at a path; undefined: nothing, and that is certain. */
  async #find(path: string, signal: AbortSignal): Promise<Resource | undefined> {
    const { store } = this.#context;
    if (path !== "") {
      const info = await this.#stat(path, signal);
      if (info) return { kind: "file", path, info };
    }
    const marker = await this.#stat(markerOf(path), signal);
    if (marker) return { kind: "folder", path, marker, modifiedMs: marker.modifiedMs ?? 0 };
    if (path === "") return { kind: "folder", path, modifiedMs: 0 };
    for await (const info of store.list(`${path}/`, { signal })) {
      return { kind: "folder", path, modifiedMs: info.modifiedMs ?? 0 };
    }
    return undefined;
  }

  async #stat(name: string, signal: AbortSignal): Promise<PoolObjectInfo | undefined> {
    try {
      return await this.#context.store.stat(name, { signal });
    } catch (error) {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    }
  }

  async #require(path: string, signal: AbortSignal): Promise<Resource> {
    const found = await this.#find(path, signal);
    if (!found) throw new DavStatus(404, "there is nothing at this address");
    return found;
  }

  async #requireParent(path: string, signal: AbortSignal): Promise<void> {
    let parent: Resource | undefined;
    try {
      parent = await this.#find(parentOf(path), signal);
    } catch (error) {
      if (isUnknown(error)) return;
      throw error;
    }
    if (parent?.kind !== "folder") throw new DavStatus(409, "the folder around it does not exist");
  }

  // ---- reading

  async #get(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { request } = exchange;
    const found = await this.#require(path, exchange.signal);
    if (found.kind === "folder") return this.#index(exchange, path);
    const { info } = found;
    const etag = `"${etagOf(info)}"`;
    const modifiedMs = modifiedOf(info);
    const headers: OutgoingHttpHeaders = {
      "Content-Type": info.metadata?.["content-type"] ?? "application/octet-stream",
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
    headers["Content-Length"] = whole ? info.size : range.length;
    if (!whole) headers["Content-Range"] = `bytes ${range.offset}-${range.offset + range.length - 1}/${info.size}`;
    if (exchange.method === "HEAD") {
      exchange.response.writeHead(200, headers).end();
      return;
    }
    const { signal } = exchange;
    const result = await this.#context.store.get(path, { signal, ...(whole ? {} : { range }) });
    try {
      if (etagOf(result.info) !== etagOf(info)) {
        throw new HoldfastError("unavailable", "the file was replaced while it was being read; try again");
      }
      await sendStream(exchange, whole ? 200 : 206, headers, result.body);
    } finally {
      await result.close();
    }
  }

  /** A page for people who look at a folder in a browser. */
  async #index(exchange: Exchange, path: string): Promise<void> {
    const lines = (await this.#children(path, exchange.signal)).map((child) => {
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

  /** What stands in a folder, from a listing that is known to be whole. */
  async #children(path: string, signal: AbortSignal): Promise<Resource[]> {
    const prefix = path === "" ? "" : `${path}/`;
    const files: Resource[] = [];
    const folders = new Map<string, { marker?: PoolObjectInfo; modifiedMs: number }>();
    for (const info of await this.#context.listings.entries(prefix, false, { signal })) {
      if (isReserved(info.name)) continue;
      const rest = info.name.slice(prefix.length);
      const slash = rest.indexOf("/");
      if (slash === -1) {
        if (!isFolderMarker(info.name)) files.push({ kind: "file", path: info.name, info });
        continue;
      }
      if (slash === 0) continue;
      const name = prefix + rest.slice(0, slash);
      const known = folders.get(name);
      const isMarker = info.name === markerOf(name);
      folders.set(name, {
        ...(isMarker ? { marker: info } : known?.marker ? { marker: known.marker } : {}),
        modifiedMs: Math.max(known?.modifiedMs ?? 0, info.modifiedMs ?? 0),
      });
    }
    return [...[...folders].map(([name, facts]): Resource => ({ kind: "folder", path: name, ...facts })), ...files];
  }

  async #propfind(call: Call): Promise<void> {
    const { exchange, path } = call;
    const depth = exchange.request.headers["depth"] ?? "infinity";
    if (depth !== "0" && depth !== "1" && depth !== "infinity")
      throw new DavStatus(400, "Depth must be 0, 1 or infinity");
    const body = await readSmall(exchange, MAX_XML_BYTES);
    const wanted = body.length === 0 ? ("all" as const) : parsePropfind(parseDocument(body));
    const found = await this.#require(path, exchange.signal);
    if (depth === "infinity" && found.kind === "folder") {
      throw new DavStatus(403, "a folder is listed one level at a time", "propfind-finite-depth");
    }
    const resources = [found];
    if (depth === "1" && found.kind === "folder") resources.push(...(await this.#children(path, exchange.signal)));
    sendMultistatus(
      exchange,
      resources.map((resource) => this.#properties(resource, wanted)),
    );
  }

  #properties(resource: Resource, wanted: Wanted): string {
    const dead = deadProperties(resource);
    const live = resource.kind === "file" ? FILE_NAMES : RESOURCE_NAMES;
    const good: string[] = [];
    const missing: string[] = [];
    if (wanted === "all" || wanted === "names") {
      for (const name of live) {
        if (name === "displayname" && dead.has("{DAV:}displayname")) continue;
        good.push(wanted === "names" ? `<D:${name}/>` : `<D:${name}>${this.#live(resource, name)}</D:${name}>`);
      }
      for (const [, property] of dead) {
        good.push(wanted === "names" ? element(property.namespace, property.name, "") : property.xml);
      }
    } else {
      for (const { namespace, name } of wanted) {
        const property = dead.get(`{${namespace}}${name}`);
        if (property) good.push(property.xml);
        else if (namespace === "DAV:" && live.includes(name)) {
          good.push(`<D:${name}>${this.#live(resource, name)}</D:${name}>`);
        } else missing.push(element(namespace, name, ""));
      }
    }
    return (
      `<D:response><D:href>${escapeXml(hrefOf(resource))}</D:href>` +
      (good.length > 0 || missing.length === 0 ? propstat(good.join(""), 200) : "") +
      (missing.length > 0 ? propstat(missing.join(""), 404) : "") +
      "</D:response>"
    );
  }

  #live(resource: Resource, name: string): string {
    const modifiedMs = resource.kind === "file" ? modifiedOf(resource.info) : resource.modifiedMs;
    switch (name) {
      case "creationdate":
        return new Date(modifiedMs).toISOString().replace(/\.\d+Z$/u, "Z");
      case "displayname":
        return escapeXml(resource.path.slice(resource.path.lastIndexOf("/") + 1));
      case "getlastmodified":
        return new Date(modifiedMs).toUTCString();
      case "resourcetype":
        return resource.kind === "folder" ? "<D:collection/>" : "";
      case "supportedlock":
        return ["exclusive", "shared"]
          .map(
            (scope) =>
              `<D:lockentry><D:lockscope><D:${scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>`,
          )
          .join("");
      case "lockdiscovery":
        return this.#locks.covering(resource.path).map(activeLock).join("");
      case "getcontentlength":
        return resource.kind === "file" ? String(resource.info.size) : "0";
      case "getcontenttype":
        return escapeXml(
          resource.kind === "file" ? (resource.info.metadata?.["content-type"] ?? "application/octet-stream") : "",
        );
      case "getetag":
        return resource.kind === "file" ? `"${escapeXml(etagOf(resource.info))}"` : "";
      default:
        return "";
    }
  }

  // ---- writing

  async #put(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal, request } = exchange;
    if (path === "") throw new DavStatus(405, "the root is a folder");
    checkClientName(path);
    if (exchange.rawPath.endsWith("/")) throw new DavStatus(409, "a file's address has no slash at its end");
    if (request.headers["content-range"] !== undefined) throw new DavStatus(400, "a file is put whole, not in ranges");
    await this.#context.locks.run(path, async () => {
      await this.#checkIf(call);
      const conditional = ["if", "if-match", "if-none-match", "if-unmodified-since"].some(
        (name) => name in request.headers,
      );
      const found = await this.#find(path, signal).catch((error: unknown) => {
        // With a store down it may not be known what is there. A write is owed to that store, not refused because of it.
        if (conditional || !isUnknown(error)) throw error;
        return undefined;
      });
      if (found?.kind === "folder") throw new DavStatus(405, "there is a folder at this address");
      this.#checkLocks(call, path, { member: !found });
      const target = found ? { etag: `"${etagOf(found.info)}"`, modifiedMs: modifiedOf(found.info) } : undefined;
      if (checkConditions(conditionsOf(exchange), target, false) !== "go") {
        throw new DavStatus(412, "a condition of the request does not hold");
      }
      if (!found) await this.#requireParent(path, signal);
      const metadata: Record<string, string> = deadMetadata(found?.info.metadata);
      const type = request.headers["content-type"];
      if (type !== undefined) metadata["content-type"] = type;
      const mtime = /^(\d{1,12})(\.\d+)?$/u.exec(request.headers["x-oc-mtime"]?.toString() ?? "");
      if (mtime) {
        metadata["mtime"] = Number(mtime[0]).toFixed(3);
        exchange.response.setHeader("X-OC-Mtime", "accepted");
      }
      const size = contentLength(exchange) ?? (hasBody(exchange) ? undefined : 0);
      const body = size === 0 ? toBody("") : toBody(incomingBytes(exchange), { size });
      const result = await this.#context.store.put(path, body, { signal, metadata });
      noteWrite(this.#context, exchange, path, result);
      exchange.fields["bytes"] = result.size;
      const stored = await this.#stat(path, signal);
      send(exchange, found ? 204 : 201, stored ? { ETag: `"${etagOf(stored)}"` } : {});
    });
  }

  async #mkcol(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal } = exchange;
    if (hasBody(exchange)) throw new DavStatus(415, "a new folder has no body");
    if (path === "") throw new DavStatus(405, "the root is there already");
    checkClientName(path);
    await this.#context.locks.run(path, async () => {
      await this.#checkIf(call);
      if (await this.#find(path, signal)) throw new DavStatus(405, "there is something at this address");
      this.#checkLocks(call, path, { member: true });
      await this.#requireParent(path, signal);
      await this.#putMarker(exchange, path, {});
      send(exchange, 201);
    });
  }

  async #putMarker(exchange: Exchange, path: string, metadata: ObjectMetadata): Promise<void> {
    const name = markerOf(path);
    const result = await this.#context.store.put(name, toBody(""), { signal: exchange.signal, metadata });
    noteWrite(this.#context, exchange, name, result);
  }

  async #delete(call: Call): Promise<void> {
    const { exchange, path } = call;
    if (path === "") throw new DavStatus(403, "the root cannot be deleted");
    checkClientName(path);
    // A fragment is no part of an address; a client that sends one means something else.
    if (exchange.rawPath.includes("#")) throw new DavStatus(400, "the address has a fragment");
    await this.#checkIf(call);
    const found = await this.#require(path, exchange.signal);
    this.#checkLocks(call, path, { member: true, deep: true });
    if (found.kind === "file") {
      const target = { etag: `"${etagOf(found.info)}"`, modifiedMs: modifiedOf(found.info) };
      if (checkConditions(conditionsOf(exchange), target, false) !== "go") {
        throw new DavStatus(412, "a condition of the request does not hold");
      }
    }
    await this.#remove(exchange, found);
    send(exchange, 204);
  }

  /** Deletes a file, or a folder with all that is in it. */
  async #remove(exchange: Exchange, found: Resource): Promise<void> {
    const { path } = found;
    await this.#keepParent(exchange, path);
    const names =
      found.kind === "file"
        ? [path]
        : (await this.#context.listings.entries(`${path}/`, false, { signal: exchange.signal }))
            .map((info) => info.name)
            // Folders go after what is in them, so that nothing is orphaned when this is interrupted.
            .reverse();
    await eachOf(names, async (name) => {
      noteWrite(this.#context, exchange, name, await this.#context.store.delete(name, { signal: exchange.signal }));
    });
    this.#locks.forget(path);
  }

  /** A folder stays when the last thing in it goes. */
  async #keepParent(exchange: Exchange, path: string): Promise<void> {
    const parent = parentOf(path);
    if (parent === "") return;
    try {
      for await (const info of this.#context.store.list(`${parent}/`, { signal: exchange.signal })) {
        if (info.name !== path && !info.name.startsWith(`${path}/`)) return;
      }
    } catch (error) {
      // A marker too many does no harm.
      if (!isUnknown(error)) throw error;
    }
    await this.#putMarker(exchange, parent, {});
  }

  async #copy(call: Call, move: boolean): Promise<void> {
    const { exchange, path } = call;
    const { signal, request } = exchange;
    const depth = request.headers["depth"] ?? "infinity";
    if (depth !== "infinity" && (depth !== "0" || move)) throw new DavStatus(400, "this Depth cannot be used here");
    const target = destinationOf(exchange);
    if (path === "" || target === "") throw new DavStatus(403, "the root cannot be copied or replaced");
    checkClientName(path);
    checkClientName(target);
    if (target === path) throw new DavStatus(403, "the destination is the source");
    await this.#checkIf(call);
    const found = await this.#require(path, signal);
    if (found.kind === "folder" && target.startsWith(`${path}/`) && (move || depth !== "0")) {
      throw new DavStatus(403, "a folder cannot be put into itself");
    }
    if (path.startsWith(`${target}/`)) throw new DavStatus(403, "a folder cannot be replaced by what is in it");
    const former = await this.#find(target, signal);
    if (former && request.headers["overwrite"]?.toString().toUpperCase() === "F") {
      throw new DavStatus(412, "there is something at the destination");
    }
    if (move) this.#checkLocks(call, path, { member: true, deep: true });
    this.#checkLocks(call, target, { member: true, deep: true });
    await this.#requireParent(target, signal);
    // A file over a file is one put, and never absent in between; anything else is cleared away first.
    if (former && !(former.kind === "file" && found.kind === "file")) {
      await this.#remove(exchange, former);
    } else if (former) this.#locks.forget(target);
    if (found.kind === "file") await this.#copyObject(exchange, path, target);
    else if (depth === "0") await this.#putMarker(exchange, target, found.marker?.metadata ?? {});
    else {
      const infos = await this.#context.listings.entries(`${path}/`, false, { signal });
      if (!found.marker) await this.#putMarker(exchange, target, {});
      await eachOf(infos, (info) => this.#copyObject(exchange, info.name, target + info.name.slice(path.length)));
    }
    if (move) await this.#remove(exchange, found);
    send(exchange, former ? 204 : 201, { Location: encodePath(`/${target}`) });
  }

  async #copyObject(exchange: Exchange, from: string, to: string): Promise<void> {
    const { signal } = exchange;
    const source = await this.#context.store.get(from, { signal });
    try {
      const body = toBody(source.body, { size: source.info.size });
      const metadata = source.info.metadata ?? {};
      noteWrite(this.#context, exchange, to, await this.#context.store.put(to, body, { signal, metadata }));
    } finally {
      await source.close();
    }
  }

  // ---- properties

  async #proppatch(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal } = exchange;
    const update = parseDocument(await readSmall(exchange, MAX_XML_BYTES));
    if (update.namespace !== "DAV:" || update.name !== "propertyupdate") {
      throw new DavStatus(400, "the body must be a propertyupdate");
    }
    checkClientName(path);
    await this.#context.locks.run(path, async () => {
      await this.#checkIf(call);
      const found = await this.#require(path, signal);
      this.#checkLocks(call, path, {});
      const before = (found.kind === "file" ? found.info.metadata : found.marker?.metadata) ?? {};
      const metadata: Record<string, string> = { ...before };
      const named: XmlNode[] = [];
      const refused = new Set<XmlNode>();
      for (const instruction of elements(update)) {
        const change = instruction.namespace === "DAV:" ? instruction.name : "";
        if (change !== "set" && change !== "remove") continue;
        const prop = davChild(instruction, "prop");
        for (const property of prop ? elements(prop) : []) {
          named.push(property);
          if (property.namespace === "DAV:" && protectedNames.has(property.name)) refused.add(property);
          const key = `${DEAD}{${property.namespace}}${property.name}`;
          if (change === "set") metadata[key] = outerXml(property);
          else delete metadata[key];
        }
      }
      const names = (nodes: readonly XmlNode[]): string =>
        nodes.map((node) => element(node.namespace, node.name, "")).join("");
      let stats: string;
      if (refused.size > 0) {
        const others = named.filter((node) => !refused.has(node));
        stats = propstat(names([...refused]), 403, "cannot-modify-protected-property");
        if (others.length > 0) stats += propstat(names(others), 424);
      } else if (Buffer.byteLength(JSON.stringify(metadata)) > 7168) {
        // Metadata has 8 KiB in all, and the file may get a content type and digests yet.
        stats = propstat(names(named), 507);
      } else {
        if (JSON.stringify(metadata) !== JSON.stringify(before)) await this.#setMetadata(exchange, found, metadata);
        stats = propstat(names(named), 200);
      }
      sendMultistatus(exchange, [`<D:response><D:href>${escapeXml(hrefOf(found))}</D:href>${stats}</D:response>`]);
    });
  }

  /** Metadata stands in the record of a version, so a change of it is a new version with the same bytes. */
  async #setMetadata(exchange: Exchange, found: Resource, metadata: ObjectMetadata): Promise<void> {
    if (found.kind === "folder") return this.#putMarker(exchange, found.path, metadata);
    const { signal } = exchange;
    const source = await this.#context.store.get(found.path, { signal });
    // A file is not put back dated later because somebody put a label on it.
    const kept = { ...metadata, mtime: metadata["mtime"] ?? (modifiedOf(found.info) / 1000).toFixed(3) };
    try {
      if (etagOf(source.info) !== etagOf(found.info))
        throw new HoldfastError("conflict", "the file was replaced meanwhile");
      await spooled(toBody(source.body, { size: source.info.size }), signal, async (body: Body) => {
        const result = await this.#context.store.put(found.path, body, { signal, metadata: kept });
        noteWrite(this.#context, exchange, found.path, result);
      });
    } finally {
      await source.close();
    }
  }

  // ---- locks

  async #lock(call: Call): Promise<void> {
    const { exchange, path, user } = call;
    const { request, signal } = exchange;
    const timeoutMs = parseTimeout(request.headers["timeout"]?.toString());
    const body = await readSmall(exchange, MAX_XML_BYTES);
    if (body.length === 0) {
      await this.#checkIf(call);
      const lock = this.#locks.covering(path).find((one) => call.tokens.has(one.token));
      if (!lock || lock.user !== user) throw new DavStatus(412, "no lock of this resource is named in the If header");
      this.#locks.refresh(lock, timeoutMs);
      this.#sendLock(exchange, 200, lock);
      return;
    }
    const info = parseDocument(body);
    const scope = davChild(info, "lockscope");
    const type = davChild(info, "locktype");
    const exclusive = scope !== undefined && davChild(scope, "exclusive") !== undefined;
    const shared = scope !== undefined && davChild(scope, "shared") !== undefined;
    if (info.name !== "lockinfo" || exclusive === shared || !type || !davChild(type, "write")) {
      throw new DavStatus(400, "only exclusive and shared write locks exist");
    }
    const depth = request.headers["depth"] ?? "infinity";
    if (depth !== "0" && depth !== "infinity") throw new DavStatus(400, "Depth must be 0 or infinity");
    checkClientName(path);
    const owner = davChild(info, "owner");
    await this.#context.locks.run(path, async () => {
      await this.#checkIf(call);
      const found = await this.#find(path, signal);
      if (!found) {
        this.#checkLocks(call, path, { member: true });
        await this.#requireParent(path, signal);
      }
      let lock: Lock;
      try {
        const facts = { path, deep: depth === "infinity", exclusive, user, owner: owner ? innerXml(owner) : "" };
        lock = this.#locks.add(facts, timeoutMs);
      } catch (error) {
        if (!isHoldfastError(error, "conflict")) throw error;
        throw new DavStatus(423, "the resource is locked", "no-conflicting-lock");
      }
      if (!found) {
        try {
          // A name that is locked is there, empty, until its owner writes to it.
          const result = await this.#context.store.put(path, toBody(""), { signal, ifAbsent: false });
          noteWrite(this.#context, exchange, path, result);
        } catch (error) {
          this.#locks.remove(lock.token);
          throw error;
        }
      }
      this.#sendLock(exchange, found ? 200 : 201, lock, true);
    });
  }

  #sendLock(exchange: Exchange, status: number, lock: Lock, fresh = false): void {
    send(
      exchange,
      status,
      { "Content-Type": 'application/xml; charset="utf-8"', ...(fresh ? { "Lock-Token": `<${lock.token}>` } : {}) },
      `${PROLOG}<D:prop xmlns:D="DAV:"><D:lockdiscovery>${activeLock(lock)}</D:lockdiscovery></D:prop>`,
    );
  }

  async #unlock(call: Call): Promise<void> {
    const { exchange, path, user } = call;
    const header = exchange.request.headers["lock-token"]?.toString() ?? "";
    const token = /^<([^<>\s]+)>$/u.exec(header.trim())?.[1];
    if (token === undefined) throw new DavStatus(400, "Lock-Token is missing or malformed");
    const lock = this.#locks.covering(path).find((one) => one.token === token);
    if (!lock) throw new DavStatus(409, "there is no such lock here", "lock-token-matches-request-uri");
    if (lock.user !== user) throw new DavStatus(403, "the lock is another user's");
    this.#locks.remove(token);
    send(exchange, 204);
  }

  /** Evaluates the If header, and notes the tokens that it submits. */
  async #checkIf(call: Call): Promise<void> {
    const header = call.exchange.request.headers["if"]?.toString();
    if (header === undefined) return;
    const lists = parseIf(header);
    for (const list of lists) {
      for (const { token } of list.conditions) if (token !== undefined) call.tokens.add(token);
    }
    for (const list of lists) if (await this.#holds(call, list)) return;
    throw new DavStatus(412, "the conditions of the If header do not hold");
  }

  async #holds(call: Call, list: IfList): Promise<boolean> {
    let path: string | undefined = call.path;
    if (list.resource !== undefined) path = localPath(call.exchange, list.resource);
    if (path === undefined) return false;
    const tokens = new Set(this.#locks.covering(path).map((lock) => lock.token));
    for (const { not, token, etag } of list.conditions) {
      let holds: boolean;
      if (token !== undefined) holds = tokens.has(token);
      else {
        const info = path === "" ? undefined : await this.#stat(path, call.exchange.signal);
        holds = info !== undefined && etag === `"${etagOf(info)}"`;
      }
      if (holds === not) return false;
    }
    return true;
  }

  /** Throws 423 unless the request has a token for each lock that guards what it changes. */
  #checkLocks(call: Call, path: string, what: { member?: boolean; deep?: boolean }): void {
    const admits = (locks: readonly Lock[]): boolean =>
      locks.length === 0 || locks.some((lock) => call.tokens.has(lock.token) && lock.user === call.user);
    const free =
      admits(this.#locks.covering(path)) &&
      (!what.member || admits(this.#locks.covering(parentOf(path)))) &&
      (!what.deep || this.#locks.below(path).every((lock) => admits([lock])));
    if (!free) throw new DavStatus(423, "the resource is locked", "lock-token-submitted");
  }
}

interface Call {
  readonly exchange: Exchange;
  readonly path: string;
  /** "" where nobody has to say who they are. */
  readonly user: string;
  /** Lock tokens of the If header. */
  readonly tokens: Set<string>;
}

type Wanted = "all" | "names" | readonly { readonly namespace: string; readonly name: string }[];

const PROLOG = '<?xml version="1.0" encoding="utf-8"?>\n';

function parsePropfind(root: XmlNode): Wanted {
  if (root.namespace !== "DAV:" || root.name !== "propfind") throw new DavStatus(400, "the body must be a propfind");
  if (davChild(root, "propname")) return "names";
  const prop = davChild(root, "prop");
  if (davChild(root, "allprop")) return "all";
  if (!prop) throw new DavStatus(400, "the propfind asks for nothing");
  return elements(prop).map(({ namespace, name }) => ({ namespace, name }));
}

function deadProperties(resource: Resource): Map<string, { namespace: string; name: string; xml: string }> {
  const metadata = (resource.kind === "file" ? resource.info.metadata : resource.marker?.metadata) ?? {};
  const found = new Map<string, { namespace: string; name: string; xml: string }>();
  for (const [key, xml] of Object.entries(metadata)) {
    const match = /^dav:\{(.*)\}([^}]+)$/u.exec(key);
    if (match) found.set(`{${match[1]}}${match[2]}`, { namespace: match[1] ?? "", name: match[2] ?? "", xml });
  }
  return found;
}

function deadMetadata(metadata: ObjectMetadata | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata ?? {}).filter(([key]) => key.startsWith(DEAD)));
}

function propstat(properties: string, status: number, condition?: string): string {
  const words: Record<number, string> = {
    200: "OK",
    403: "Forbidden",
    404: "Not Found",
    424: "Failed Dependency",
    507: "Insufficient Storage",
  };
  return (
    `<D:propstat><D:prop>${properties}</D:prop><D:status>HTTP/1.1 ${status} ${words[status] ?? ""}</D:status>` +
    `${condition === undefined ? "" : `<D:error><D:${condition}/></D:error>`}</D:propstat>`
  );
}

function sendMultistatus(exchange: Exchange, responses: readonly string[]): void {
  send(
    exchange,
    207,
    { "Content-Type": 'application/xml; charset="utf-8"' },
    `${PROLOG}<D:multistatus xmlns:D="DAV:">${responses.join("")}</D:multistatus>`,
  );
}

function activeLock(lock: Lock): string {
  return (
    "<D:activelock><D:locktype><D:write/></D:locktype>" +
    `<D:lockscope><D:${lock.exclusive ? "exclusive" : "shared"}/></D:lockscope>` +
    `<D:depth>${lock.deep ? "infinity" : "0"}</D:depth><D:owner>${lock.owner}</D:owner>` +
    `<D:timeout>Second-${Math.round(lock.timeoutMs / 1000)}</D:timeout>` +
    `<D:locktoken><D:href>${lock.token}</D:href></D:locktoken>` +
    `<D:lockroot><D:href>${escapeXml(encodePath(`/${lock.path}`))}</D:href></D:lockroot></D:activelock>`
  );
}

/** An address's path as a name: decoded, without slashes at its ends. */
function toPath(rawPath: string): string {
  if (!rawPath.startsWith("/")) throw new DavStatus(400, "the address must begin with a slash");
  const parts = rawPath
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
      const decoded = percentDecode(part);
      if (decoded === "." || decoded === ".." || decoded.includes("/"))
        throw new DavStatus(400, "the address is not plain");
      return decoded;
    });
  return parts.join("/");
}

/** The path of an address on this gateway; undefined for one elsewhere. */
function localPath(exchange: Exchange, address: string): string | undefined {
  const match = /^(?:[a-z][a-z0-9+.-]*:\/\/([^/?#]*))?(\/[^?#]*)?$/iu.exec(address);
  if (!match) return undefined;
  const host = match[1]?.replace(/^[^@]*@/u, "").toLowerCase();
  if (host !== undefined && host !== exchange.request.headers.host?.toLowerCase()) return undefined;
  return toPath(match[2] ?? "/");
}

function destinationOf(exchange: Exchange): string {
  const header = exchange.request.headers["destination"]?.toString();
  if (header === undefined) throw new DavStatus(400, "the header Destination is missing");
  const path = localPath(exchange, header.trim());
  if (path === undefined) throw new DavStatus(502, "the destination is not on this gateway");
  return path;
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}

function markerOf(path: string): string {
  return path === "" ? FOLDER_MARKER : `${path}/${FOLDER_MARKER}`;
}

function hrefOf(resource: Resource): string {
  const path = encodePath(`/${resource.path}`);
  return resource.kind === "folder" && resource.path !== "" ? `${path}/` : path;
}

function modifiedOf(info: PoolObjectInfo): number {
  const given = Number(info.metadata?.["mtime"] ?? Number.NaN);
  return Number.isFinite(given) ? given * 1000 : (info.modifiedMs ?? 0);
}

/** Runs `work` on each item, some at a time. Rejects with the first failure, when what had begun is over. */
async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const item = items[next++] as T;
      await work(item).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failures.length > 0) throw toHoldfastError(failures[0]);
}
