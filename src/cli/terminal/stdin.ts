/** What stdin is: nothing at all, a pipe, or a file that may be written to while it is read. */
import { fstatSync } from "node:fs";
import { readFile, readlink } from "node:fs/promises";
import type { Readable } from "node:stream";
import { toBody } from "../../contract/body.ts";
import { HoldfastError } from "../../contract/errors.ts";
import type { Source } from "../files/put-file.ts";

/**
 * Stdin's bytes. Where it is a file (`put - NAME < FILE`) that is changed before its end was given, the body rejects with
 * `conflict`, and `changed` says so. `descriptor`: of the file behind `stdin`; undefined where there is none.
 */
export function sourceOfStdin(stdin: Readable, descriptor: number | undefined): Source {
  const found = descriptor === undefined ? undefined : fstatSync(descriptor, { bigint: true });
  if (descriptor === undefined || !found?.isFile()) return { body: toBody(stdin) };
  const file = { changed: false };
  const bytes = async function* (): AsyncGenerator<Uint8Array> {
    yield* stdin as AsyncIterable<Uint8Array>;
    // No store has all of it before this generator ends: its size was not told.
    const now = fstatSync(descriptor, { bigint: true });
    file.changed = now.size !== found.size || now.mtimeNs !== found.mtimeNs || now.ctimeNs !== found.ctimeNs;
    if (file.changed) throw new HoldfastError("conflict", "the file behind stdin was changed while it was read");
  };
  return { body: toBody(bytes()), file };
}

/**
 * Throws `config` where the process was started with stdin closed (`put - NAME <&-`): Node.js then puts /dev/null in its
 * place, and an empty object would be put, over one that is there. Node.js opens it for reading and writing, which a shell's
 * `</dev/null` does not. Can be told on Linux alone.
 */
export async function refuseClosedStdin(): Promise<void> {
  if (process.platform !== "linux") return;
  const path = await readlink("/proc/self/fd/0").catch(() => "");
  const facts = path === "/dev/null" ? await readFile("/proc/self/fdinfo/0", "utf8").catch(() => "") : "";
  const flags = Number.parseInt(/^flags:\s*([0-7]+)$/mu.exec(facts)?.[1] ?? "0", 8);
  const ACCESS = 3;
  const READ_AND_WRITE = 2;
  if ((flags & ACCESS) === READ_AND_WRITE)
    throw new HoldfastError("config", "stdin is closed: there is nothing to put");
}
