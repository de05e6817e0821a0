/** Loading of packages that are not installed with Holdfast, because few need them. */
import { HoldfastError } from "../../contract/errors.ts";

/** Loads an optional package. Throws `config`, saying what to install, when it is not there. */
export async function loadPeer<Module>(name: string, purpose: string, load: () => Promise<Module>): Promise<Module> {
  try {
    return await load();
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error) || error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new HoldfastError("config", `${purpose} needs the package ${name}: npm install ${name}`, { cause: error });
  }
}
