/** Whether there is a stdin at all. */
import { readFile, readlink } from "node:fs/promises";
import { HoldfastError } from "../../contract/errors.ts";

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
