/** A store each call of which is one step: it arrives, takes effect and is answered at once, whenever it is chosen. */
import { checkedBytes } from "../../../src/contract/body.ts";
import { HoldfastError, toHoldfastError } from "../../../src/contract/errors.ts";
import type { ErrorCode, Operation } from "../../../src/contract/errors.ts";
import { isReserved } from "../../../src/contract/names.ts";
import { resolveRange } from "../../../src/contract/ranges.ts";
import type { GetResult, ObjectInfo, Store } from "../../../src/contract/store.ts";
import { simulatedCapabilities } from "../sim-store.ts";
import type { Answer, Process, Touch } from "./actors.ts";
import { storeLabel } from "./scenario.ts";

/** The store at `place`, as the process reaches it. */
export function choiceStore(process: Process, place: number): Store {
  const label = storeLabel(place);
  const touch = (name: string, writes: boolean): Touch => ({ place, writes, name, isPrefix: false });
  const failure = (code: ErrorCode, operation: Operation, object: string): { readonly error: HoldfastError } => ({
    error: new HoldfastError(code, `simulated: ${code}`, { store: label, operation, object }),
  });
  return {
    label,
    capabilities: simulatedCapabilities,
    async put(name, body, { signal, ifAbsent } = {}) {
      const chunks: Uint8Array[] = [];
      try {
        for await (const chunk of checkedBytes(body, signal)) chunks.push(chunk);
      } catch (error) {
        throw toHoldfastError(error).within({ store: label, operation: "put", object: name });
      }
      const bytes = Buffer.concat(chunks);
      const text = isReserved(name) ? `${bytes.length} bytes` : bytes.toString();
      return process.call("put", touch(name, true), text, signal, (disk) => {
        if (ifAbsent === true && disk.objects.has(name)) return failure("conflict", "put", name);
        disk.set(name, bytes);
        return { value: { size: bytes.length }, told: "put" };
      });
    },
    async get(name, { signal, range } = {}) {
      return process.call("get", touch(name, false), "", signal, (disk): Answer<GetResult> => {
        const bytes = disk.objects.get(name);
        if (bytes === undefined) return failure("not-found", "get", name);
        const { start, end } = resolveRange(range, bytes.length);
        // A copy: chunks belong to the consumer.
        const body = once(Buffer.from(bytes.subarray(start, end)));
        return { value: { info: infoOf(name, bytes), body, close: nothing }, told: bytes };
      });
    },
    stat: (name, { signal } = {}) =>
      process.call("stat", touch(name, false), "", signal, (disk): Answer<ObjectInfo> => {
        const bytes = disk.objects.get(name);
        if (bytes === undefined) return failure("not-found", "stat", name);
        return { value: infoOf(name, bytes), told: String(bytes.length) };
      }),
    async *list(prefix, { signal } = {}) {
      const touched = { place, writes: false, name: prefix, isPrefix: true };
      yield* await process.call("list", touched, "", signal, (disk) => {
        const found = disk.names(prefix).map((name) => infoOf(name, disk.objects.get(name) ?? Buffer.alloc(0)));
        return { value: found, told: found.map(({ name, size }) => `${name} ${size}`).join("\n") };
      });
    },
    delete: (name, { signal } = {}) =>
      process.call("delete", touch(name, true), "", signal, (disk) => {
        const existed = disk.delete(name);
        return { value: { existed }, told: String(existed) };
      }),
    close: nothing,
  };
}

function infoOf(name: string, bytes: Buffer): ObjectInfo {
  return { name, size: bytes.length, modifiedMs: 1 };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

const nothing = (): Promise<void> => Promise.resolve();
