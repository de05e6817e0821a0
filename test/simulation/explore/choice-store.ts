/** A store each call of which is one step: it arrives, takes effect and is answered at once, whenever it is chosen. */
import { checkedBytes } from "../../../src/contract/body.ts";
import { HoldfastError, toHoldfastError } from "../../../src/contract/errors.ts";
import type { ErrorCode, Operation } from "../../../src/contract/errors.ts";
import { isReserved, MAX_NAME_BYTES } from "../../../src/contract/names.ts";
import { resolveRange } from "../../../src/contract/ranges.ts";
import type {
  Body,
  Capabilities,
  DeleteResult,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "../../../src/contract/store.ts";
import type { Answer, Process, Touch } from "./actors.ts";
import { storeLabel } from "./scenario.ts";

export class ChoiceStore implements Store {
  readonly label: string;
  readonly capabilities: Capabilities = {
    orderedList: true,
    conditionalPut: true,
    prefixNames: true,
    maxNameBytes: MAX_NAME_BYTES,
    caseSensitive: true,
    storeDigests: [],
  };
  readonly #process: Process;
  readonly #place: number;

  constructor(process: Process, place: number) {
    this.#process = process;
    this.#place = place;
    this.label = storeLabel(place);
  }

  async put(name: string, body: Body, options: PutOptions = {}): Promise<PutResult> {
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of checkedBytes(body, options.signal)) chunks.push(chunk);
    } catch (error) {
      throw toHoldfastError(error).within({ store: this.label, operation: "put", object: name });
    }
    const bytes = Buffer.concat(chunks);
    const text = isReserved(name) ? `${bytes.length} bytes` : bytes.toString();
    return this.#process.call("put", this.#touch(name, true), text, options.signal, (disk) => {
      if (options.ifAbsent === true && disk.objects.has(name)) return this.#fails("conflict", "put", name);
      disk.set(name, bytes);
      return { value: { size: bytes.length }, told: "put" };
    });
  }

  async get(name: string, options: GetOptions = {}): Promise<GetResult> {
    return this.#process.call("get", this.#touch(name, false), "", options.signal, (disk): Answer<GetResult> => {
      const bytes = disk.objects.get(name);
      if (bytes === undefined) return this.#fails("not-found", "get", name);
      const { start, end } = resolveRange(options.range, bytes.length);
      // A copy: chunks belong to the consumer.
      const body = once(Buffer.from(bytes.subarray(start, end)));
      return { value: { info: infoOf(name, bytes), body, close: nothing }, told: bytes };
    });
  }

  stat(name: string, options: OperationOptions = {}): Promise<ObjectInfo> {
    return this.#process.call("stat", this.#touch(name, false), "", options.signal, (disk): Answer<ObjectInfo> => {
      const bytes = disk.objects.get(name);
      if (bytes === undefined) return this.#fails("not-found", "stat", name);
      return { value: infoOf(name, bytes), told: String(bytes.length) };
    });
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    const touch = { place: this.#place, writes: false, name: prefix, isPrefix: true };
    const infos = await this.#process.call("list", touch, "", options.signal, (disk) => {
      const found = disk.names(prefix).map((name) => infoOf(name, disk.objects.get(name) ?? Buffer.alloc(0)));
      return { value: found, told: found.map(({ name, size }) => `${name} ${size}`).join("\n") };
    });
    yield* infos;
  }

  delete(name: string, options: OperationOptions = {}): Promise<DeleteResult> {
    return this.#process.call("delete", this.#touch(name, true), "", options.signal, (disk) => {
      const existed = disk.delete(name);
      return { value: { existed }, told: String(existed) };
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #touch(name: string, writes: boolean): Touch {
    return { place: this.#place, writes, name, isPrefix: false };
  }

  #fails(code: ErrorCode, operation: Operation, object: string): { readonly error: HoldfastError } {
    const message = `simulated: ${code}`;
    return { error: new HoldfastError(code, message, { store: this.label, operation, object }) };
  }
}

function infoOf(name: string, bytes: Buffer): ObjectInfo {
  return { name, size: bytes.length, modifiedMs: 1 };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

const nothing = (): Promise<void> => Promise.resolve();
