/** Putting and getting objects through a server on loopback: Holdfast's S3 gateway, and what one might run instead. */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { startServer } from "../test/helpers/servers.ts";
import { removeFolder } from "./bench.ts";
import type { Bench } from "./bench.ts";
import { poolOf, rcloneUnion } from "./contenders.ts";
import type { Setting } from "./contenders.ts";
import { measure } from "./measure.ts";
import type { Measured } from "./measure.ts";
import type { Ground, Place } from "./places.ts";
import type { Sizes } from "./scenarios.ts";

const BYTES = 16 * 1024;
/** Of /proc, which counts a process's time in hundredths of a second. */
const TICK_MS = 10;

/** A server that takes objects by S3 or WebDAV. */
interface Gateway {
  readonly name: string;
  readonly endpoint: string;
  readonly protocol: "s3" | "webdav";
  readonly pid: number;
  readonly login: Readonly<Record<string, string>>;
  /** Folders of which each has every object as a file, at `KEY`; empty where they are stored in another form. */
  readonly folders: readonly string[];
  stop(): Promise<void>;
}

/** Puts and gets by 1 client and by 16. The CPU and memory are those of the server. */
export async function gateway(
  bench: Bench,
  setting: Setting,
  ground: Ground,
  sizes: Sizes,
  client: string,
): Promise<void> {
  const widths = sizes.brief ? [16] : [1, 16];
  const forms = ["put", "get"].flatMap((action) => widths.map((clients) => ({ action, clients })));
  const wanted = forms.filter(({ action, clients }) => bench.wants(`gateway-${action}-${clients}`));
  if (wanted.length === 0) return;
  const places = await ground.fresh(6);
  const gateways: Gateway[] = [];
  try {
    gateways.push(await holdfast(setting, ground, places.slice(0, 3)));
    if (setting.has.rclone) {
      await rcloneWebdav(setting, ground, places.slice(3)).then(
        (one) => gateways.push(one),
        (error: unknown) =>
          bench.leaveOut("rclone serve webdav", error instanceof Error ? error.message : String(error)),
      );
    }
    const s3rver = await startServer("s3rver");
    if (s3rver.running) {
      bench.report.machine["s3rver"] = s3rver.version;
      gateways.push({
        name: "s3rver (one folder, no flush)",
        endpoint: `http://${s3rver.host}:${s3rver.port}`,
        protocol: "s3",
        pid: Number(readFileSync(join(s3rver.folder, "pid"), "utf8")),
        login: { BENCH_USER: "S3RVER", BENCH_PASSWORD: "S3RVER" },
        folders: [],
        stop: async () => undefined,
      });
    } else bench.leaveOut("s3rver", s3rver.skipped);
    const call = async (one: Gateway, action: string, clients: number, path: string): Promise<Measured> => {
      const [count, bytes] = [sizes.requests, BYTES];
      const before = usage(one.pid);
      const measured = await measure(
        [process.execPath, client, action, one.endpoint, String(clients), String(count), String(bytes), path],
        { env: one.login },
      );
      const after = usage(one.pid);
      return { ...measured, cpuMs: after.cpuMs - before.cpuMs, peakBytes: after.peakBytes };
    };
    for (const one of gateways) await call(one, one.protocol === "s3" ? "bucket" : "folder", 1, "/bench");
    let made = 0;
    /** Stores all objects under names that are new. */
    const fill = async (one: Gateway, clients: number): Promise<{ path: string; measured: Measured }> => {
      const path = `/bench/run-${made++}`;
      if (one.protocol === "webdav") await call(one, "folder", 1, path);
      const measured = await call(one, "put", clients, path);
      for (const folder of one.folders) insistStored(join(folder, path.slice("/bench/".length)), sizes.requests);
      return { path, measured };
    };
    const stored = new Map<Gateway, string>();
    for (const { action, clients } of wanted) {
      const round = async (one: Gateway): Promise<Measured> => {
        if (action === "put") return (await fill(one, clients)).measured;
        const path = stored.get(one) ?? (await fill(one, 16)).path;
        stored.set(one, path);
        return call(one, "get", clients, path);
      };
      await bench.compare({
        name: `gateway-${action}-${clients}`,
        title: `Gateway over a mirror of 3 folders, ${clients} client${clients === 1 ? "" : "s"}: ${action} ${sizes.requests.toLocaleString("en")} objects of 16 KiB`,
        subject: "holdfast",
        contenders: gateways.map((one) => ({ name: one.name, round: async () => round(one) })),
        goals: gateways.slice(1).map(({ name }) => ({ other: name, figure: "wallMs" })),
      });
    }
  } finally {
    for (const one of gateways) await one.stop();
  }
  await ground.clear(places);
}

async function holdfast(setting: Setting, ground: Ground, places: readonly Place[]): Promise<Gateway> {
  const pool = poolOf(setting, ground, "mirror", places);
  // Without -q: it says where it listens.
  const [program = "", script = "", , ...command] = pool.command;
  const login = { BENCH_USER: "bench", BENCH_PASSWORD: "bench-secret" };
  const started = await start(
    [program, script, ...command, "serve", "--s3", "0", "--bucket", "bench", "--log-level", "error"],
    { ...pool.env, HOLDFAST_GATEWAY_USER: login.BENCH_USER, HOLDFAST_GATEWAY_PASSWORD: login.BENCH_PASSWORD },
    "stdout",
  );
  return {
    ...started,
    name: "holdfast",
    protocol: "s3",
    login,
    folders: places.map(({ folder }) => folder),
    stop: async () => {
      await started.stop();
      removeFolder(pool.folder);
    },
  };
}

/** rclone 1.60 serves no S3. */
async function rcloneWebdav(setting: Setting, ground: Ground, places: readonly Place[]): Promise<Gateway> {
  const config = rcloneUnion(setting, ground, "mirror", places);
  for (const { folder } of places) mkdirSync(join(folder, "bench"), { recursive: true });
  const started = await start(
    ["rclone", "--config", config, "serve", "webdav", "union:", "--addr", "127.0.0.1:0"],
    {},
    "stderr",
  );
  return {
    ...started,
    name: "rclone serve webdav of the union (no flush)",
    protocol: "webdav",
    login: {},
    folders: places.map(({ folder }) => join(folder, "bench")),
  };
}

/** Starts a server that prints its address on one of its streams. */
async function start(
  [program = "", ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
  stream: "stdout" | "stderr",
): Promise<Pick<Gateway, "endpoint" | "pid" | "stop">> {
  const server = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<void>((resolve) => {
    server.once("close", () => resolve());
  });
  const stop = async (): Promise<void> => {
    server.kill("SIGTERM");
    await ended;
  };
  (stream === "stdout" ? server.stderr : server.stdout).pipe(process.stderr, { end: false });
  try {
    return { endpoint: await addressIn(server[stream]), pid: server.pid ?? 0, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The address that a server prints when it listens. */
async function addressIn(output: Readable): Promise<string> {
  let text = "";
  for await (const chunk of output.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    const address = /http:\/\/[\w.:]+/u.exec(text);
    if (address !== null && text.includes("\n")) {
      output.resume();
      return address[0];
    }
  }
  throw new Error(`the server ended before it listened: ${text}`);
}

/** What a process has taken so far, with all its threads. */
function usage(pid: number): { readonly cpuMs: number; readonly peakBytes: number } {
  // Behind the program's name, which may have spaces: fields 3 and on.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  const peak = /^VmHWM:\s*(\d+) kB/mu.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS, peakBytes: Number(peak) * 1024 };
}

/** Throws unless a folder has every object, whole. */
function insistStored(folder: string, count: number): void {
  for (let index = 0; index < count; index++) {
    const path = join(folder, `object-${index}`);
    if (!readFileSync(path).equals(Buffer.alloc(BYTES, `${index}.`))) throw new Error(`wrong bytes: ${path}`);
  }
}
