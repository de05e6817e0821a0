/**
 * Requests to an S3 service: where its bucket is, who asks, the signature, and what an answer says when it is no success.
 *
 * Ten requests are all that a store needs. The SDK's client took 1.0 ms of CPU for each small object and 0.2 s to load;
 * this takes a third. The SDK's own chain of credentials (profiles, single sign-on, roles, metadata services) is loaded
 * where the environment has no keys.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { isIP } from "node:net";
import { homedir } from "node:os";
import path from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreContext } from "../base/store-kind.ts";
import {
  canonicalQuery,
  canonicalText,
  encodePath,
  sign,
  signingKey,
  stringToSign,
} from "../../support/signature-v4.ts";
import { parseXmlDocument } from "../../support/xml.ts";
import type { XmlElement } from "../../support/xml.ts";
import { HttpService, drain, textOf } from "../base/http-service.ts";
import type { ServiceAnswer, ServiceRequest } from "../base/http-service.ts";
import { serviceUrl } from "../base/place.ts";

/** Keys to sign with, as the SDK's chain gives them. */
interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
  readonly expiration?: Date | undefined;
}

export interface S3ServiceSettings {
  readonly bucket: string;
  /** Undefined: AWS's own. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly profile?: string | undefined;
  /** Whether the bucket stands in the path or in the name of the host. */
  readonly pathStyle: boolean;
  readonly caFile?: string | undefined;
}

export interface S3Request {
  readonly method: ServiceRequest["method"];
  /** Undefined: the bucket itself. */
  readonly key?: string;
  readonly query?: readonly (readonly [name: string, value: string])[];
  /** Names in lower case. All of them are signed. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  /** Its MD5 is in the headers, and the answer to it says which MD5 the service has. Default false. */
  readonly md5Comes?: boolean;
  /** The caller reads the answer in its own time. Default false. */
  readonly held?: boolean;
  readonly signal: AbortSignal;
}

/** What the service said instead of doing what it was asked. */
export class S3Failure extends Error {
  override readonly name = "S3Failure";
  readonly status: number;
  /** Of the service, as `NoSuchKey`; empty where it gave none. */
  readonly code: string;
  readonly retryAfter: string | undefined;

  constructor(status: number, code: string, message: string, retryAfter?: string) {
    super(code === "" ? message : `${code}: ${message}`);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const EMPTY_SHA256 = createHash("sha256").digest("hex");
/** The session of a directory bucket (S3 Express) is renewed when it has less than this left, in milliseconds. */
const SESSION_MARGIN_MS = 60_000;

/** AWS's partitions whose hosts do not end with amazonaws.com, by how their regions begin. */
const partitions: readonly (readonly [regions: RegExp, suffix: string])[] = [
  [/^cn-/u, "amazonaws.com.cn"],
  [/^eusc-/u, "amazonaws.eu"],
  [/^us-iso-/u, "c2s.ic.gov"],
  [/^us-isob-/u, "sc2s.sgov.gov"],
  [/^eu-isoe-/u, "cloud.adc-e.uk"],
  [/^us-isof-/u, "csp.hci.ic.gov"],
];

export class S3Service {
  readonly #settings: S3ServiceSettings;
  readonly #context: StoreContext;
  readonly #http: HttpService;
  readonly #staticKeys: Keys | undefined;
  #chain: (() => Promise<Keys>) | undefined;
  #place: Promise<BucketPlace> | undefined;
  #session: Promise<Keys> | undefined;
  /** The key of the day, and what it was made from. */
  #signing: { readonly of: string; readonly key: Buffer } | undefined;
  /** How far the service's clock is ahead of this one, in milliseconds, where that came to matter. */
  #skewMs = 0;

  constructor(settings: S3ServiceSettings, context: StoreContext) {
    this.#settings = settings;
    this.#context = context;
    this.#http = new HttpService({ env: context.env, caFile: settings.caFile });
    this.#staticKeys = staticKeys(settings, context.env);
  }

  /** Sends a request. Rejects with an {@link S3Failure} for every answer that is no success. */
  async send(request: S3Request): Promise<ServiceAnswer> {
    const place = await (this.#place ??= this.#findPlace());
    const keys = place.express ? await this.#sessionKeys(place, request.signal) : await this.#keys();
    return this.#signed(request, place, keys);
  }

  /** Sends a request whose success has nothing to read, and gives the answer's headers. */
  async headersOf(request: S3Request): Promise<ServiceAnswer["headers"]> {
    const answer = await this.send(request);
    await drain(answer);
    return answer.headers;
  }

  /** Sends a request whose answer is a document called `root`. */
  async documentOf(request: S3Request, root: string): Promise<XmlElement> {
    return documentIn(await this.send(request), root);
  }

  close(): void {
    this.#http.close();
  }

  async #signed(request: S3Request, place: BucketPlace, keys: Keys): Promise<ServiceAnswer> {
    const { method, key, body, signal, held } = request;
    const query = canonicalQuery(request.query ?? []);
    const target = `${place.path}${key === undefined ? "" : encodePath(key)}`;
    const now = new Date(this.#context.runtime.now() + this.#skewMs);
    const timestamp = `${now.toISOString().slice(0, 19).replaceAll(/[-:]/gu, "")}Z`;
    const payload = payloadOf(request, place.origin);
    const headers: Record<string, string> = {
      ...request.headers,
      host: place.host,
      "x-amz-content-sha256": payload,
      "x-amz-date": timestamp,
    };
    if (keys.sessionToken !== undefined) {
      const isSession = place.express && request.headers?.["x-amz-create-session-mode"] === undefined;
      headers[isSession ? "x-amz-s3session-token" : "x-amz-security-token"] = keys.sessionToken;
    }
    const signed = Object.keys(headers)
      .sort()
      .map((name): [string, string] => [name, headers[name] ?? ""]);
    const date = timestamp.slice(0, 8);
    const scope = `${date}/${place.region}/${place.service}/aws4_request`;
    const text = stringToSign(
      timestamp,
      scope,
      canonicalText({ method, path: target, query, headers: signed, payload }),
    );
    const signature = sign(this.#keyOf(keys, date, place), text);
    const names = signed.map(([name]) => name).join(";");
    headers["authorization"] =
      `AWS4-HMAC-SHA256 Credential=${keys.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
    const answer = await this.#http.send({
      method,
      origin: place.origin,
      path: query === "" ? target : `${target}?${query}`,
      headers,
      body: body ?? (method === "PUT" || method === "POST" ? [] : undefined),
      // The second of two that are the same would be answered otherwise.
      once: method === "POST" || headers["if-none-match"] !== undefined,
      signal,
      ...(held === undefined ? {} : { held }),
    });
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw await this.#failure(answer, method === "HEAD");
  }

  #keyOf(keys: Keys, date: string, { region, service }: BucketPlace): Buffer {
    const of = `${keys.secretAccessKey}/${date}`;
    if (this.#signing?.of !== of) {
      this.#signing = { of, key: signingKey(keys.secretAccessKey, date, region, service) };
    }
    return this.#signing.key;
  }

  async #failure(answer: ServiceAnswer, isHead: boolean): Promise<S3Failure> {
    const text = isHead ? "" : await textOf(answer);
    if (isHead) await drain(answer);
    const failure = failureOf(answer, text);
    if (failure.code === "RequestTimeTooSkewed") {
      const theirs = Date.parse(answer.headers["date"] ?? "");
      if (!Number.isNaN(theirs)) this.#skewMs = theirs - this.#context.runtime.now();
    }
    return failure;
  }

  // --------------------------------------------------------------------------------------------------------- where

  async #findPlace(): Promise<BucketPlace> {
    const region = this.#settings.region ?? (await this.#regionOfFiles()) ?? "us-east-1";
    return placeOf(this.#settings, region, this.#context.env);
  }

  /** The region of the profile in AWS's configuration files; undefined where there is none. */
  async #regionOfFiles(): Promise<string | undefined> {
    const { env } = this.#context;
    const files = filesOf(env);
    const usual = path.join(env["HOME"] ?? homedir(), ".aws");
    const places = [
      files.configFilepath ?? path.join(usual, "config"),
      files.filepath ?? path.join(usual, "credentials"),
    ];
    if (!places.some((file) => existsSync(file))) return undefined;
    const { parseKnownFiles } = await import("@smithy/core/config");
    const profile = profileOf(this.#settings, env);
    const known = await parseKnownFiles({ ...files, ...(profile === undefined ? {} : { profile }) }).catch(
      () => undefined,
    );
    return known?.[profile ?? "default"]?.["region"];
  }

  // ----------------------------------------------------------------------------------------------------------- who

  async #keys(): Promise<Keys> {
    if (this.#staticKeys !== undefined) return this.#staticKeys;
    this.#chain ??= await this.#openChain();
    return this.#chain();
  }

  async #openChain(): Promise<() => Promise<Keys>> {
    const { env } = this.#context;
    const profile = profileOf(this.#settings, env);
    const { defaultProvider } = await import("@aws-sdk/credential-provider-node");
    const provider = defaultProvider({
      ...filesOf(env),
      ...(profile === undefined ? {} : { profile }),
      ...(env["AWS_WEB_IDENTITY_TOKEN_FILE"] ? { webIdentityTokenFile: env["AWS_WEB_IDENTITY_TOKEN_FILE"] } : {}),
      ...(env["AWS_ROLE_ARN"] ? { roleArn: env["AWS_ROLE_ARN"] } : {}),
      ...(env["AWS_ROLE_SESSION_NAME"] ? { roleSessionName: env["AWS_ROLE_SESSION_NAME"] } : {}),
    });
    return () =>
      provider().catch((error: unknown) => {
        throw noCredentials(error, profile);
      });
  }

  /** Directory buckets (S3 Express) take keys of their own, which they give for some minutes. */
  async #sessionKeys(place: BucketPlace, signal: AbortSignal): Promise<Keys> {
    const known = await this.#session?.catch(() => undefined);
    const until = known?.expiration?.getTime() ?? 0;
    if (known !== undefined && until - this.#context.runtime.now() > SESSION_MARGIN_MS) return known;
    this.#session = this.#createSession(place, signal);
    return this.#session;
  }

  async #createSession(place: BucketPlace, signal: AbortSignal): Promise<Keys> {
    const request: S3Request = {
      method: "GET",
      query: [["session", ""]],
      headers: { "x-amz-create-session-mode": "ReadWrite" },
      signal,
    };
    const answer = await this.#signed(request, place, await this.#keys());
    const [session] = (await documentIn(answer, "CreateSessionResult")).all("Credentials");
    const [accessKeyId, secretAccessKey] = [session?.text("AccessKeyId"), session?.text("SecretAccessKey")];
    if (!accessKeyId || !secretAccessKey) throw new HoldfastError("unavailable", "the service gave no session's keys");
    return {
      accessKeyId,
      secretAccessKey,
      sessionToken: session?.text("SessionToken"),
      expiration: new Date(session?.text("Expiration") ?? 0),
    };
  }
}

/** The chain's own message names none of the variables that it looked for. */
function noCredentials(error: unknown, profile: string | undefined): unknown {
  if (
    !(error instanceof Error) ||
    !/^Could not load credentials from any providers|^Could not resolve credentials using profile/u.test(error.message)
  )
    return error;
  const where = profile === undefined ? "" : ` for the profile ${profile}`;
  return new HoldfastError(
    "denied",
    `no credentials were found${where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the store's env or in the environment, or name a profile of ~/.aws/credentials in AWS_PROFILE`,
    { cause: error },
  );
}

/** Where a bucket is. */
export interface BucketPlace {
  readonly origin: string;
  readonly host: string;
  /** Before the key, encoded; ends with a slash. */
  readonly path: string;
  readonly region: string;
  /** The service's name in signatures. */
  readonly service: string;
  /** A directory bucket. */
  readonly express: boolean;
}

/** Where the bucket of a store is, if it is in `region`. */
export function placeOf(settings: S3ServiceSettings, region: string, env: StoreContext["env"]): BucketPlace {
  const { bucket, endpoint, pathStyle } = settings;
  const express = bucket.endsWith("--x-s3");
  const base = new URL(endpoint ?? awsEndpoint(region, express ? bucket : undefined, env));
  // A name with dots is covered by no certificate, and one that no host can have by no name service.
  const isHost =
    !pathStyle && /^[a-z0-9][a-z0-9-]*[a-z0-9]$/u.test(bucket) && isIP(base.hostname.replaceAll(/[[\]]/gu, "")) === 0;
  const host = isHost ? `${bucket}.${base.host}` : base.host;
  const root = base.pathname.replace(/\/+$/u, "");
  return {
    origin: `${base.protocol}//${host}`,
    host,
    path: isHost ? `${root}/` : `${root}/${bucket}/`,
    region,
    service: express ? "s3express" : "s3",
    express,
  };
}

/** AWS's partition that a region is in, as the end of its hosts' names. */
function partitionOf(region: string): string {
  return partitions.find(([regions]) => regions.test(region))?.[1] ?? "amazonaws.com";
}

function awsEndpoint(region: string, directoryBucket: string | undefined, env: StoreContext["env"]): string {
  const suffix = partitionOf(region);
  if (directoryBucket !== undefined) {
    const zone = /--([^-]+(?:-[^-]+)*)--x-s3$/u.exec(directoryBucket)?.[1] ?? "";
    return `https://s3express-${zone}.${region}.${suffix}`;
  }
  if (region === "aws-global") return `https://s3.${suffix}`;
  const fips = env["AWS_USE_FIPS_ENDPOINT"] === "true" ? "-fips" : "";
  const dual = env["AWS_USE_DUALSTACK_ENDPOINT"] === "true" ? ".dualstack" : "";
  return `https://s3${fips}${dual}.${region}.${suffix}`;
}

/**
 * The digest of the body that is signed with the request. It is left out where TLS guards the body on its way, and where its MD5
 * does: signed with the request, for the service to check, and in the service's answer.
 */
function payloadOf({ body, md5Comes }: S3Request, origin: string): string {
  if (body === undefined || body.length === 0) return EMPTY_SHA256;
  if (origin.startsWith("https:") || md5Comes === true) return "UNSIGNED-PAYLOAD";
  const hash = createHash("sha256");
  for (const chunk of body) hash.update(chunk);
  return hash.digest("hex");
}

function profileOf(settings: S3ServiceSettings, env: StoreContext["env"]): string | undefined {
  return settings.profile ?? (env["AWS_PROFILE"] || undefined);
}

/**
 * Where a bucket's name means one bucket: a whole partition of AWS, whatever the region and whoever asks; of another service
 * what one user sees, since some keep buckets of one name for several tenants. The name of an access key is its user's.
 */
export function namespaceOf(settings: S3ServiceSettings, env: StoreContext["env"]): readonly string[] {
  if (settings.endpoint === undefined) return [partitionOf(settings.region ?? "")];
  const keys = staticKeys(settings, env);
  const user =
    keys === undefined
      ? ["profile", profileOf(settings, env) ?? "default", ...Object.values(filesOf(env))]
      : ["key", keys.accessKeyId];
  return [serviceUrl(settings.endpoint) ?? "", ...user];
}

function filesOf(env: StoreContext["env"]): { filepath?: string; configFilepath?: string } {
  return {
    ...(env["AWS_SHARED_CREDENTIALS_FILE"] ? { filepath: env["AWS_SHARED_CREDENTIALS_FILE"] } : {}),
    ...(env["AWS_CONFIG_FILE"] ? { configFilepath: env["AWS_CONFIG_FILE"] } : {}),
  };
}

/** The keys in the store's environment, unless a profile was named for this store and they were not. */
function staticKeys(settings: S3ServiceSettings, env: StoreContext["env"]): Keys | undefined {
  // A variable that differs from the process's was given to this store, and means more than one it was started with.
  const isOwn = (name: string): boolean => Boolean(env[name]) && env[name] !== process.env[name];
  const profileFirst =
    settings.profile !== undefined ||
    (isOwn("AWS_PROFILE") && !isOwn("AWS_ACCESS_KEY_ID") && !isOwn("AWS_SECRET_ACCESS_KEY"));
  const [accessKeyId, secretAccessKey] = [env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]];
  if (!accessKeyId || !secretAccessKey || profileFirst) return undefined;
  return { accessKeyId, secretAccessKey, sessionToken: env["AWS_SESSION_TOKEN"] || undefined };
}

/** The document in an answer. An error in it is an error though the status is a success: S3 begins some answers early. */
async function documentIn(answer: ServiceAnswer, root: string): Promise<XmlElement> {
  const text = (await textOf(answer)).trim();
  let document: ReturnType<typeof parseXmlDocument>;
  try {
    document = parseXmlDocument(text);
  } catch (error) {
    throw new HoldfastError("unavailable", "the answer cannot be understood", { cause: error });
  }
  if (document.name === root) return document.root;
  if (document.name === "Error") throw failureOf(answer, text);
  throw new HoldfastError("unavailable", `the answer cannot be understood: it is a ${document.name}, not a ${root}`);
}

function failureOf({ status, headers }: ServiceAnswer, text: string): S3Failure {
  let error: XmlElement | undefined;
  try {
    const document = parseXmlDocument(text.trim());
    if (document.name === "Error") error = document.root;
  } catch {
    // Something in between answered, in words of its own.
  }
  const message = error?.text("Message") || `the service answered ${status}`;
  return new S3Failure(status, error?.text("Code") ?? "", message, headers["retry-after"]);
}
