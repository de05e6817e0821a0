/** One `rclone rcd`: started when it is first asked, started again when it has died, and ended with its store. */
import { randomBytes } from "node:crypto";
import { HoldfastError, abortError } from "../../contract/errors.ts";
import { systemCode } from "../../support/network-errors.ts";
import { raceSignal } from "../../support/signals.ts";
import { childEnv, startChild } from "../base/child.ts";
import type { Child } from "../base/child.ts";
import { HttpClient } from "../base/http-client.ts";
import type { HttpAnswer, HttpRequest } from "../base/http-client.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { answerOf } from "./rclone-answers.ts";
import { wantedByRclone } from "./rclone-settings.ts";

/** How long rclone may take to open its port, in milliseconds. */
const START_MS = 15_000;
/** Connections to rclone at once, besides those on which something is read. */
const CONNECTIONS = 64;

/**
 * Runs rclone, and ends it when this process's end of the pipe closes, so that not even SIGKILL leaves it behind. The
 * wait is rclone's own, so that its death is noticed at once.
 */
const SUPERVISOR = `exec 3<&0
"$@" </dev/null 3<&- &
child=$!
(read -r _ <&3; kill "$child") >/dev/null 2>&1 &
watcher=$!
trap 'kill "$child" "$watcher" 2>/dev/null' TERM
wait "$child"
code=$?
[ "$code" -le 128 ] || wait "$child" 2>/dev/null
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$code"`;

interface Connection {
  readonly child: Child;
  readonly pid: number | undefined;
  readonly http: HttpClient;
  readonly authorization: string;
}

export class RcloneDaemon {
  readonly #remote: string;
  readonly #context: StoreContext;
  #connection: Promise<Connection> | undefined;
  #connected: Connection | undefined;
  #stopped = false;

  /** `remote` is what the daemon's own remote `holdfast:` stands for. */
  constructor(remote: string, context: StoreContext) {
    this.#remote = remote;
    this.#context = context;
  }

  get running(): boolean {
    return this.#connected !== undefined;
  }

  get pid(): number | undefined {
    return this.#connected?.pid;
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    if (this.#stopped) throw new HoldfastError("invalid", "the store is closed");
    this.#connection ??= this.#start().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return raceSignal(this.#connection, signal);
  }

  async #start(): Promise<Connection> {
    const user = randomBytes(16).toString("hex");
    const pass = randomBytes(32).toString("hex");
    const env = childEnv(this.#context.env, wantedByRclone, {
      RCLONE_CONFIG_HOLDFAST_TYPE: "alias",
      RCLONE_CONFIG_HOLDFAST_REMOTE: this.#remote,
      RCLONE_RC_USER: user,
      RCLONE_RC_PASS: pass,
      RCLONE_RC_ADDR: "127.0.0.1:0",
      RCLONE_RC_SERVE: "true",
      // Otherwise an upload or a read that lasts longer than an hour is cut.
      RCLONE_RC_SERVER_READ_TIMEOUT: "0s",
      RCLONE_RC_SERVER_WRITE_TIMEOUT: "0s",
      RCLONE_LOG_LEVEL: "NOTICE",
      // It would ask at a terminal otherwise.
      RCLONE_ASK_PASSWORD: "false",
    });
    const program = ["rclone", "rcd"];
    const child =
      process.platform === "win32"
        ? startChild("rclone", ["rcd"], { env })
        : startChild("sh", ["-c", SUPERVISOR, "holdfast-rclone", ...program], { env });
    child.stdout.resume();
    const url = await this.#address(child);
    // Deadlines are set around stores; an operation on a remote may be long without a sign of it.
    const http = new HttpClient({ origin: new URL(url).origin, tls: {}, connections: CONNECTIONS, env: {}, idleMs: 0 });
    const authorization = basic(user, pass);
    let pid: number | undefined;
    try {
      ({ pid } = (await answerOf(
        await http.send({ method: "POST", path: "/core/pid", headers: { authorization } }),
      )) as { pid?: number });
    } catch (error) {
      http.close();
      await child.stop();
      throw new HoldfastError("unavailable", "rclone opened its port and does not answer on it", { cause: error });
    }
    const connection: Connection = { child, pid, http, authorization };
    this.#connected = connection;
    child.ended
      .catch(() => undefined)
      .then(() => {
        this.#forget(connection);
        http.close();
      })
      .catch(() => undefined);
    return connection;
  }

  #forget(connection: Connection): void {
    if (this.#connected !== connection) return;
    this.#connected = undefined;
    this.#connection = undefined;
  }

  /** Waits until rclone has said on which port it listens. */
  async #address(child: Child): Promise<string> {
    const address = (): string | undefined =>
      /Serving remote control on (http:\/\/127\.0\.0\.1:\d+\/)/u.exec(child.errorText())?.[1];
    let cancel = (): void => undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        cancel = this.#context.runtime.timer(START_MS, () => {
          reject(new HoldfastError("timeout", `rclone did not open its port within ${START_MS} ms`));
        });
        child.onErrorText(() => {
          const found = address();
          if (found !== undefined) resolve(found);
        });
        child.ended.then(
          ({ code }) => {
            reject(
              code === 127
                ? new HoldfastError("config", "the program rclone is not installed, or not in the store's PATH")
                : new HoldfastError("unavailable", `rclone ended at its start: ${lastLine(child.errorText())}`),
            );
          },
          (error: unknown) => {
            reject(error instanceof Error ? error : new Error(String(error)));
          },
        );
      });
    } catch (error) {
      await child.stop();
      throw error;
    } finally {
      cancel();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.child.stop();
    connection?.http.close();
  }

  /** `path` stands behind the daemon's own address. A read is asked for again where the connection broke. */
  async request(
    path: string,
    options: Pick<HttpRequest, "method" | "headers" | "body">,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    for (let attempt = 1; ; attempt++) {
      const connection = await this.#connect(signal);
      try {
        return await connection.http.send({
          ...options,
          path: `/${path}`,
          headers: { ...options.headers, authorization: connection.authorization },
          signal,
          once: options.method !== "GET",
          // Callers read at their own pace.
          held: options.method === "GET",
        });
      } catch (error) {
        if (signal.aborted) throw abortError(signal);
        if (neverArrived(error)) {
          // rclone has died before it was asked: a new one is.
          await connection.child.stop();
          this.#forget(connection);
        } else if (options.method !== "GET") {
          throw lostConnection(connection, error);
        }
        // A read may be asked for again; the connection may have broken because rclone is dying at this moment.
        if (attempt === 3 || typeof options.body === "object") throw lostConnection(connection, error);
      }
    }
  }

  /** One command of the remote control. Rejects with what rclone says went wrong. */
  async call(command: string, parameters: unknown, signal: AbortSignal): Promise<unknown> {
    const response = await this.request(
      command,
      { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(parameters) },
      signal,
    );
    return answerOf(response);
  }

  /** Makes an error of this daemon of whatever breaks an answer that it began to give. */
  whyLost(): (error: unknown) => HoldfastError {
    const connection = this.#connected;
    return (error) => lostConnection(connection, error);
  }
}

function basic(user: string, pass: string): string {
  return `Basic ${Buffer.from(`${user}:${pass}`).toString("base64")}`;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

/** Whether a request failed before rclone can have seen it. */
function neverArrived(error: unknown): boolean {
  return systemCode(error) === "ECONNREFUSED";
}

function lostConnection(connection: Connection | undefined, error: unknown): HoldfastError {
  // The client's own message names a port of this machine, which tells the user nothing.
  const cause = error instanceof HoldfastError ? error.cause : error;
  if (error instanceof HoldfastError && cause === undefined) return error;
  return new HoldfastError(
    "unavailable",
    connection?.child.running ? "the connection to rclone broke" : "rclone ended while it was at work",
    { cause },
  );
}
