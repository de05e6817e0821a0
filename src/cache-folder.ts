/** Where this machine keeps what can be made anew at any time. */
import { homedir } from "node:os";
import { join } from "node:path";

/** `$HOLDFAST_CACHE`, else `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It need not exist. */
export function cacheFolderPath(): string {
  return process.env["HOLDFAST_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "holdfast");
}
