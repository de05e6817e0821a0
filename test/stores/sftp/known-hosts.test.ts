import { createHmac } from "node:crypto";
import { expect, it } from "vitest";
import { judgeHostKey, knownHostName, knownKeyTypes, parseKnownHosts } from "../../../src/stores/sftp/known-hosts.ts";

const key = Buffer.from("a key");
const other = Buffer.from("another key");
const line = (hosts: string, bytes = key, type = "ssh-ed25519"): string =>
  `${hosts} ${type} ${bytes.toString("base64")}`;

function hashed(name: string): string {
  const salt = Buffer.from("twenty bytes of salt");
  return `|1|${salt.toString("base64")}|${createHmac("sha1", salt).update(name).digest("base64")}`;
}

it.each([
  ["a plain name", "host", 22, "host", "known"],
  ["one name of several", "host", 22, "other,host,10.0.0.1", "known"],
  ["another case", "HOST", 22, "host", "known"],
  ["a wildcard", "a.example.org", 22, "*.example.org", "known"],
  ["a question mark", "a1", 22, "a?", "known"],
  ["a dot is a dot", "axb", 22, "a.b", "unknown"],
  ["a negated name", "bad.example.org", 22, "*.example.org,!bad.example.org", "unknown"],
  ["a port", "host", 2222, "[host]:2222", "known"],
  ["another port", "host", 2222, "[host]:22,host", "unknown"],
  ["a hashed name", "host", 22, hashed("host"), "known"],
  ["a hashed name with its port", "host", 2222, hashed("[host]:2222"), "known"],
  ["another's hashed name", "host", 22, hashed("tsoh"), "unknown"],
  ["the wrong hash version", "host", 22, hashed("host").replace("|1|", "|2|"), "unknown"],
])("%s", (_what, host, port, hosts, verdict) => {
  const lines = parseKnownHosts(`# a comment\n\n${line(hosts)}\nhalf-a-line\n`);
  expect(judgeHostKey(lines, knownHostName(host, port), key)).toBe(verdict);
});

it("another key of a known host is a change, unless the right one is known too", () => {
  expect(judgeHostKey(parseKnownHosts(line("host", other)), "host", key)).toBe("changed");
  expect(judgeHostKey(parseKnownHosts(`${line("host", other)}\n${line("host")}`), "host", key)).toBe("known");
});

it("a revoked key is refused wherever it stands", () => {
  const revoked = `@revoked ${line("*")}`;
  expect(judgeHostKey(parseKnownHosts(`${line("host")}\n${revoked}`), "host", key)).toBe("revoked");
  expect(judgeHostKey(parseKnownHosts(`${revoked}\n${line("host", other)}`), "host", other)).toBe("known");
});

it("an authority's key is no host's key", () => {
  const lines = parseKnownHosts(`@cert-authority ${line("*")}`);
  expect(judgeHostKey(lines, "host", key)).toBe("unknown");
  expect(knownKeyTypes(lines, "host")).toEqual([]);
});

it("tells which types of key are known", () => {
  const lines = parseKnownHosts(`${line("host", key, "ssh-rsa")}\n${line("other")}\n${line("h*", other)}`);
  expect(knownKeyTypes(lines, "host")).toEqual(["ssh-rsa", "ssh-ed25519"]);
});
