/** PROPFIND and PROPPATCH: properties that the gateway knows, and those that clients set. */
import { toBody } from "../../contract/body.ts";
import type { Body, ChangeCondition, ObjectMetadata } from "../../contract/store.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { noteWrite } from "../gateway-context.ts";
import type { Exchange } from "../exchange.ts";
import { readSmall } from "../http-tools.ts";
import { escapeXml } from "../../support/xml.ts";
import { checkClientName, etagOf, isSameVersion } from "../object-facts.ts";
import { spooled } from "../spooled.ts";
import { MAX_XML_BYTES } from "./call.ts";
import type { Call } from "./call.ts";
import { DavStatus } from "./dav-status.ts";
import type { LockRequests } from "./lock-requests.ts";
import { checkResource } from "./preconditions.ts";
import { sendMultistatus, statusLine, streamMultistatus } from "./multistatus.ts";
import { hrefOf, markerOf, modifiedOf } from "./resources.ts";
import type { Resource, Resources } from "./resources.ts";
import { davChild, element, elements, outerXml, parseDocument } from "./xml.ts";
import type { XmlNode } from "./xml.ts";

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

/** Beginning of the keys of metadata that hold clients' properties. */
const DEAD = "dav:";
/** Properties that a PROPFIND may ask for. */
const MAX_ASKED = 100;

type Wanted = "all" | "names" | readonly { readonly namespace: string; readonly name: string }[];

export class Properties {
  readonly #context: GatewayContext;
  readonly #resources: Resources;
  readonly #locks: LockRequests;

  constructor(context: GatewayContext, resources: Resources, locks: LockRequests) {
    this.#context = context;
    this.#resources = resources;
    this.#locks = locks;
  }

  async propfind(call: Call): Promise<void> {
    const { exchange, path } = call;
    const depth = exchange.request.headers["depth"] ?? "infinity";
    if (depth !== "0" && depth !== "1" && depth !== "infinity")
      throw new DavStatus(400, "Depth must be 0, 1 or infinity");
    const body = await readSmall(exchange, MAX_XML_BYTES);
    const wanted = body.length === 0 ? ("all" as const) : parsePropfind(await parseDocument(body));
    const found = await this.#resources.require(path, exchange.signal);
    if (depth === "infinity" && found.kind === "folder") {
      throw new DavStatus(403, "a folder is listed one level at a time", "propfind-finite-depth");
    }
    const resources = [found];
    if (depth === "1" && found.kind === "folder")
      resources.push(...(await this.#resources.children(path, exchange.signal)));
    await streamMultistatus(exchange, resources, (resource) => this.#properties(resource, wanted));
  }

  async proppatch(call: Call): Promise<void> {
    const { exchange, path } = call;
    const { signal } = exchange;
    const update = await parseDocument(await readSmall(exchange, MAX_XML_BYTES));
    if (update.namespace !== "DAV:" || update.name !== "propertyupdate") {
      throw new DavStatus(400, "the body must be a propertyupdate");
    }
    checkClientName(path);
    await this.#context.locks.run(path, async () => {
      const ifHeader = await this.#locks.checkIf(call);
      const found = await this.#resources.require(path, signal);
      this.#locks.checkLocks(call, path, {});
      // The conditions were checked for the version found, and the change is made to that version only.
      checkResource(exchange, found);
      if (found.kind === "file") ifHeader?.check(path, found.info);
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
    const { signal } = exchange;
    const name = found.kind === "file" ? found.path : markerOf(found.path);
    const before = found.kind === "file" ? found.info : found.marker;
    // A version that was put meanwhile must not be undone, nor get properties that were not meant for it.
    const onlyIf: ChangeCondition = (current) => {
      if (current === before || (before && isSameVersion(current, before))) return;
      throw new DavStatus(409, "it was put while its properties were changed");
    };
    if (!before) return this.#resources.putMarker(exchange, found.path, metadata, onlyIf);
    const source = await this.#context.store.get(name, { signal });
    // A file is not put back dated later because somebody put a label on it.
    const kept =
      found.kind === "file"
        ? { ...metadata, mtime: metadata["mtime"] ?? (modifiedOf(before) / 1000).toFixed(3) }
        : metadata;
    try {
      onlyIf(source.info);
      await spooled(toBody(source.body, { size: source.info.size }), signal, async (body: Body) => {
        const result = await this.#context.store.put(name, body, { signal, metadata: kept, onlyIf });
        noteWrite(this.#context, exchange, name, result);
      });
    } finally {
      await source.close();
    }
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
        return this.#locks.discovery(resource.path);
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
}

function parsePropfind(root: XmlNode): Wanted {
  if (root.namespace !== "DAV:" || root.name !== "propfind") throw new DavStatus(400, "the body must be a propfind");
  if (davChild(root, "propname")) return "names";
  const prop = davChild(root, "prop");
  if (davChild(root, "allprop")) return "all";
  if (!prop) throw new DavStatus(400, "the propfind asks for nothing");
  const asked = new Map(elements(prop).map(({ namespace, name }) => [`{${namespace}}${name}`, { namespace, name }]));
  // Each is answered for each member of the folder.
  if (asked.size > MAX_ASKED) throw new DavStatus(400, `a propfind asks for at most ${MAX_ASKED} properties`);
  return [...asked.values()];
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

/** What is kept of the metadata of a file that is overwritten. */
export function deadMetadata(metadata: ObjectMetadata | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata ?? {}).filter(([key]) => key.startsWith(DEAD)));
}

function propstat(properties: string, status: number, condition?: string): string {
  return (
    `<D:propstat><D:prop>${properties}</D:prop>${statusLine(status)}` +
    `${condition === undefined ? "" : `<D:error><D:${condition}/></D:error>`}</D:propstat>`
  );
}
