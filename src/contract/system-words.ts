/** What the operating system says went wrong, in plain words: without its code, and without the name of the call. */
import { constants } from "node:os";

const WORDS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EADDRINUSE: "another program listens there already",
  EADDRNOTAVAIL: "this machine has no such address",
  EAI_AGAIN: "the host's name cannot be looked up now",
  EBUSY: "it is in use",
  ECONNABORTED: "the connection ended early",
  ECONNREFUSED: "nothing listens there (connection refused)",
  ECONNRESET: "the other end closed the connection",
  EDQUOT: "the quota is used up",
  EEXIST: "something of this name is there already",
  EFBIG: "the file is too large for its file system",
  EHOSTDOWN: "the host is down",
  EHOSTUNREACH: "no way leads to the host",
  EILSEQ: "the file system does not take such a name",
  EINVAL: "the file system does not accept that",
  EIO: "the disk reports an input or output error",
  EISDIR: "it is a folder",
  ELOOP: "a symbolic link stands in the way",
  EMFILE: "this process has as many files open as it may have",
  ENAMETOOLONG: "the name is too long for the file system",
  ENETDOWN: "the network is down",
  ENETUNREACH: "no way leads to the network",
  ENFILE: "this machine has as many files open as it can have",
  ENODATA: "the name server knows no address of the host",
  ENODEV: "the device is gone",
  ENOENT: "there is no such file or folder",
  ENOMEM: "this machine has no memory left",
  ENOSPC: "no space is left on the disk",
  ENOTCONN: "the connection is gone",
  ENOTDIR: "a part of the path is not a folder",
  ENOTEMPTY: "the folder is not empty",
  ENOTFOUND: "the host is not known",
  ENOTSUP: "the file system cannot do that",
  ENXIO: "the device is gone",
  EPERM: "the system does not permit it",
  EPIPE: "the other end closed the connection",
  EROFS: "the file system is read-only",
  ESTALE: "the file server has lost it",
  ETIMEDOUT: "no answer came in time",
  ETXTBSY: "it is a program that is running",
  EXDEV: "it is on another file system",
};

function textIn(error: Error, field: string): string | undefined {
  const value: unknown = Object.getOwnPropertyDescriptor(error, field)?.value;
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

/** Names of the system's errors by their numbers: Node knows some (ESTALE, EDQUOT) by these alone. */
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(constants.errno).map(([name, no]) => [-no, name]));

/** The system's or library's code of this very error (`ECONNRESET` …), empty where it has none. */
export function ownCode(error: Error): string {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (!code.startsWith("Unknown system error") || !("errno" in error) || typeof error.errno !== "number") return code;
  return NAMES.get(error.errno) ?? code;
}

/**
 * What an error says, for people. A system's error is named in words (`permission denied`); where it is a host's, the host
 * stands before them (`nas:22: nothing listens there`). Any other error's own message.
 */
export function systemWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = ownCode(error);
  const words = wordsOfCode(code);
  if (words === undefined) {
    // `EFOO: said so, call '/path'`, as Node.js puts what the system says.
    const named = /^E[A-Z0-9]+$/u.test(code)
      ? error.message.replaceAll(/Unknown system error -\d+/gu, code)
      : error.message;
    return named.replace(/^E[A-Z0-9]+: (.+?), [a-z_]+(?: '.*)?$/su, "$1");
  }
  const [host, port] = [textIn(error, "hostname") ?? textIn(error, "address"), textIn(error, "port")];
  return host === undefined ? words : `${port === undefined ? host : `${host}:${port}`}: ${words}`;
}

/** Words for a system's error code, without a host or a path; undefined for a code that has none. */
export function wordsOfCode(code: string | undefined): string | undefined {
  return WORDS[code ?? ""];
}

/**
 * What {@link systemWords} says, with the path that the system named: `permission denied: /mnt/disk`. A path by way of an
 * open folder (`/proc/self/fd/20`) tells people nothing, and is left out.
 */
export function systemWordsOfPath(error: unknown): string {
  const path = error instanceof Error ? textIn(error, "path") : undefined;
  return path === undefined || path.startsWith("/proc/self/fd/")
    ? systemWords(error)
    : `${systemWords(error)}: ${path}`;
}
