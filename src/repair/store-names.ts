/** What a user may call a store of a pool. */

/** Its label, its id, and the plain path of a folder that has no description. */
export function storeNames({
  label,
  id,
}: {
  readonly label: string;
  readonly id?: string | undefined;
}): readonly string[] {
  const path = label.startsWith("file:///") ? [label.slice("file://".length)] : [];
  return [label, ...path, ...(id === undefined ? [] : [id])];
}
