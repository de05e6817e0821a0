/** Begins and ends the servers of a vitest run, and prints its report. */
import { appendFile } from "node:fs/promises";
import { serverReport } from "./report-lines.ts";
import { beginServerRun, stopServers } from "./servers.ts";

export default async function setup(): Promise<() => Promise<void>> {
  await beginServerRun();
  return async () => {
    const report = await serverReport();
    if (report !== "") process.stdout.write(`\n${report}`);
    const file = process.env["HOLDFAST_SERVER_REPORT"];
    if (file !== undefined) await appendFile(file, report);
    await stopServers();
  };
}
