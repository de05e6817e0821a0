/** Logins from a `.netrc` file, as ftp(1) and curl read it. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { HoldfastError } from "../../contract/errors.ts";

export interface NetrcLogin {
  readonly login?: string;
  readonly password?: string;
}

/**
 * The login for a host (and a user, when one is asked for), or undefined. The file is `NETRC` of the environment, or
 * `.netrc` in the home folder, where it need not exist.
 */
export async function netrcLogin(
  host: string,
  user: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<NetrcLogin | undefined> {
  const named = env["NETRC"];
  const file = named ?? path.join(env["HOME"] ?? homedir(), ".netrc");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (named === undefined && error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new HoldfastError("config", `cannot read ${file}`, { cause: error });
  }
  return findLogin(text, host, user);
}

/** The first entry of a netrc file's text that is for this host and user; `default` is for every host. */
export function findLogin(text: string, host: string, user: string | undefined): NetrcLogin | undefined {
  // A macro goes on to the next empty line, and is none of ours.
  const words = tokens(text.replace(/(^|\n)[ \t]*macdef\b[\s\S]*?(?:\n[ \t]*\r?\n|$)/gu, "\n"));
  let entry: { here: boolean; login?: string; password?: string } | undefined;
  const matches = (): boolean => entry?.here === true && (user === undefined || entry.login === user);
  const result = (): NetrcLogin => ({
    ...(entry?.login === undefined ? {} : { login: entry.login }),
    ...(entry?.password === undefined ? {} : { password: entry.password }),
  });
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === "machine" || word === "default") {
      if (matches()) return result();
      entry = { here: word === "default" || words[++i]?.toLowerCase() === host.toLowerCase() };
    } else if (entry && (word === "login" || word === "password")) {
      const value = words[++i];
      if (value !== undefined) entry[word] = value;
    } else if (word === "account") i++;
  }
  return matches() ? result() : undefined;
}

function tokens(text: string): string[] {
  const words: string[] = [];
  for (const line of text.split(/\r?\n/u)) {
    for (const [word] of line.matchAll(/"(?:[^"\\]|\\.)*"|[^\s"]\S*/gu)) {
      // A comment reaches to the end of its line; a `#` inside of a word is part of it.
      if (word.startsWith("#") && !["password", "login"].includes(words.at(-1) ?? "")) break;
      words.push(word.startsWith('"') ? word.slice(1, -1).replace(/\\(.)/gu, "$1") : word);
    }
  }
  return words;
}
