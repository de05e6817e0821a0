/** OpenSSH's known_hosts files: which keys a host is known to have (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). */
import { createHash, createHmac } from "node:crypto";

export interface KnownHost {
  /** Patterns of names, or one hashed name. */
  readonly hosts: string;
  readonly keyType: string;
  /** The key in base64, as the file has it. */
  readonly key: string;
  readonly marker?: "revoked" | "cert-authority";
}

/** What the files say about a host's key. */
export type HostKeyVerdict =
  | "known"
  /** No key of this host is known. */
  | "unknown"
  /** Other keys of this host are known. */
  | "changed"
  | "revoked";

/** The lines of a known_hosts file. Lines that are none of its format are passed over, as OpenSSH does. */
export function parseKnownHosts(text: string): KnownHost[] {
  const known: KnownHost[] = [];
  for (const line of text.split(/\r?\n/u)) {
    const fields = line.trim().split(/[ \t]+/u);
    if (fields[0] === "" || fields[0]?.startsWith("#")) continue;
    const marker = fields[0]?.startsWith("@") ? fields.shift()?.slice(1) : undefined;
    const [hosts, keyType, key] = fields;
    if (hosts === undefined || keyType === undefined || key === undefined) continue;
    if (marker === undefined) known.push({ hosts, keyType, key });
    else if (marker === "revoked" || marker === "cert-authority") known.push({ hosts, keyType, key, marker });
  }
  return known;
}

/** The name under which known_hosts files have a host: with brackets and the port unless that is 22. */
export function knownHostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** Whether a line is about this host. */
export function isAbout(line: KnownHost, name: string): boolean {
  if (line.hosts.startsWith("|")) {
    const [, version, salt, hash] = line.hosts.split("|");
    if (version !== "1" || salt === undefined || hash === undefined) return false;
    return createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest("base64") === hash;
  }
  let found = false;
  for (const pattern of line.hosts.split(",")) {
    const negated = pattern.startsWith("!");
    if (!matches(negated ? pattern.slice(1) : pattern, name)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

function matches(pattern: string, name: string): boolean {
  // `[` and `]` stand for themselves here: only `*` and `?` are wild.
  const source = pattern
    .toLowerCase()
    .replace(/[.+^${}()|[\]\\]/gu, "\\$&")
    .replace(/\*+/gu, ".*")
    .replace(/\?/gu, ".");
  return new RegExp(`^${source}$`, "u").test(name);
}

/** What the lines say about a key, given in SSH's binary form, of the host that they know as `name`. */
export function judgeHostKey(lines: readonly KnownHost[], name: string, key: Uint8Array): HostKeyVerdict {
  const wanted = Buffer.from(key);
  let verdict: HostKeyVerdict = "unknown";
  for (const line of lines) {
    if (line.marker === "cert-authority" || !isAbout(line, name)) continue;
    const same = Buffer.from(line.key, "base64").equals(wanted);
    if (line.marker === "revoked") {
      if (same) return "revoked";
    } else if (same) verdict = "known";
    else if (verdict === "unknown") verdict = "changed";
  }
  return verdict;
}

/** The types of the keys that a host is known to have, so that it can be asked for one of these. */
export function knownKeyTypes(lines: readonly KnownHost[], name: string): string[] {
  return [
    ...new Set(lines.filter((line) => line.marker === undefined && isAbout(line, name)).map((line) => line.keyType)),
  ];
}

/** A key's type and fingerprint, as OpenSSH prints them. */
export function describeHostKey(key: Uint8Array): string {
  const bytes = Buffer.from(key);
  const length = bytes.length >= 4 ? bytes.readUInt32BE(0) : 0;
  const type = bytes.subarray(4, 4 + Math.min(length, 64)).toString("latin1");
  return `${type} SHA256:${createHash("sha256").update(bytes).digest("base64").replace(/=+$/u, "")}`;
}
