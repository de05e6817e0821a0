// Runs clients against a gateway while stores are killed and restarted: npm run soak -- --minutes 10 [--clients 64]
//
// The pool is a mirror of a folder and of two WebDAV servers (rclone's) that are killed with SIGKILL in turn. Each client
// puts, overwrites, deletes and reads objects of its own and knows what it was told. At the end every acknowledged object is
// read through the gateway, the pool is repaired, three times at most, and every copy is verified. Exits 1 when an
// acknowledged object is lost or a byte is wrong. Prints its figures as JSON. Needs a build, and rclone.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    clients: { type: "string", default: "64" },
    "pause-ms": { type: "string", default: "100" },
    main: { type: "string", default: fileURLToPath(new URL("../dist/cli/main.js", import.meta.url)) },
  },
});
const clients = Number(values.clients);
const pauseMs = Number(values["pause-ms"]);
const endMs = performance.now() + Number(values.minutes) * 60_000;
const home = await mkdtemp(join(tmpdir(), "holdfast-soak-"));
const { main } = values;
const env = { ...process.env, HOME: home, HOLDFAST_CACHE: join(home, "cache") };
const counts = { puts: 0, degraded: 0, gets: 0, deletes: 0, refused: 0, bytes: 0, kills: 0 };
const wrong = [];

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
};
const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true));
    socket.on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });

/** A WebDAV server that can be killed and started again. */
const startServer = async (name) => {
  const folder = join(home, name);
  mkdirSync(folder);
  const port = await freePort();
  let child;
  const start = async () => {
    child = spawn("rclone", ["serve", "webdav", folder, "--addr", `127.0.0.1:${port}`, "--config", "/dev/null"], {
      stdio: "ignore",
    });
    while (!(await answers(port))) await delay(50);
  };
  await start();
  return {
    url: `webdav://127.0.0.1:${port}/`,
    start,
    kill: async () => {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
};

const servers = [await startServer("b"), await startServer("c")];
const stores = [
  { url: `file://${join(home, "a")}`, description: "a" },
  { url: servers[0].url, description: "b" },
  { url: servers[1].url, description: "c" },
];
writeFileSync(join(home, "pool.json"), JSON.stringify({ mode: "mirror", attempts: 2, stores }));
const gateway = spawn(
  process.execPath,
  [main, "-p", "pool.json", "serve", "--s3", "0", "--bucket", "soak", "--log-level", "error"],
  {
    cwd: home,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  },
);
const died = () => gateway.exitCode !== null || gateway.signalCode !== null;
let said = "";
gateway.stdout.on("data", (chunk) => (said += chunk));
while (!/http:\S+/u.test(said) && !died()) await delay(20);
const base = `${/http:\S+/u.exec(said)[0]}/soak`;

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
/** Name → digests that a read may give; undefined among them: it may be absent. */
const expected = new Map();

const read = async (name, where) => {
  const allowed = expected.get(name);
  let response;
  let bytes;
  try {
    response = await fetch(`${base}/${name}`);
    bytes = Buffer.from(await response.arrayBuffer());
  } catch {
    // A download that breaks off is an error that the client sees.
    counts.refused++;
    return false;
  }
  counts.gets++;
  if (response.status === 404) {
    if (!allowed.has(undefined)) wrong.push(`${where}: ${name} is lost`);
  } else if (response.status === 200) {
    if (!allowed.has(digest(bytes))) wrong.push(`${where}: ${name} has wrong bytes`);
  } else {
    counts.refused++;
    return false;
  }
  return true;
};

const client = async (index) => {
  const names = [];
  while (performance.now() < endMs && !died()) {
    await delay(pauseMs * (0.5 + Math.random()));
    const dice = Math.random();
    const known = names[Math.floor(Math.random() * names.length)];
    if (known !== undefined && dice < 0.5) {
      await read(known, "during");
      continue;
    }
    if (known !== undefined && dice < 0.6) {
      const before = expected.get(known);
      expected.set(known, new Set([...before, undefined]));
      const ok = await fetch(`${base}/${known}`, { method: "DELETE" }).then(
        (response) => response.ok,
        () => false,
      );
      if (ok) expected.set(known, new Set([undefined]));
      counts[ok ? "deletes" : "refused"]++;
      continue;
    }
    const fresh = known === undefined || dice < 0.9 || names.length < 3;
    const name = fresh ? `client-${index}/object-${names.length}` : known;
    if (fresh) names.push(name);
    const body = randomBytes(Math.floor(2 ** (Math.random() * 21)));
    const before = expected.get(name) ?? new Set([undefined]);
    expected.set(name, new Set([...before, digest(body)]));
    try {
      const response = await fetch(`${base}/${name}`, { method: "PUT", body });
      await response.arrayBuffer();
      if (response.ok) {
        expected.set(name, new Set([digest(body)]));
        counts.puts++;
        counts.bytes += body.length;
        if (response.headers.has("x-holdfast-owed")) counts.degraded++;
      } else counts.refused++;
    } catch {
      counts.refused++;
    }
  }
};

const chaos = async () => {
  for (let turn = 0; performance.now() < endMs - 8000 && !died(); turn++) {
    await delay(4000 + Math.random() * 4000);
    const server = servers[turn % servers.length];
    await server.kill();
    counts.kills++;
    await delay(3000 + Math.random() * 3000);
    await server.start();
  }
};

let peakMiB = 0;
let peakFiles = 0;
const watch = setInterval(() => {
  if (died()) return;
  const status = readFileSync(`/proc/${gateway.pid}/status`, "utf8");
  peakMiB = Math.max(peakMiB, Number(/VmRSS:\s+(\d+)/u.exec(status)[1]) / 1024);
  void readdir(`/proc/${gateway.pid}/fd`).then(
    (files) => (peakFiles = Math.max(peakFiles, files.length)),
    () => undefined,
  );
}, 500);

await Promise.all([chaos(), ...Array.from({ length: clients }, (_, index) => client(index))]);
if (died()) wrong.push("the gateway died");
// Circuit breakers let a store rest for a while.
let unread = [...expected.keys()];
for (let round = 0; round < 20 && unread.length > 0 && !died(); round++) {
  const again = [];
  for (const name of unread) if (!(await read(name, "at the end"))) again.push(name);
  unread = again;
  if (unread.length > 0) await delay(3000);
}
for (const name of unread) wrong.push(`at the end: ${name} cannot be read`);
clearInterval(watch);
gateway.kill("SIGTERM");
if (!died()) await once(gateway, "exit");
const holdfast = async (command) => {
  const child = spawn(process.execPath, [main, "-p", "pool.json", "-q", command], {
    cwd: home,
    env,
    stdio: ["ignore", 2, 2],
  });
  return (await once(child, "exit"))[0];
};
// A repair to which a store did not answer for a while says what it left, and the next one mends that.
const repairs = [];
do {
  const beganMs = performance.now();
  const code = await holdfast("repair");
  repairs.push({ code, seconds: Math.round((performance.now() - beganMs) / 1000) });
} while (repairs.at(-1).code !== 0 && repairs.length < 3);
const verify = await holdfast("verify");
if (repairs.at(-1).code !== 0) wrong.push(`repair ended with ${repairs.at(-1).code}`);
if (verify !== 0) wrong.push(`verify ended with ${verify}`);
for (const server of servers) await server.kill();
process.stdout.write(
  `${JSON.stringify({ ...counts, objects: expected.size, peakMiB: Math.round(peakMiB), peakFiles, repairs, wrong: wrong.slice(0, 20) }, null, 2)}\n`,
);
if (wrong.length === 0) await rm(home, { recursive: true, force: true });
else process.stderr.write(`what there was is kept in ${home}\n`);
process.exitCode = wrong.length === 0 ? 0 : 1;
