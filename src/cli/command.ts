/** The `holdfast` command as a process: its arguments, streams, signals and exit code. */
import { constants } from "node:os";
import { HoldfastError } from "../contract/errors.ts";
import { processOutput } from "./terminal/output.ts";
import { run } from "./run.ts";

/** After everything is done, what is left open (a socket that lingers) gets so long before the process ends. */
const LINGER_MS = 1000;

/** Runs the command that the process was started with. */
export function runProcess(): void {
  // Libraries' warnings, which Node.js would print among the command's own lines, are for --debug (see run).
  process.removeAllListeners("warning");
  const stop = new AbortController();
  let stoppedBy: NodeJS.Signals | undefined;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      // The second one is an order.
      if (stoppedBy) process.exit(128 + constants.signals[name]);
      stoppedBy = name;
      stop.abort(new HoldfastError("aborted", `stopped by ${name}`));
    });
  }
  const onBroken = (): void => stop.abort(new HoldfastError("aborted", "the output cannot be written any more"));

  // Not awaited at the top: the command is bundled as CommonJS, which starts in less time.
  void run(
    process.argv.slice(2),
    {
      stdin: process.stdin,
      stdout: processOutput(process.stdout, onBroken),
      stderr: processOutput(process.stderr, () => undefined),
      env: process.env,
      cwd: process.cwd(),
    },
    stop,
  ).then((exitCode) => {
    process.exitCode = stoppedBy ? 128 + constants.signals[stoppedBy] : exitCode;
    process.stdin.destroy();
    setTimeout(() => process.exit(), LINGER_MS).unref();
    return undefined;
  });
}
