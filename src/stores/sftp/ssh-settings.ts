/**
 * How a host is reached over SSH: what the URL says, then the user's `~/.ssh/config`, then the system's, then OpenSSH's
 * defaults. Nothing is run to find it out: `Match exec` never holds, and a ProxyCommand is refused.
 */
import { readFile, readdir } from "node:fs/promises";
import { homedir, userInfo } from "node:os";
import path from "node:path";
import { HoldfastError } from "../../contract/errors.ts";

export interface SshQuestion {
  /** As in the URL: may be an alias of the configuration. */
  readonly host: string;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Private key file, before those of the configuration. */
  readonly identity?: string | undefined;
  /** known_hosts file, instead of those of the configuration. */
  readonly knownHosts?: string | undefined;
  /** ssh_config file, instead of the user's and the system's. */
  readonly configFile?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface SshSettings {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password?: string | undefined;
  /** The host's name in known_hosts files, without the port. */
  readonly hostKeyAlias: string;
  /** The host is known by an alias, which has no port. */
  readonly hasHostKeyAlias: boolean;
  /** Private key files that were named; each should be there. */
  readonly identities: readonly string[];
  /** OpenSSH's usual private key files; those that are there are tried last. */
  readonly defaultIdentities: readonly string[];
  /** Of the agent's keys only those that belong to `identities`. */
  readonly identitiesOnly: boolean;
  /** Socket of the agent. */
  readonly agent?: string | undefined;
  /** The first is the one that new keys are added to. */
  readonly knownHostsFiles: readonly string[];
  /** Accept the key of a host that no file knows, and add it. */
  readonly acceptNew: boolean;
  readonly connectTimeoutMs: number;
  readonly jump?: SshSettings | undefined;
}

const CONNECT_TIMEOUT_MS = 20_000;
const MAX_JUMPS = 8;

export async function resolveSsh(question: SshQuestion, jumps = 0): Promise<SshSettings> {
  const { env, host: alias } = question;
  if (jumps > MAX_JUMPS)
    throw new HoldfastError("config", `more than ${MAX_JUMPS} jump hosts in the SSH configuration`);
  const home = env["HOME"] ?? homedir();
  const localUser = env["USER"] ?? env["LOGNAME"] ?? userInfo().username;
  const options = await readConfig(question, home);
  const one = (name: string): string | undefined => options.get(name)?.[0];

  const host = (one("hostname") ?? alias).replaceAll("%h", alias).replaceAll("%%", "%");
  const port = question.port ?? readPort(one("port"));
  const user = question.user ?? one("user") ?? localUser;
  const expand = (file: string): string => {
    const values: Record<string, string> = {
      "%": "%",
      d: home,
      h: host,
      n: alias,
      p: String(port),
      r: user,
      u: localUser,
    };
    const text = file.replace(/%(.)/gu, (whole, token: string) => values[token] ?? whole);
    return path.resolve(text === "~" || text.startsWith("~/") ? path.join(home, text.slice(1)) : text);
  };
  const files = (name: string, fallback: readonly string[]): string[] => {
    const named = options.get(name) ?? fallback;
    return named.filter((file) => file.toLowerCase() !== "none").map(expand);
  };

  const proxyCommand = one("proxycommand");
  const proxyJump = one("proxyjump");
  if (proxyCommand !== undefined && proxyCommand.toLowerCase() !== "none" && proxyJump === undefined) {
    throw new HoldfastError(
      "config",
      `the SSH configuration reaches ${alias} through a ProxyCommand, which is not supported; a ProxyJump is`,
    );
  }
  const agent = one("identityagent") ?? env["SSH_AUTH_SOCK"];
  const hostKeyAlias = one("hostkeyalias");
  return {
    host,
    port,
    user,
    password: question.password,
    hostKeyAlias: hostKeyAlias ?? host,
    hasHostKeyAlias: hostKeyAlias !== undefined,
    identities: [...(question.identity === undefined ? [] : [expand(question.identity)]), ...files("identityfile", [])],
    defaultIdentities: ["id_ed25519", "id_ecdsa", "id_rsa"].map((name) => path.join(home, ".ssh", name)),
    identitiesOnly: one("identitiesonly")?.toLowerCase() === "yes",
    agent: readAgent(agent, env, expand),
    knownHostsFiles:
      question.knownHosts === undefined
        ? [
            ...files("userknownhostsfile", ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]),
            ...files("globalknownhostsfile", ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]),
          ]
        : [expand(question.knownHosts)],
    acceptNew: ["accept-new", "no", "off"].includes(one("stricthostkeychecking")?.toLowerCase() ?? "ask"),
    connectTimeoutMs: readTimeout(one("connecttimeout")),
    jump: await readJump(proxyJump, question, jumps),
  };
}

function readPort(text: string | undefined): number {
  const port = Number(text ?? "22");
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw new HoldfastError("config", `the port ${JSON.stringify(text)} in the SSH configuration is none`);
}

function readTimeout(text: string | undefined): number {
  const seconds = Number(text);
  return text !== undefined && seconds > 0 && seconds < 3600 ? seconds * 1000 : CONNECT_TIMEOUT_MS;
}

function readAgent(
  agent: string | undefined,
  env: SshQuestion["env"],
  expand: (file: string) => string,
): string | undefined {
  if (agent === undefined || agent === "" || agent.toLowerCase() === "none") return undefined;
  if (agent === "SSH_AUTH_SOCK") return env["SSH_AUTH_SOCK"];
  if (agent.startsWith("$")) return env[agent.replace(/^\$\{?|\}$/gu, "")];
  return expand(agent);
}

async function readJump(
  jump: string | undefined,
  question: SshQuestion,
  jumps: number,
): Promise<SshSettings | undefined> {
  if (jump === undefined || jump.toLowerCase() === "none") return undefined;
  // `a,b` reaches the host through b, and b through a.
  const hosts = jump.split(",");
  let through: SshSettings | undefined;
  for (const hop of hosts) {
    const match = /^(?:ssh:\/\/)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d+))?$/u.exec(hop.trim());
    if (!match) throw new HoldfastError("config", `the ProxyJump ${JSON.stringify(hop)} is not user@host:port`);
    const settings = await resolveSsh(
      {
        host: (match[2] ?? "").replace(/^\[(.*)\]$/u, "$1"),
        user: match[1],
        port: match[3] === undefined ? undefined : readPort(match[3]),
        // The password and the identity are the target's; a jump host has its own from the configuration.
        knownHosts: question.knownHosts,
        configFile: question.configFile,
        env: question.env,
      },
      jumps + 1,
    );
    through = { ...settings, jump: through ?? settings.jump };
  }
  return through;
}

/** The options that hold for a host, by lower-case name; the first value wins, IdentityFile gathers. */
async function readConfig(question: SshQuestion, home: string): Promise<Map<string, string[]>> {
  const { default: SSHConfig } = await import("ssh-config");
  const files =
    question.configFile === undefined
      ? [path.join(home, ".ssh", "config"), "/etc/ssh/ssh_config"]
      : [question.configFile];
  const options = new Map<string, string[]>();
  for (const file of files) {
    const text = await readText(file, question.configFile !== undefined);
    if (text === undefined) continue;
    const base = file.startsWith("/etc/") ? "/etc/ssh" : path.join(home, ".ssh");
    let computed: Record<string, string | string[]>;
    try {
      const config = SSHConfig.parse(await expandIncludes(text, base, home, 0));
      computed = config.compute(
        { Host: question.host, ...(question.user === undefined ? {} : { User: question.user }) },
        { ignoreCase: true, matchExec: false },
      );
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      throw new HoldfastError("config", `the SSH configuration ${file} cannot be read as one`, { cause: error });
    }
    for (const [name, value] of Object.entries(computed)) {
      const values = typeof value === "string" ? [value] : value;
      const before = options.get(name);
      if (before === undefined) options.set(name, values);
      else if (name === "identityfile") before.push(...values);
    }
  }
  return options;
}

/** Replaces each Include line by the files that it names (sorted, `*` and `?` in their names only). */
async function expandIncludes(text: string, base: string, home: string, depth: number): Promise<string> {
  if (depth > 16) throw new HoldfastError("config", "the SSH configuration includes itself");
  const lines: string[] = [];
  for (const line of text.split(/\r?\n/u)) {
    const match = /^\s*include(?:\s*=\s*|\s+)(.+?)\s*$/iu.exec(line);
    if (!match) {
      lines.push(line);
      continue;
    }
    for (const word of (match[1] ?? "").split(/\s+/u)) {
      const pattern = path.resolve(base, word.replace(/^"|"$/gu, "").replace(/^~(?=\/)/u, home));
      for (const file of await findFiles(pattern)) {
        const included = await readText(file, false);
        if (included !== undefined) lines.push(await expandIncludes(included, base, home, depth + 1));
      }
    }
  }
  return lines.join("\n");
}

async function findFiles(pattern: string): Promise<string[]> {
  const name = path.basename(pattern);
  if (!/[*?]/u.test(name)) return [pattern];
  const source = name
    .replace(/[.+^${}()|[\]\\]/gu, "\\$&")
    .replace(/\*/gu, ".*")
    .replace(/\?/gu, ".");
  const expression = new RegExp(`^${source}$`, "u");
  const folder = path.dirname(pattern);
  const names = await readdir(folder).catch(() => []);
  return names
    .filter((one) => expression.test(one) && (!one.startsWith(".") || name.startsWith(".")))
    .sort()
    .map((one) => path.join(folder, one));
}

async function readText(file: string, needed: boolean): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (!needed && error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new HoldfastError("config", `cannot read the SSH configuration ${file}`, { cause: error });
  }
}
