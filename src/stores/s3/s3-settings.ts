/** Settings of an S3 store, by its URL and the environment. */
import { HoldfastError } from "../../contract/errors.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { oneOf, pathParts, urlParameters } from "../base/url-parameters.ts";

/** Parts of one upload, as S3 itself has it. */
const MAX_PARTS = 10_000;

/** A store's URL and environment, understood. */
export interface S3Settings {
  readonly bucket: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  /** Undefined: AWS's own. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly profile?: string | undefined;
  readonly pathStyle: boolean;
  readonly storageClass?: string | undefined;
  readonly serverSideEncryption?: "AES256" | "aws:kms" | undefined;
  readonly kmsKeyId?: string | undefined;
  readonly caFile?: string | undefined;
  readonly conditionalPut: "on" | "at-once" | "off";
  readonly etagIsMd5: boolean;
  readonly maxParts: number;
}

const parameterNames = [
  "endpoint",
  "region",
  "profile",
  "style",
  "tls",
  "ca",
  "storage-class",
  "sse",
  "sse-kms-key",
  "conditional-put",
  "etag",
  "max-parts",
] as const;

/** Reads a URL in the forms above. Throws `config`. */
export function parseS3Url(url: StoreUrl, env: StoreContext["env"]): S3Settings {
  const parameters = urlParameters(url, parameterNames);
  if (url.username !== undefined || url.password !== undefined) {
    throw new HoldfastError(
      "config",
      "credentials do not stand in an s3 URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the store's env",
    );
  }
  const tls = oneOf("tls", parameters.tls, ["on", "off"]) ?? "on";
  const parts = pathParts(url.path);
  const hostIsEndpoint =
    url.scheme === "s3" &&
    parameters.endpoint === undefined &&
    (url.port !== undefined || /[.:]/u.test(url.host) || url.host === "localhost");
  let endpoint: string | undefined;
  if (hostIsEndpoint) {
    const host = url.host.includes(":") ? `[${url.host}]` : url.host;
    endpoint = `${tls === "on" ? "https" : "http"}://${host}${url.port === undefined ? "" : `:${url.port}`}`;
  } else {
    if (url.port !== undefined) throw new HoldfastError("config", "a bucket has no port: write s3://HOST:PORT/BUCKET");
    if (url.host !== "") parts.unshift(url.host);
    endpoint = parameters.endpoint ?? (env["AWS_ENDPOINT_URL_S3"] || env["AWS_ENDPOINT_URL"] || undefined);
    if (endpoint !== undefined && !/^[a-z]+:\/\//iu.test(endpoint)) {
      endpoint = `${tls === "on" ? "https" : "http"}://${endpoint}`;
    }
  }
  const host = endpoint === undefined ? undefined : endpointHost(endpoint);
  const [bucket, ...prefix] = parts;
  if (bucket === undefined) {
    throw new HoldfastError("config", `the URL ${url.redacted} names no bucket: write s3://BUCKET or s3://HOST/BUCKET`);
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/u.test(bucket)) {
    throw new HoldfastError("config", `${JSON.stringify(bucket)} cannot be the name of a bucket`);
  }
  const isAws = host === undefined || /(?:^|\.)amazonaws\.com(?:\.cn)?$/u.test(host);
  const sse = oneOf("sse", parameters.sse, ["AES256", "aws:kms"]);
  if (parameters["sse-kms-key"] !== undefined && sse !== "aws:kms") {
    throw new HoldfastError("config", "sse-kms-key needs sse=aws:kms");
  }
  const knowsConditions = isAws || (host?.endsWith(".r2.cloudflarestorage.com") ?? false);
  return {
    bucket,
    prefix: prefix.length === 0 ? "" : `${prefix.join("/")}/`,
    // AWS's own hosts are left to the SDK, which knows them by region.
    endpoint: isAws ? undefined : endpoint,
    region:
      parameters.region ??
      /(?:^|\.)s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com/u.exec(host ?? "")?.[1] ??
      (env["AWS_REGION"] || env["AWS_DEFAULT_REGION"] || undefined),
    profile: parameters.profile,
    pathStyle: (oneOf("style", parameters.style, ["path", "virtual"]) ?? (isAws ? "virtual" : "path")) === "path",
    storageClass: parameters["storage-class"],
    serverSideEncryption: sse,
    kmsKeyId: parameters["sse-kms-key"],
    caFile: parameters.ca ?? (env["AWS_CA_BUNDLE"] || undefined),
    conditionalPut:
      oneOf("conditional-put", parameters["conditional-put"], ["on", "at-once", "off"]) ??
      (knowsConditions ? "on" : "off"),
    etagIsMd5:
      (oneOf("etag", parameters.etag, ["md5", "opaque"]) ?? (bucket.endsWith("--x-s3") ? "opaque" : "md5")) === "md5",
    maxParts: maxPartsOf(parameters["max-parts"]),
  };
}

function maxPartsOf(text: string | undefined): number {
  const parts = text === undefined ? MAX_PARTS : Number(text);
  if (!Number.isInteger(parts) || parts < 10 || parts > MAX_PARTS) {
    throw new HoldfastError("config", `max-parts is a number from 10 to ${MAX_PARTS}, not ${String(text)}`);
  }
  return parts;
}

function endpointHost(endpoint: string): string {
  try {
    const url = new URL(endpoint);
    if (!["http:", "https:"].includes(url.protocol) || url.username !== "" || url.search !== "") throw new Error();
    return url.hostname;
  } catch (error) {
    throw new HoldfastError("config", "endpoint= must be the http:// or https:// URL of the service, without a user", {
      cause: error,
    });
  }
}
