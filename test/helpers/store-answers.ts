/** What a store answers, in a form to compare; a pool is one. */
import { collect } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import type { GetOptions, ListOptions, Store } from "../../src/contract/store.ts";

export async function readBytes(store: Pick<Store, "get">, name: string, options?: GetOptions): Promise<Buffer> {
  const { body } = await store.get(name, options);
  return Buffer.from(await collect(body));
}

export async function readText(store: Pick<Store, "get">, name: string, options?: GetOptions): Promise<string> {
  return (await readBytes(store, name, options)).toString();
}

/** The names of a whole listing, in its order. */
export async function namesOf(store: Pick<Store, "list">, prefix = "", options?: ListOptions): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of store.list(prefix, options)) found.push(name);
  return found;
}

/** The code that work fails with; `no error` where it does not fail. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "no error";
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    return error.code;
  }
}
