/**
 * Gateways over one pool: everything that `holdfast serve` and `holdfast exec` start, for programs and tests too.
 *
 * All gateways of a process share the pool, its metrics, the locks on names and the listings that are kept for later
 * pages, so that what one writes the others show.
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { homedir } from "node:os";
import path from "node:path";
import { HoldfastError } from "../contract/errors.ts";
import { silentLogger } from "../contract/log.ts";
import type { LogFields, Logger } from "../contract/log.ts";
import { openPool } from "../open-pool.ts";
import type { OpenPoolOptions } from "../open-pool.ts";
import { openStore } from "../stores/open-store.ts";
import type { OpenStoreOptions } from "../stores/open-store.ts";
import type { PoolDescription } from "../config/pool-config.ts";
import type { Pool } from "../contract/pool.ts";
import { systemRuntime } from "../contract/runtime.ts";
import type { Runtime } from "../contract/runtime.ts";
import type { Store } from "../contract/store.ts";
import type { GatewayContext } from "./gateway-context.ts";
import type { Credential } from "./http-tools.ts";
import { startHttpServer } from "./http-server.ts";
import type { Gateway, HttpLimits } from "./exchange.ts";
import type { HttpServer } from "./http-server.ts";
import { Intake } from "./intake.ts";
import { Listings } from "./listing.ts";
import { createMetrics, measured } from "./metrics.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { createMetricsGateway } from "./metrics-gateway.ts";
import { Readiness } from "./readiness.ts";
import type { Ready, ReadyWhen } from "./readiness.ts";
import { NameLocks } from "./name-locks.ts";
import { createResticGateway } from "./restic-gateway.ts";
import { createS3Gateway } from "./s3/s3-gateway.ts";
import { Uploads } from "./s3/uploads.ts";
import { createWebdavGateway } from "./webdav/webdav-gateway.ts";

export type Protocol = "s3" | "webdav" | "restic" | "metrics";

export interface Listen {
  readonly protocol: Protocol;
  /** Name or address. Other than loopback only with credentials. */
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface GatewaysOptions {
  readonly listen: readonly Listen[];
  /** Who may come in. Empty: everybody on this machine. */
  readonly credentials?: readonly Credential[] | undefined;
  /** PEM texts; all listeners use them. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** S3: the one bucket that is the whole pool. */
  readonly bucket?: string | undefined;
  /**
   * Folder for what is being received: large bodies, and the parts of S3's uploads; of this gateway alone. Default under the
   * user's cache folder, one for each pool and, where several run at the same time, for each of them.
   */
  readonly spool?: string | undefined;
  /** restic: nothing is overwritten, and nothing but locks deleted. Not with S3 or WebDAV, which would delete all the same. */
  readonly appendOnly?: boolean | undefined;
  /** What `/readyz` takes for ready. Default `readable`. */
  readonly readyWhen?: ReadyWhen | undefined;
  readonly limits?: Partial<HttpLimits> | undefined;
  readonly logger?: Logger | undefined;
  readonly runtime?: Runtime | undefined;
  /** For opening the pool. */
  readonly pool?: Omit<OpenPoolOptions, "logger" | "runtime"> | undefined;
}

export interface Gateways {
  readonly pool: Pool;
  readonly metrics: GatewayMetrics;
  readonly servers: readonly (HttpServer & { readonly protocol: Protocol })[];
  /** URL of the first server of a protocol. Throws `config` when there is none. */
  url(protocol: Protocol): string;
  /** Finishes or cancels what is in flight, within `graceMs` (default 30,000), and closes the pool. */
  stop(graceMs?: number): Promise<void>;
}

/** Whether only this machine reaches an address. */
export function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  return isIP(host) === 4 ? host.startsWith("127.") : host === "::1" || host.startsWith("::ffff:127.");
}

/** `8080`, `:8080`, `host:8080`, `[::1]:8080` → host and port; the host is 127.0.0.1 unless it is given. */
export function parseListen(protocol: Protocol, text: string): Listen {
  const match = /^(?:(?:(\[[0-9a-fA-F:.]+\]|[^:\s/[\]]+)?:)?(\d{1,5}))$/u.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) {
    throw new HoldfastError("config", `--${protocol} takes PORT or HOST:PORT, not ${JSON.stringify(text)}`);
  }
  return { protocol, host: (match[1] ?? "127.0.0.1").replace(/^\[|\]$/gu, ""), port };
}

/** Opens a pool with the given way of opening its stores and the given logger. */
export type OpenForGateways = (openStore: NonNullable<OpenPoolOptions["openStore"]>, logger: Logger) => Promise<Pool>;

/**
 * Opens a pool and starts gateways over it. `source` is what `openPool` takes, or a function that opens the pool. Throws
 * `config` for what must not be started.
 */
export async function startGateways(
  source: string | PoolDescription | OpenForGateways,
  options: GatewaysOptions,
): Promise<Gateways> {
  const { credentials = [], runtime = systemRuntime } = options;
  checkOptions(options, credentials);
  const metrics = createMetrics({ runtime });
  const logger = withBreakers(options.logger ?? silentLogger, metrics);
  const open = options.pool?.openStore ?? openStore;
  const openMeasured = async (url: string, given: OpenStoreOptions): Promise<Store> =>
    measured(await open(url, given), metrics, runtime);
  const pool =
    typeof source === "function"
      ? await source(openMeasured, logger)
      : await openPool(source, { ...options.pool, logger, runtime, openStore: openMeasured });
  metrics.watch(pool);
  const gateways = new RunningGateways(pool, metrics);
  try {
    await gateways.start(options, { runtime, logger, credentials });
  } catch (error) {
    await gateways.giveUp();
    throw error;
  }
  return gateways.description(logger);
}

/** What all gateways of a process have in common with their caller's options. */
type Given = Pick<GatewayContext, "runtime" | "logger" | "credentials">;

/** The gateways of a pool, as far as they are started. */
class RunningGateways {
  readonly #pool: Pool;
  readonly #metrics: GatewayMetrics;
  readonly #servers: (HttpServer & { readonly protocol: Protocol })[] = [];
  #uploads: Uploads | undefined;
  #stopped: Promise<void> | undefined;

  constructor(pool: Pool, metrics: GatewayMetrics) {
    this.#pool = pool;
    this.#metrics = metrics;
  }

  async start(options: GatewaysOptions, given: Given): Promise<void> {
    const { runtime, logger, credentials } = given;
    const makers = await this.#makers(options, given);
    const readiness = new Readiness(this.#pool, runtime, options.readyWhen ?? "readable");
    const ready = (): Promise<Ready> => readiness.ask();
    for (const { protocol, host, port } of options.listen) {
      const server = await startHttpServer(makers[protocol](ready), {
        host,
        port,
        tls: options.tls,
        logger,
        metrics: this.#metrics,
        runtime,
        limits: options.limits,
        open: credentials.length === 0,
        ready,
      });
      this.#servers.push({ ...server, protocol });
      logger.info("listening", { protocol, url: server.url });
    }
  }

  /** What makes the gateway of each protocol, over all that they share. */
  async #makers(
    options: GatewaysOptions,
    { runtime, logger, credentials }: Given,
  ): Promise<Record<Protocol, (ready: () => Promise<Ready>) => Gateway>> {
    const metrics = this.#metrics;
    const listings = new Listings(this.#pool, runtime);
    const spool = options.spool ?? defaultSpool(this.#pool);
    const intake = new Intake(spool, runtime);
    const context: GatewayContext = {
      store: intake.watched(listings.watched()),
      listings,
      locks: new NameLocks((name) => intake.makeWay(name)),
      intake,
      credentials,
      runtime,
      logger,
      metrics,
    };
    const uploads = new Uploads({ folder: spool, numbered: options.spool === undefined, runtime, logger });
    this.#uploads = uploads;
    if (options.listen.some((one) => one.protocol === "s3")) await uploads.open();
    const isLocal = options.listen.every((one) => isLoopback(one.host));
    return {
      s3: () => createS3Gateway(context, { bucket: options.bucket, uploads }),
      webdav: () => createWebdavGateway(context),
      restic: () => createResticGateway(context, { appendOnly: options.appendOnly }),
      metrics: (ready) => createMetricsGateway(metrics, isLocal ? [] : credentials, ready),
    };
  }

  /** Ends what was started, when not all could be. */
  async giveUp(): Promise<void> {
    await Promise.allSettled(this.#servers.map((server) => server.stop(0)));
    await this.#uploads?.close();
    await this.#pool.close();
  }

  async #stop(logger: Logger, graceMs: number | undefined): Promise<void> {
    logger.debug("gateways.stopping");
    await Promise.all(this.#servers.map((server) => server.stop(graceMs)));
    await this.#uploads?.close();
    logger.debug("pool.closing");
    await this.#pool.close();
    logger.debug("pool.closed");
  }

  /** What the caller is given, once all are started. */
  description(logger: Logger): Gateways {
    return {
      pool: this.#pool,
      metrics: this.#metrics,
      servers: this.#servers,
      url: (protocol) => {
        const server = this.#servers.find((one) => one.protocol === protocol);
        if (!server) throw new HoldfastError("config", `no ${protocol} gateway was started`);
        return server.url;
      },
      stop: (graceMs) => (this.#stopped ??= this.#stop(logger, graceMs)),
    };
  }
}

function checkOptions(options: GatewaysOptions, credentials: readonly Credential[]): void {
  if (options.listen.length === 0) throw new HoldfastError("config", "no gateway to start");
  for (const { protocol, host } of options.listen) {
    if (isLoopback(host) || credentials.length > 0) continue;
    throw new HoldfastError(
      "config",
      `the ${protocol} gateway listens on ${host} only with credentials; none are given`,
    );
  }
  const deleting = options.listen.find(({ protocol }) => protocol === "s3" || protocol === "webdav")?.protocol;
  if (options.appendOnly === true && deleting !== undefined) {
    throw new HoldfastError(
      "config",
      `append-only holds for restic's protocol alone, and by ${deleting} everything could be deleted: ` +
        "start the other protocols in a process of their own, for those who may delete",
    );
  }
  for (const { user, password } of credentials) {
    if (user === "" || password === "" || /[:/,\s]/u.test(user)) {
      throw new HoldfastError(
        "config",
        "a credential needs a user without colon, comma, slash and space, and a password",
      );
    }
  }
  if (new Set(credentials.map((one) => one.user)).size !== credentials.length) {
    throw new HoldfastError("config", "two credentials have the same user");
  }
  if (options.bucket !== undefined && !/^[^/]+$/u.test(options.bucket)) {
    throw new HoldfastError("config", "the bucket's name cannot hold a slash");
  }
}

function defaultSpool(pool: Pool): string {
  const cache = process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache");
  return path.join(cache, "holdfast", "uploads", createHash("sha256").update(pool.label).digest("hex").slice(0, 16));
}

/** A logger that passes everything on, and from which the metrics learn of circuit breakers. */
function withBreakers(logger: Logger, metrics: GatewayMetrics): Logger {
  const noting =
    (level: keyof Logger) =>
    (event: string, fields: LogFields = {}): void => {
      const { store } = fields;
      if (typeof store === "string") {
        if (event === "breaker.opened") metrics.breaker(store, "open");
        else if (event === "breaker.closed") metrics.breaker(store, "closed");
      }
      logger[level](event, fields);
    };
  return { debug: noting("debug"), info: noting("info"), warn: noting("warn"), error: noting("error") };
}
