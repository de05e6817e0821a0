/** Folders that hold no file, which stand in the way of a file of their name. */
import { readdir, rmdir } from "node:fs/promises";
import { systemCode } from "./network-errors.ts";

/** Removes a directory that holds nothing but empty directories. Resolves to whether it is gone. */
export async function removeEmpty(path: string): Promise<boolean> {
  try {
    await rmdir(path);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === "ENOENT") return true;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") return false;
  }
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
  if (!entries?.every((entry) => entry.isDirectory())) return false;
  for (const entry of entries) {
    if (!(await removeEmpty(`${path}/${entry.name}`))) return false;
  }
  return rmdir(path).then(
    () => true,
    () => false,
  );
}
