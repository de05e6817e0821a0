/** What a store of a pool is called when that pool is a store of another one. */
export function nestedLabel(pool: string, store: string): string {
  return `${pool} > ${store}`;
}
