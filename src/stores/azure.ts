/**
 * Azure Blob Storage: `azure://CONTAINER[/PREFIX]`, as duplicity writes it.
 *
 * A PREFIX always ends at a slash: `azure://c/x` keeps the object `n` as the blob `x/n`. Parameters: `endpoint=URL`, the
 * account's URL where it is not `https://ACCOUNT.blob.core.windows.net` (an emulator, another cloud), and `ca=FILE` (PEM)
 * of a private authority.
 *
 * Credentials come from the store's environment: `AZURE_CONNECTION_STRING` (or `AZURE_STORAGE_CONNECTION_STRING`); or
 * `AZURE_ACCOUNT_NAME` with `AZURE_ACCOUNT_KEY` or `AZURE_SHARED_ACCESS_SIGNATURE` (or `AZURE_STORAGE_ACCOUNT` with
 * `AZURE_STORAGE_KEY` or `AZURE_STORAGE_SAS_TOKEN`), and `AZURE_ENDPOINT_SUFFIX` for another cloud.
 *
 * Objects up to 8 MiB are put at once, larger ones as blocks, four at a time, which become visible together when the list
 * of blocks is committed. Blocks of a put that failed are in no listing; the service discards them within a week, and at
 * once when the blob is put again. Each block is sent with its MD5, and the blob keeps the MD5 of the whole.
 *
 * Needs the package `@azure/storage-blob`, which is loaded when the first such store is opened.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Hash } from "node:crypto";
import { Readable } from "node:stream";
import type * as Sdk from "@azure/storage-blob";
import { HoldfastError, isHoldfastError } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { MAX_NAME_BYTES } from "../contract/names.ts";
import { httpError, networkError } from "../support/network-errors.ts";
import type { StoreContext, StoreKind, StorePlace } from "./base/store-kind.ts";
import { MIB, joinChunks } from "../support/parts.ts";
import type { Part, PartPlan } from "../support/parts.ts";
import { secretsOf } from "../support/redact.ts";
import type { ByteRange, ObjectInfo } from "../contract/store.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { containerOf, urlParameters } from "./base/url-parameters.ts";
import { loadPeer } from "./base/load-peer.ts";
import { HttpService, textOf } from "./base/http-service.ts";
import type { ServiceRequest } from "./base/http-service.ts";
import { ObjectStore, md5Of, objectInfo, rangeSize } from "./base/object-store.ts";
import type {
  ObjectPage,
  ObjectPut,
  ObjectRead,
  ObjectService,
  ObjectStoreOptions,
  PagePosition,
} from "./base/object-store.ts";
import { Operations } from "./base/operations.ts";
import { prefixParts, serviceUrl } from "./base/place.ts";

/** 50,000 blocks of 4,000 MiB. */
const MAX_OBJECT_BYTES = 50_000 * 4000 * MIB;
const MAX_BLOCKS = 50_000;
/** What blocks in flight may hold together, in bytes. One block is always allowed. */
const IN_FLIGHT_BYTES = 64 * MIB;
const PARALLEL_BLOCKS = 4;
const BLOCK_ATTEMPTS = 3;

export interface AzureSettings {
  readonly container: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  readonly connectionString?: string | undefined;
  /** URL of the account, with a shared access signature where there is one. */
  readonly accountUrl?: string | undefined;
  readonly key?: { readonly account: string; readonly key: string } | undefined;
  readonly caFile?: string | undefined;
}

/** Reads a URL and the credentials that go with it. Throws `config`. */
export function parseAzureUrl(url: StoreUrl, env: StoreContext["env"]): AzureSettings {
  const { endpoint, ...settings } = readAzureUrl(url);
  const connectionString = connectionStringOf(env);
  if (connectionString) return { ...settings, connectionString };
  const account = accountOf(env);
  const key = env["AZURE_ACCOUNT_KEY"] || env["AZURE_STORAGE_KEY"];
  const sas = env["AZURE_SHARED_ACCESS_SIGNATURE"] || env["AZURE_STORAGE_SAS_TOKEN"];
  if (!account || !(key || sas)) {
    throw new HoldfastError(
      "config",
      "no credentials for Azure: set AZURE_CONNECTION_STRING, or AZURE_ACCOUNT_NAME with AZURE_ACCOUNT_KEY or AZURE_SHARED_ACCESS_SIGNATURE",
    );
  }
  const accountUrl = (endpoint ?? urlOfAccount(account, env)).replace(/\/+$/u, "");
  if (!/^https?:\/\/[^@?#]+$/u.test(accountUrl)) {
    throw new HoldfastError("config", "endpoint= must be the http:// or https:// URL of the account");
  }
  if (key) return { ...settings, accountUrl, key: { account, key } };
  return { ...settings, accountUrl: `${accountUrl}?${(sas ?? "").replace(/^\?/u, "")}` };
}

/** A URL's own parts, as far as they need no credentials. Throws `config`. */
function readAzureUrl(url: StoreUrl): {
  readonly container: string;
  readonly prefix: string;
  readonly endpoint: string | undefined;
  readonly caFile: string | undefined;
} {
  const { endpoint, ca } = urlParameters(url, ["endpoint", "ca"]);
  if (url.username !== undefined) {
    throw new HoldfastError("config", "credentials do not stand in an azure URL: set AZURE_CONNECTION_STRING in env");
  }
  if (url.port !== undefined) throw new HoldfastError("config", "a container has no port: use endpoint=");
  const { container, prefix } = containerOf(url);
  if (container === undefined || !/^(?:\$root|\$web|[a-z0-9](?:-?[a-z0-9]){2,62})$/u.test(container)) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no container: write azure://CONTAINER[/PREFIX]`);
  }
  return { container, prefix, endpoint, caFile: ca };
}

function connectionStringOf(env: StoreContext["env"]): string | undefined {
  return env["AZURE_CONNECTION_STRING"] || env["AZURE_STORAGE_CONNECTION_STRING"] || undefined;
}

function accountOf(env: StoreContext["env"]): string | undefined {
  return env["AZURE_ACCOUNT_NAME"] || env["AZURE_STORAGE_ACCOUNT"] || undefined;
}

function urlOfAccount(account: string, env: StoreContext["env"]): string {
  return `https://${account}.blob.${env["AZURE_ENDPOINT_SUFFIX"] || "core.windows.net"}`;
}

/** The URL of the account in a connection string, as the SDK reads it. */
function urlInConnectionString(text: string): string {
  const parts = new Map(
    text.split(";").map((part) => {
      const equals = part.indexOf("=");
      return [part.slice(0, equals).trim(), part.slice(equals + 1).trim()];
    }),
  );
  if (parts.get("UseDevelopmentStorage") === "true") return "http://127.0.0.1:10000/devstoreaccount1";
  const account = parts.get("AccountName") ?? "";
  const suffix = parts.get("EndpointSuffix") ?? "core.windows.net";
  return parts.get("BlobEndpoint") || `${parts.get("DefaultEndpointsProtocol") ?? "https"}://${account}.blob.${suffix}`;
}

function azurePlace(url: StoreUrl, env: StoreContext["env"]): StorePlace {
  const { container, prefix, endpoint } = readAzureUrl(url);
  const connectionString = connectionStringOf(env);
  const account =
    connectionString === undefined
      ? (endpoint ?? urlOfAccount(accountOf(env) ?? "", env))
      : urlInConnectionString(connectionString);
  return { server: ["azure", serviceUrl(account) ?? "", container], path: prefixParts(prefix) };
}

/**
 * Carries the SDK's requests, which are signed by then, over the same HTTP as the other kinds of store have: with its
 * limits of time, its proxies, and an end to answers that are no objects, which the SDK's own client reads whole.
 */
class AzureHttp implements Sdk.IHttpClient {
  readonly #http: HttpService;

  constructor(http: HttpService) {
    this.#http = http;
  }

  async sendRequest(request: Sdk.WebResource): Promise<Sdk.HttpOperationResponse> {
    const { origin, pathname, search, searchParams } = new URL(request.url);
    // Done twice, it would be told that its own first time stands in its way.
    const once = request.headers.contains("if-none-match") || searchParams.get("comp") === "blocklist";
    const streamed = request.streamResponseStatusCodes;
    const answer = await this.#http.send({
      method: request.method as ServiceRequest["method"],
      origin,
      path: pathname + search,
      headers: request.headers.toJson(),
      body: bytesOf(request.body),
      once,
      held: streamed !== undefined && streamed.size > 0,
      signal: request.abortSignal as AbortSignal,
    });
    const { status } = answer;
    const headers = request.headers.clone();
    for (const name of headers.headerNames()) headers.remove(name);
    for (const [name, value] of Object.entries(answer.headers)) headers.set(name, value);
    const response = { request, status, headers };
    if (streamed?.has(status)) return { ...response, readableStreamBody: answer.body };
    return { ...response, bodyAsText: await textOf(answer) };
  }
}

function bytesOf(body: unknown): readonly Uint8Array[] | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return [Buffer.from(body)];
  if (body instanceof Uint8Array) return [body];
  throw new HoldfastError("internal", "the SDK sends a body in a form that was not expected");
}

function serviceClient(sdk: typeof Sdk, settings: AzureSettings, http: HttpService): Sdk.BlobServiceClient {
  // The caller decides how often to try: see the retry wrapper.
  const options = { retryOptions: { maxTries: 1 }, httpClient: new AzureHttp(http) };
  try {
    if (settings.connectionString !== undefined) {
      return sdk.BlobServiceClient.fromConnectionString(settings.connectionString, options);
    }
    const { key, accountUrl = "" } = settings;
    const credential = key ? new sdk.StorageSharedKeyCredential(key.account, key.key) : undefined;
    return new sdk.BlobServiceClient(accountUrl, credential, options);
  } catch (error) {
    // Without the cause, whose message may hold the connection string.
    const which = settings.connectionString === undefined ? "account name, key or endpoint" : "connection string";
    throw new HoldfastError("config", `the ${which} for Azure cannot be understood (${(error as Error).name})`);
  }
}

export type AzureStoreOptions = ObjectStoreOptions;

/** Blocks on their way to be a blob. */
interface Upload {
  readonly name: string;
  readonly ifAbsent: boolean;
  readonly blob: Sdk.BlockBlobClient;
  /** Blocks of all who put this blob stand side by side until one of them commits: ids must not meet. */
  readonly own: string;
  readonly ids: string[];
  readonly md5: Hash;
}

export class AzureStore extends ObjectStore<Upload> {
  constructor(sdk: typeof Sdk, url: StoreUrl, context: StoreContext, options: AzureStoreOptions = {}) {
    super(new Azure(sdk, url, context, options), context);
  }
}

class Azure implements ObjectService<Upload> {
  readonly kind = "azure";
  readonly operations: Operations;
  readonly capabilities = { orderedList: true, maxObjectBytes: MAX_OBJECT_BYTES, storeDigests: ["md5"] } as const;
  readonly prefix: string;
  readonly attempts = BLOCK_ATTEMPTS;
  readonly parallel = { parts: PARALLEL_BLOCKS, bytes: IN_FLIGHT_BYTES };
  readonly #http: HttpService;
  readonly #container: Sdk.ContainerClient;
  readonly #partBytes: number;
  readonly #pageNames: number;

  constructor(sdk: typeof Sdk, url: StoreUrl, context: StoreContext, options: AzureStoreOptions) {
    const settings = parseAzureUrl(url, context.env);
    this.prefix = settings.prefix;
    this.#http = new HttpService({ env: context.env, caFile: settings.caFile });
    this.#container = serviceClient(sdk, settings, this.#http).getContainerClient(settings.container);
    this.#partBytes = options.partBytes ?? 8 * MIB;
    this.#pageNames = options.pageNames ?? 5000;
    this.operations = new Operations({
      context,
      secrets: secretsOf(url, context.env),
      mapError: (error) => mapAzureError(error, settings.container, context.runtime.now()),
      checkName: (name) => {
        const refusal = whyNotHeld(this.prefix + name);
        if (refusal !== undefined) throw new HoldfastError("invalid", `Azure cannot hold the name: ${refusal}`);
      },
    });
  }

  plan(): PartPlan {
    return { partBytes: this.#partBytes, maxParts: MAX_BLOCKS, maxBytes: MAX_OBJECT_BYTES };
  }

  async putOnce({ name, ifAbsent }: ObjectPut, part: Part, abortSignal: AbortSignal): Promise<void> {
    const bytes = joinChunks(part.chunks);
    const md5 = md5Of(part);
    const answer = await this.#blob(name).upload(bytes, bytes.length, {
      abortSignal,
      blobHTTPHeaders: { blobContentMD5: md5 },
      ...conditions(ifAbsent),
    });
    if (answer.contentMD5 && !md5.equals(answer.contentMD5)) {
      throw new HoldfastError("corrupt", "the service stored other bytes than were sent (their MD5 differ)");
    }
  }

  async begin({ name, ifAbsent }: ObjectPut): Promise<Upload> {
    const own = randomBytes(12).toString("hex");
    return { name, ifAbsent, blob: this.#blob(name), own, ids: [], md5: createHash("md5") };
  }

  async part({ blob, own, ids, md5 }: Upload, part: Part, abortSignal: AbortSignal, attempt: number): Promise<void> {
    const id = Buffer.from(`${own}-${String(part.number).padStart(6, "0")}`).toString("base64");
    // Parts come in order, and everything before the first await happens in that order.
    if (attempt === 1) {
      for (const chunk of part.chunks) md5.update(chunk);
      ids.push(id);
    }
    const bytes = joinChunks(part.chunks);
    await blob.stageBlock(id, bytes, bytes.length, { abortSignal, transactionalContentMD5: md5Of(part) });
  }

  async complete({ name, ifAbsent, blob, ids, md5 }: Upload, abortSignal: AbortSignal): Promise<void> {
    const blobContentMD5 = md5.digest();
    await this.operations.attempts(ifAbsent ? 1 : BLOCK_ATTEMPTS, abortSignal, async (attempt) => {
      try {
        await blob.commitBlockList(ids, { abortSignal, blobHTTPHeaders: { blobContentMD5 }, ...conditions(ifAbsent) });
      } catch (error) {
        // The answer to an earlier attempt was lost: its blocks are the blob now.
        if (attempt === 1 || codeOf(error) !== "InvalidBlockList") throw error;
        const { digests } = await this.head(name, abortSignal);
        if (digests?.md5 !== blobContentMD5.toString("hex")) throw error;
      }
    });
  }

  async read(name: string, range: ByteRange | undefined, abortSignal: AbortSignal): Promise<ObjectRead> {
    let answer: Sdk.BlobDownloadResponseParsed;
    try {
      answer = await this.#blob(name).download(range?.offset ?? 0, range?.length, { abortSignal, maxRetryRequests: 0 });
    } catch (error) {
      // Also for a range that begins at the very end, where there is nothing to send.
      if (!range || statusOf(error) !== 416) throw error;
      const info = await this.head(name, abortSignal);
      return { info: () => info };
    }
    const stream = answer.readableStreamBody;
    if (!(stream instanceof Readable)) throw new HoldfastError("internal", "the SDK gave no stream");
    const info = (): ObjectInfo => {
      // The SDK asks for no range when it is the whole blob. A part of a blob comes with its own MD5; that of the whole is
      // apart.
      return range && (range.offset > 0 || range.length !== undefined)
        ? infoOf(name, rangeSize(answer.contentRange, range.offset), answer.lastModified, answer.blobContentMD5)
        : infoOf(name, answer.contentLength, answer.lastModified, answer.contentMD5 ?? answer.blobContentMD5);
    };
    return { stream, info };
  }

  async head(name: string, abortSignal: AbortSignal): Promise<ObjectInfo> {
    const answer = await this.#blob(name).getProperties({ abortSignal });
    return infoOf(name, answer.contentLength, answer.lastModified, answer.contentMD5);
  }

  async page(prefix: string, { token }: PagePosition, abortSignal: AbortSignal): Promise<ObjectPage> {
    const pages = this.#container
      .listBlobsFlat({ prefix, abortSignal })
      .byPage({ maxPageSize: this.#pageNames, ...(token === undefined ? {} : { continuationToken: token }) });
    const page = await pages.next().catch((error: unknown) => {
      const mapped = this.operations.mapped(error);
      if (mapped.code !== "internal") throw error;
      throw new HoldfastError("unavailable", `the listing cannot be understood: ${mapped.message}`, { cause: error });
    });
    if (page.done) return { objects: [], next: undefined };
    const objects = page.value.segment.blobItems.map(({ name, properties }: Sdk.BlobItem) =>
      infoOf(name, properties.contentLength ?? 0, properties.lastModified, properties.contentMD5),
    );
    return { objects, next: page.value.continuationToken || undefined };
  }

  async remove(name: string, abortSignal: AbortSignal): Promise<boolean> {
    try {
      await this.#blob(name).delete({ abortSignal, deleteSnapshots: "include" });
      return true;
    } catch (error) {
      if (this.operations.mapped(error).code !== "not-found") throw error;
      return false;
    }
  }

  close(): void {
    this.#http.close();
  }

  #blob(name: string): Sdk.BlockBlobClient {
    return this.#container.getBlockBlobClient(this.prefix + name);
  }
}

/**
 * Why a blob cannot have a name; undefined when it can. Refused is what the service, or URLs on the way to it, would
 * change: dots at the end of a part, backslashes, characters that XML cannot carry. The service's limits are 1,024
 * characters and 254 parts.
 */
function whyNotHeld(blob: string): string | undefined {
  const parts = blob.split("/");
  if (parts.some((part) => part.endsWith("."))) return "a part of it ends with a dot";
  if (parts.length > 254) return "it has more than 254 parts";
  if (Buffer.byteLength(blob) > MAX_NAME_BYTES) return "it is too long";
  if (blob.includes("\\")) return "it has a backslash";
  // oxlint-disable-next-line no-control-regex -- these are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f\ufffe\uffff]/u.test(blob)) return "it has a control character";
  return undefined;
}

function conditions(ifAbsent: boolean): { conditions?: { ifNoneMatch: string } } {
  return ifAbsent ? { conditions: { ifNoneMatch: "*" } } : {};
}

function infoOf(
  name: string,
  size: number | undefined,
  modified: Date | undefined,
  md5: Uint8Array | undefined,
): ObjectInfo {
  if (size === undefined) throw new HoldfastError("unavailable", "the server did not say how long the blob is");
  return objectInfo(name, size, modified?.getTime() ?? Number.NaN, md5 && Buffer.from(md5).toString("hex"));
}

/** The service's error codes that say more than the HTTP status does: code of Holdfast, and whether to try again. */
const serviceCodes: Readonly<Record<string, readonly [ErrorCode, boolean?]>> = {
  BlobNotFound: ["not-found"],
  ResourceNotFound: ["not-found"],
  BlobAlreadyExists: ["conflict"],
  ConditionNotMet: ["conflict"],
  // Another writer of the same blob committed meanwhile, which discards all blocks that wait.
  InvalidBlockList: ["conflict", true],
  InvalidBlobOrBlock: ["conflict", true],
  AuthenticationFailed: ["denied"],
  AuthorizationFailure: ["denied"],
  AuthorizationPermissionMismatch: ["denied"],
  InsufficientAccountPermissions: ["denied"],
  InvalidAuthenticationInfo: ["denied"],
  AccountIsDisabled: ["denied"],
  BlobImmutableDueToPolicy: ["denied"],
  ServerBusy: ["throttled"],
  IngressExceedsAccountLimit: ["throttled"],
  OperationTimedOut: ["timeout"],
  InternalError: ["unavailable"],
  Md5Mismatch: ["corrupt", true],
  InvalidMd5: ["corrupt", true],
  AccountLimitExceeded: ["full"],
  BlobArchived: ["unavailable", false],
  BlobBeingRehydrated: ["unavailable", false],
  ContainerBeingDeleted: ["unavailable"],
  ContainerDisabled: ["unavailable", false],
  InvalidRange: ["invalid"],
  InvalidResourceName: ["invalid"],
  InvalidUri: ["invalid"],
  RequestBodyTooLarge: ["invalid"],
  REQUEST_SEND_ERROR: ["unavailable"],
  PARSE_ERROR: ["unavailable"],
};

/** What the SDK threw, as an error of Holdfast. */
export function mapAzureError(error: unknown, container: string, nowMs: number): HoldfastError {
  if (isHoldfastError(error)) return error;
  const code = codeOf(error);
  if (code === "ContainerNotFound") {
    return new HoldfastError("unavailable", `the container ${container} does not exist`, {
      cause: error,
      retryable: false,
    });
  }
  const status = statusOf(error);
  // The message goes on with the whole answer, headers and all.
  const said = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  const message = code === "" ? said : `${code}: ${said}`;
  const byStatus =
    status === undefined
      ? undefined
      : httpError({ status, message, retryAfter: retryAfterOf(error), nowMs, cause: error });
  const known = serviceCodes[code];
  if (known) {
    const network = code === "REQUEST_SEND_ERROR" ? networkError(error) : undefined;
    if (network) return network;
    const [mapped, retryable] = known;
    return new HoldfastError(mapped, message, { cause: error, retryable, retryAfterMs: byStatus?.retryAfterMs });
  }
  const network = networkError(error);
  if (network) return network;
  // Aborts of our own never come here (see Operations): this is how the library says that a connection broke.
  if (error instanceof Error && error.name === "AbortError") {
    return new HoldfastError("unavailable", "the connection ended early", { cause: error });
  }
  if (byStatus && status !== undefined && status >= 300) return byStatus;
  if (byStatus) return new HoldfastError("unavailable", `the answer cannot be understood: ${said}`, { cause: error });
  // A mistake of ours or of the SDK's; or, in the SDK's reading of XML, an answer that is nonsense.
  return new HoldfastError("internal", message, { cause: error });
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const { code, details } = error as { code?: unknown; details?: { errorCode?: unknown } };
  if (typeof code === "string") return code;
  return typeof details?.errorCode === "string" ? details.errorCode : "";
}

function statusOf(error: unknown): number | undefined {
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
    ? error.statusCode
    : undefined;
}

function retryAfterOf(error: unknown): string | undefined {
  const { response } = error as { response?: { headers?: { get?: (name: string) => string | undefined } } };
  return response?.headers?.get?.("retry-after");
}

export const azureKind: StoreKind = {
  open: async (url, context) => {
    const sdk = await loadPeer("@azure/storage-blob", "Azure Blob Storage", () => import("@azure/storage-blob"));
    return new AzureStore(sdk, url, context);
  },
  place: azurePlace,
};
