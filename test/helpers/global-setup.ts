/** Begins and ends the servers of a vitest run. */
import { beginServerRun, stopServers } from "./servers.ts";

export default async function setup(): Promise<() => Promise<void>> {
  await beginServerRun();
  return stopServers;
}
