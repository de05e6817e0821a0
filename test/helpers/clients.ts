/** The programs that people point at a gateway, as Debian has them; `test/servers/install-clients.sh` installs them. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { execFileSync } from "node:child_process";
import path from "node:path";

export interface Client {
  readonly there: boolean;
  readonly program: string;
}

let installed = false;

/** Looks for a program, after trying to install what is missing, and says once why its tests are skipped. */
export function client(name: string): Client {
  if (!installed && process.env["HOLDFAST_NO_INSTALL"] !== "1") {
    installed = true;
    try {
      execFileSync("bash", [path.join(import.meta.dirname, "..", "servers", "install-clients.sh")], {
        stdio: "ignore",
      });
    } catch {
      // Said for each program below.
    }
  }
  const program = [`/usr/bin/${name}`, `/usr/sbin/${name}`, `/sbin/${name}`].find((one) => existsSync(one));
  if (program === undefined) {
    if (process.env["HOLDFAST_REQUIRE_SERVERS"] === "1")
      throw new Error(`${name} is required here and is not installed`);
    process.stdout.write(`skipped: tests with ${name}, which is not installed (test/servers/install-clients.sh)\n`);
  }
  return { there: program !== undefined, program: program ?? name };
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Exit codes that are no failure. Default 0 alone. */
  readonly codes?: readonly number[];
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, with a clean environment. Rejects with its output for an unexpected exit code. */
export async function runClient(name: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { codes = [0] } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(client(name).program, args, {
      cwd: options.cwd,
      env: { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C.UTF-8", ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== null && codes.includes(code)) resolve({ code, stdout, stderr });
      else reject(new Error(`${name} ${args.join(" ")} ended with ${code}\n${stdout}\n${stderr}`));
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
  });
}
