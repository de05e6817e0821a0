/** One SSH connection: reached (through jump hosts where the settings say so), its host key checked, logged in. */
import { appendFile, readFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import type { Duplex } from "node:stream";
import ssh2 from "ssh2";
import type {
  AnyAuthMethod,
  BaseAgent as AgentBase,
  Client,
  ConnectConfig,
  IdentityCallback,
  ParsedKey,
  ServerHostKeyAlgorithm,
  SignCallback,
  SigningRequestOptions,
} from "ssh2";
import { HoldfastError, abortError, throwIfAborted } from "../../contract/errors.ts";
import { isUnknownHost } from "../../support/network-errors.ts";
import { describeHostKey, judgeHostKey, knownHostName, knownKeyTypes, parseKnownHosts } from "./known-hosts.ts";
import type { KnownHost } from "./known-hosts.ts";
import type { SshSettings } from "./ssh-settings.ts";
import { shellWord } from "../../support/hint.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { systemCode } from "../../support/network-errors.ts";
import { systemWords, wordsOfCode } from "../../contract/system-words.ts";

/** A server that answers nothing for three of these is given up. */
const KEEPALIVE_MS = 10_000;
const KEEPALIVE_COUNT = 3;

export interface SshConnection {
  readonly client: Client;
  /** Ends it at once, with the jump hosts' connections. */
  destroy(): void;
}

/** Connects and logs in, or gives that up when the signal fires. Rejects with `unavailable`, `timeout`, `denied` or `config`. */
export async function connectSsh(settings: SshSettings, signal: AbortSignal): Promise<SshConnection> {
  // Before a socket is there: one that its server closes at once says so once, and must find somebody who listens.
  const login = await prepare(settings);
  const below = settings.jump ? await connectSsh(settings.jump, signal) : undefined;
  try {
    const sock = below ? await forward(below.client, settings) : await dial(settings, signal);
    const client = await handshake(settings, login, sock, signal);
    const destroy = (): void => {
      client.destroy();
      sock.destroy();
      below?.destroy();
    };
    below?.client.once("close", destroy);
    client.once("close", () => below?.destroy());
    return { client, destroy };
  } catch (error) {
    below?.destroy();
    throw error;
  }
}

function where(settings: SshSettings): string {
  return `${settings.host}:${settings.port}`;
}

function dial(settings: SshSettings, signal: AbortSignal): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    throwIfAborted(signal);
    // Without noDelay, requests wait for acknowledgements of earlier ones.
    const sock = net.connect({ host: settings.host, port: settings.port, noDelay: true });
    const onAbort = (): void => {
      sock.destroy();
      reject(abortError(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    sock.once("close", () => signal.removeEventListener("abort", onAbort));
    sock.setTimeout(settings.connectTimeoutMs, () => {
      sock.destroy();
      reject(new HoldfastError("timeout", `${where(settings)} did not answer in ${settings.connectTimeoutMs} ms`));
    });
    sock.once("error", (error) => {
      const retryable = isUnknownHost(error) ? false : undefined;
      const why = wordsOfCode(systemCode(error)) ?? systemWords(error);
      reject(new HoldfastError("unavailable", `cannot reach ${where(settings)}: ${why}`, { cause: error, retryable }));
    });
    sock.once("connect", () => {
      sock.setTimeout(0);
      sock.removeAllListeners("timeout");
      signal.removeEventListener("abort", onAbort);
      resolve(sock);
    });
  });
}

function forward(client: Client, settings: SshSettings): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    client.forwardOut("127.0.0.1", 0, settings.host, settings.port, (error, stream) => {
      if (error) {
        reject(
          new HoldfastError("unavailable", `the jump host cannot reach ${where(settings)}: ${error.message}`, {
            cause: error,
          }),
        );
      } else resolve(stream);
    });
  });
}

/** What a connection needs to know of the files on this machine. */
interface Login {
  readonly lines: readonly KnownHost[];
  /** The server's name in them. */
  readonly name: string;
  readonly methods: AnyAuthMethod[];
  readonly notes: readonly string[];
}

async function prepare(settings: SshSettings): Promise<Login> {
  const name = settings.hasHostKeyAlias
    ? settings.hostKeyAlias.toLowerCase()
    : knownHostName(settings.hostKeyAlias, settings.port);
  try {
    return { lines: await readKnownHosts(settings.knownHostsFiles), name, ...(await authentication(settings)) };
  } catch (error) {
    throw configError(error);
  }
}

function configError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  return new HoldfastError("config", error instanceof Error ? error.message : String(error), { cause: error });
}

/** To be called in the same turn in which the socket was connected: it hears of the socket's end from here on. */
async function handshake(
  settings: SshSettings,
  { lines, name, methods, notes }: Login,
  sock: Duplex,
  signal: AbortSignal,
): Promise<Client> {
  const onAbort = (): void => void sock.destroy(abortError(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    throwIfAborted(signal);
    const client = new ssh2.Client();
    let refused: HoldfastError | undefined;
    const config: ConnectConfig = {
      sock,
      username: settings.user,
      readyTimeout: settings.connectTimeoutMs,
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: KEEPALIVE_COUNT,
      algorithms: { serverHostKey: hostKeyAlgorithms(knownKeyTypes(lines, name)) },
      hostVerifier: (key: Buffer, verify: (valid: boolean) => void) => {
        checkHostKey(settings, lines, name, key).then(
          () => verify(true),
          (error: unknown) => {
            refused = error instanceof HoldfastError ? error : new HoldfastError("denied", String(error));
            verify(false);
          },
        );
      },
      authHandler: (_left, _partial, next) => {
        const method = methods.shift();
        // `false` ends it; the types do not say so.
        next(method ?? (false as unknown as "none"));
      },
    };
    await new Promise<void>((resolve, reject) => {
      client.once("ready", resolve);
      client.on("error", (error: Error & { level?: string }) => {
        reject(refused ?? connectError(settings, error, notes));
      });
      client.once("close", () => {
        reject(refused ?? new HoldfastError("unavailable", `${where(settings)} closed the connection`));
      });
      client.connect(config);
    });
    return client;
  } catch (error) {
    sock.destroy();
    if (signal.aborted) throw abortError(signal);
    throw configError(error);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function connectError(
  settings: SshSettings,
  error: Error & { level?: string },
  notes: readonly string[],
): HoldfastError {
  if (error.level === "client-authentication") {
    const more = notes.length === 0 ? "" : ` (${notes.join("; ")})`;
    return new HoldfastError("denied", `${where(settings)} accepts no key or password of ${settings.user}${more}`, {
      cause: error,
    });
  }
  if (error.level === "client-timeout") {
    return new HoldfastError("timeout", `${where(settings)} did not answer in time`, { cause: error });
  }
  return new HoldfastError("unavailable", `the SSH connection to ${where(settings)} failed: ${systemWords(error)}`, {
    cause: error,
  });
}

async function readKnownHosts(files: readonly string[]): Promise<KnownHost[]> {
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
  return texts.flatMap(parseKnownHosts);
}

const HOST_KEY_ALGORITHMS: readonly ServerHostKeyAlgorithm[] = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "rsa-sha2-512",
  "rsa-sha2-256",
];

/** What the server is asked for, with what it is known to have first. */
function hostKeyAlgorithms(types: readonly string[]): ServerHostKeyAlgorithm[] {
  const isKnown = (algorithm: string): boolean =>
    types.includes(algorithm.startsWith("rsa-sha2-") ? "ssh-rsa" : algorithm);
  return [...HOST_KEY_ALGORITHMS.filter(isKnown), ...HOST_KEY_ALGORITHMS.filter((algorithm) => !isKnown(algorithm))];
}

/** The folder of the file may not be there yet: a new user has no ~/.ssh. */
function addKeyCommand({ host, port }: SshSettings, file: string): string {
  const folder = path.dirname(file);
  const scan = `ssh-keyscan${port === 22 ? "" : ` -p ${port}`} ${shellWord(host)} >> ${shellWord(file)}`;
  return folder === "." || existsSync(folder) ? scan : `mkdir -p -m 700 ${shellWord(folder)} && ${scan}`;
}

async function checkHostKey(
  settings: SshSettings,
  lines: readonly KnownHost[],
  name: string,
  key: Buffer,
): Promise<void> {
  const verdict = judgeHostKey(lines, name, key);
  if (verdict === "known") return;
  const [file] = settings.knownHostsFiles;
  const shown = describeHostKey(key);
  if (verdict === "revoked") {
    throw new HoldfastError("denied", `the host key of ${name} (${shown}) is marked as revoked in known_hosts`);
  }
  if (verdict === "changed") {
    throw new HoldfastError(
      "denied",
      `the host key of ${name} is ${shown}, which is not the one in known_hosts: the server was set up anew, or ` +
        `someone stands between. If you know that it is right, remove the old key with: ssh-keygen -R ${shellWord(name)}` +
        (file === undefined ? "" : ` -f ${shellWord(file)}`),
    );
  }
  if (settings.acceptNew && file !== undefined) {
    await makeFolder(path.dirname(file), 0o700);
    await appendFile(file, `${name} ${shown.split(" ")[0] ?? ""} ${key.toString("base64")}\n`, { mode: 0o600 });
    return;
  }
  if (settings.acceptNew) return;
  throw new HoldfastError(
    "denied",
    `the host key of ${name} (${shown}) is not known. If that fingerprint is the server's, add the key with: ` +
      addKeyCommand(settings, file ?? "known_hosts"),
  );
}

/** The ways to log in, in order, and what is worth telling when all of them fail. */
async function authentication(settings: SshSettings): Promise<{ methods: AnyAuthMethod[]; notes: string[] }> {
  const notes: string[] = [];
  const username = settings.user;
  const keys: AnyAuthMethod[] = [];
  const publicKeys: Buffer[] = [];
  for (const file of settings.identities) {
    const publicKey = await readFile(`${file}.pub`, "utf8").catch(() => undefined);
    const parsedPublic = publicKey === undefined ? undefined : parseKey(publicKey);
    if (parsedPublic && !(parsedPublic instanceof Error)) publicKeys.push(parsedPublic.getPublicSSH());
    const key = await readKey(file, notes);
    if (key) keys.push({ type: "publickey", username, key });
  }
  const others: AnyAuthMethod[] = [];
  if (!settings.identitiesOnly) {
    for (const file of settings.defaultIdentities) {
      if (settings.identities.includes(file)) continue;
      const key = await readKey(file);
      if (key) others.push({ type: "publickey", username, key });
    }
  }
  const passwords: AnyAuthMethod[] = [];
  const password = settings.password;
  if (password !== undefined) {
    passwords.push(
      { type: "password", username, password },
      {
        type: "keyboard-interactive",
        username,
        // Many servers ask for the password this way only. A second question is one that nobody can answer here.
        prompt: (_name, _instructions, _lang, prompts, finish) => finish(prompts.length === 1 ? [password] : []),
      },
    );
  }
  const agents: AnyAuthMethod[] = [];
  if (settings.agent !== undefined && !(settings.identitiesOnly && publicKeys.length === 0)) {
    const agent = ssh2.createAgent(settings.agent);
    agents.push({
      type: "agent",
      username,
      agent: settings.identitiesOnly ? new SomeOfAgent(agent, publicKeys) : agent,
    });
  }
  const methods = [...keys, ...passwords, ...agents, ...others];
  if (methods.length === 0) notes.push("no key, agent or password was found to log in with");
  return { methods, notes };
}

function parseKey(text: string | Buffer): ParsedKey | Error {
  const parsed: ParsedKey | ParsedKey[] | Error = ssh2.utils.parseKey(text);
  if (Array.isArray(parsed)) return parsed[0] ?? new Error("no key in it");
  return parsed;
}

/** A private key, or undefined with a note why it cannot be used. */
async function readKey(file: string, notes?: string[]): Promise<ParsedKey | undefined> {
  let text: Buffer;
  try {
    text = await readFile(file);
  } catch (error) {
    notes?.push(`cannot read the key ${file}: ${systemWords(error)}`);
    return undefined;
  }
  const key = parseKey(text);
  if (key instanceof Error) {
    notes?.push(
      /passphrase|encrypted/iu.test(key.message)
        ? `the key ${file} is encrypted: add it to an agent with ssh-add`
        : `${file} is no private key that can be used`,
    );
    return undefined;
  }
  return key;
}

/** An agent of which only some keys are used. */
class SomeOfAgent extends ssh2.BaseAgent {
  readonly #agent: AgentBase;
  readonly #keys: readonly Buffer[];

  constructor(agent: AgentBase, keys: readonly Buffer[]) {
    super();
    this.#agent = agent;
    this.#keys = keys;
  }

  override getIdentities(callback: IdentityCallback): void {
    this.#agent.getIdentities((error, identities) => {
      if (error || !identities) {
        callback(error);
        return;
      }
      callback(
        undefined,
        identities.filter((identity) => {
          const parsed =
            typeof identity === "string" || Buffer.isBuffer(identity)
              ? parseKey(identity)
              : ((identity as { pubKey?: ParsedKey }).pubKey ?? (identity as ParsedKey));
          if (parsed instanceof Error) return false;
          const key = parsed.getPublicSSH();
          return this.#keys.some((one) => one.equals(key));
        }),
      );
    });
  }

  override sign(
    key: string | Buffer | ParsedKey,
    data: Buffer,
    options: SigningRequestOptions | SignCallback,
    callback?: SignCallback,
  ): void {
    if (typeof options === "function") this.#agent.sign(key, data, options);
    else this.#agent.sign(key, data, options, callback);
  }
}
