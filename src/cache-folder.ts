/** Where this machine keeps what can be made anew at any time. */
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * `$HOLDFAST_CACHE`, else `$XDG_CACHE_HOME/holdfast`, else `~/.cache/holdfast`. It need not exist. An empty value stands for none,
 * and so does, as the XDG specification has it, a relative XDG_CACHE_HOME.
 */
export function cacheFolderPath(): string {
  const { HOLDFAST_CACHE: own, XDG_CACHE_HOME: shared = "" } = process.env;
  if (own !== undefined && own !== "") return own;
  return join(isAbsolute(shared) ? shared : join(homedir(), ".cache"), "holdfast");
}
