/** Opens one store by its URL: the one list of schemes and the kinds behind them. */
import { HoldfastError, isHoldfastError, toHoldfastError } from "../contract/errors.ts";
import type { Logger } from "../contract/log.ts";
import { silentLogger } from "../contract/log.ts";
import { systemRuntime } from "../contract/runtime.ts";
import type { Runtime } from "../contract/runtime.ts";
import { parseStoreUrl } from "../contract/store-url.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { OpenedStore } from "../wrappers/opened-store.ts";
import type { StoreKind, StoreKinds, StorePlace } from "./base/store-kind.ts";

/** Scheme → kind. Loaded when first used, so that a pool of folders never loads an SDK. */
const known: Readonly<Record<string, () => Promise<StoreKind>>> = {
  sftp: async () => (await import("./sftp/sftp.ts")).sftpKind,
  ftp: async () => (await import("./ftp/ftp.ts")).ftpKind,
  ftps: async () => (await import("./ftp/ftp.ts")).ftpKind,
  ftpes: async () => (await import("./ftp/ftp.ts")).ftpKind,
  webdav: async () => (await import("./webdav/webdav.ts")).webdavKind,
  webdavs: async () => (await import("./webdav/webdav.ts")).webdavKind,
  scp: async () => (await import("./sftp/sftp.ts")).sftpKind,
  file: async () => (await import("./file/file-kind.ts")).fileKind,
  memory: async () => (await import("./memory.ts")).memoryKind,
  rest: async () => (await import("./rest/rest.ts")).restKind,
  rsync: async () => (await import("./rsync/rsync.ts")).rsyncKind,
  smb: async () => (await import("./smb/smb.ts")).smbKind,
  opendal: async () => (await import("./opendal/opendal.ts")).opendalKind,
  gdrive: async () => (await import("./opendal/opendal.ts")).opendalKind,
  onedrive: async () => (await import("./opendal/opendal.ts")).opendalKind,
  dropbox: async () => (await import("./opendal/opendal.ts")).opendalKind,
  dpbx: async () => (await import("./opendal/opendal.ts")).opendalKind,
  b2: async () => (await import("./opendal/opendal.ts")).opendalKind,
  oss: async () => (await import("./opendal/opendal.ts")).opendalKind,
  cos: async () => (await import("./opendal/opendal.ts")).opendalKind,
  obs: async () => (await import("./opendal/opendal.ts")).opendalKind,
  rclone: async () => (await import("./rclone/rclone.ts")).rcloneKind,
  "boto3+s3": async () => (await import("./s3/s3.ts")).s3Kind,
  s3: async () => (await import("./s3/s3.ts")).s3Kind,
  gs: async () => (await import("./gcs.ts")).gcsKind,
  swift: async () => (await import("./swift/swift.ts")).swiftKind,
  azure: async () => (await import("./azure.ts")).azureKind,
  "s3+http": async () => (await import("./s3/s3.ts")).s3Kind,
};

/** The schemes that can be opened, in alphabetical order. */
export function knownSchemes(): string[] {
  return Object.keys(known).sort();
}

export interface OpenStoreOptions {
  /** Name of the store in errors. Default the URL, without secrets. */
  readonly label?: string | undefined;
  /** Kinds of one's own, by scheme. They go before Holdfast's. Default none. */
  readonly kinds?: StoreKinds | undefined;
  /** Laid over the process's environment for this store alone. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly runtime?: Runtime | undefined;
  readonly logger?: Logger | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The kind behind a scheme, one's own before Holdfast's. */
function kindOf(scheme: string, own: StoreKinds | undefined): Promise<StoreKind> | StoreKind | undefined {
  if (own !== undefined && Object.hasOwn(own, scheme)) return own[scheme];
  return Object.hasOwn(known, scheme) ? known[scheme]?.() : undefined;
}

/**
 * Where the store of a URL is, without reaching out to it. `env` is laid over the process's environment; `own`: kinds of
 * one's own. Undefined for a
 * scheme that is not known, and for a URL that no store can be opened by.
 */
export async function placeOf(
  url: StoreUrl,
  env: Readonly<Record<string, string>> = {},
  own?: StoreKinds,
): Promise<StorePlace | undefined> {
  const kind = await kindOf(url.scheme, own);
  try {
    return await kind?.place(url, { ...process.env, ...env });
  } catch (error) {
    if (isHoldfastError(error, "config")) return undefined;
    throw error;
  }
}

/**
 * Opens a store by URL or path. Does not reach out to it: a store that is down opens, and its operations reject.
 * Throws `config` for a URL that no kind of store accepts.
 */
export async function openStore(url: string, options: OpenStoreOptions = {}): Promise<OpenedStore> {
  const parsed = parseStoreUrl(url);
  const kind = await kindOf(parsed.scheme, options.kinds);
  if (kind === undefined) {
    const schemes = [...Object.keys(options.kinds ?? {}), ...knownSchemes()];
    throw new HoldfastError(
      "config",
      `no kind of store is known for ${parsed.scheme}:// (known: ${schemes.join(", ")})`,
      { store: options.label ?? parsed.redacted, operation: "open" },
    );
  }
  const label = options.label ?? parsed.redacted;
  try {
    return new OpenedStore(
      await kind.open(parsed, {
        label,
        env: { ...process.env, ...options.env },
        runtime: options.runtime ?? systemRuntime,
        logger: options.logger ?? silentLogger,
        signal: options.signal,
      }),
    );
  } catch (error) {
    // Which of a pool's stores is wrong, the kind need not say.
    throw toHoldfastError(error).within({ store: label, operation: "open" });
  }
}
