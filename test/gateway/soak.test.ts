/** A few seconds of the soak (`npm run soak` runs it for longer). */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { client } from "../helpers/clients.ts";
import { commandPath } from "../helpers/command.ts";

const script = fileURLToPath(new URL("../../scripts/soak.mjs", import.meta.url));

test.runIf(client("rclone").there)(
  "loses no acknowledged object and gives no wrong byte while stores are killed",
  async () => {
    const args = [script, "--minutes", "0.25", "--clients", "12", "--main", await commandPath()];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    process.stdout.write(stdout);
    expect(JSON.parse(stdout)).toMatchObject({ wrong: [], kills: expect.toSatisfy((kills: number) => kills >= 1) });
  },
  150_000,
);
