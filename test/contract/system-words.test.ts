import { connect } from "node:net";
import { once } from "node:events";
import { readdir, readFile, stat } from "node:fs/promises";
import { expect, it } from "vitest";
import { networkError } from "../../src/support/network-errors.ts";
import { systemWords, systemWordsOfPath } from "../../src/contract/system-words.ts";

async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

it("a missing file is named in words, without the system's code and call", async () => {
  const error = await errorOf(stat("/nonexistent/x"));
  expect([systemWords(error), systemWordsOfPath(error)]).toEqual([
    "there is no such file or folder",
    "there is no such file or folder: /nonexistent/x",
  ]);
});

it("a folder in place of a file, and a file in place of a folder", async () => {
  const [folder, file] = [await errorOf(readFile("/")), await errorOf(readdir("/dev/null"))];
  expect([systemWords(folder), systemWords(file)]).toEqual(["it is a folder", "a part of the path is not a folder"]);
});

it("an error that has no words of its own loses its code and call", () => {
  const error = Object.assign(new Error("EFOO: it went wrong, open '/x'"), { code: "EFOO" });
  expect(systemWords(error)).toBe("it went wrong");
});

it("other errors keep their message", () => {
  expect(systemWords(new Error("as it is"))).toBe("as it is");
});

it("a refused connection names the host and the port", async () => {
  const socket = connect(1, "127.0.0.1");
  const [error] = (await once(socket, "error").catch((failure: unknown) => [failure])) as [unknown];
  expect(networkError(error)).toMatchObject({
    code: "unavailable",
    message: "127.0.0.1:1: nothing listens there (connection refused)",
  });
});

it("a host that is not known is named", () => {
  const error = Object.assign(new Error("getaddrinfo ENOTFOUND nas"), { code: "ENOTFOUND", hostname: "nas" });
  expect(networkError(error)?.message).toBe("nas: the host is not known");
});
