/** `holdfast check-store`: tries a store before it is trusted. */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { collect, toBody } from "../../contract/body.ts";
import { runConformance } from "../../conformance/index.ts";
import { HoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { openStore } from "../../stores/open-store.ts";
import { redactText, secretsOf } from "../../support/redact.ts";
import type { Capabilities, Store } from "../../contract/store.ts";
import { parseStoreUrl } from "../../contract/store-url.ts";
import type { CommandContext } from "../context.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";

/** Objects for the measurement of throughput are this large: short on a slow line, long enough on a fast one. */
const SPEED_BYTES = 8 * 1024 * 1024;
const LATENCY_ROUNDS = 5;

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

export async function checkStore(
  context: CommandContext,
  url: string,
  options: { readonly full?: boolean; readonly speed?: boolean },
): Promise<void> {
  const { printer, outcome, signal } = context;
  if (/^multi:/iu.test(url)) throw new HoldfastError("config", "check-store tries one store; a pool's URL is given");
  const parsed = parseStoreUrl(url);
  if (parsed.scheme === "file" && (await isFile(resolve(context.cwd, parsed.path)))) {
    const message = `check-store tries one store, and ${printable(url)} is a file: give the URL of a store, or a folder`;
    throw new HoldfastError("config", message);
  }
  const secrets = secretsOf(parsed, context.env);
  context.addSecrets(secrets);
  const open = (): Promise<Store> => openStore(url, { logger: context.logger, signal });
  const store = await open();
  context.closeLater(() => store.close());
  await reach(store, context);
  const capabilities = store.capabilities;
  await printer.data(
    { type: "capabilities", store: store.label, ...capabilities },
    capabilityLine(store.label, capabilities),
  );
  const tally = { passed: 0, failed: 0, notApplicable: 0 };
  await runConformance({
    open,
    quick: options.full !== true,
    signal,
    onResult: (result) => {
      const record = {
        type: "case",
        name: result.name,
        outcome: result.outcome,
        elapsedMs: Math.round(result.elapsedMs),
      };
      if (result.outcome === "passed") {
        tally.passed++;
        void printer.step(record, `passed  ${result.name}`);
      } else if (result.outcome === "failed") {
        tally.failed++;
        const reason = redactText(result.error?.message ?? "", secrets);
        void printer.data({ ...record, reason }, `FAILED  ${result.name}: ${printable(reason)}`);
      } else {
        tally.notApplicable++;
        void printer.step({ ...record, reason: result.reason }, `n/a     ${result.name} (${result.reason ?? ""})`);
      }
    },
  });
  throwIfAborted(signal);
  if (tally.failed > 0) outcome.failed();
  if (options.speed !== false) {
    const speed = await measure(store, signal);
    await printer.data(
      { type: "speed", ...speed },
      `latency ${speed.latencyMs.toFixed(1)} ms; up ${formatBytes(speed.upBytesPerSecond)}/s, down ${formatBytes(speed.downBytesPerSecond)}/s`,
    );
  }
  const verdict = tally.failed === 0 ? "every guarantee holds" : `${count(tally.failed, "guarantee")} does NOT hold`;
  await printer.done(
    { type: "summary", command: "check-store", ...tally, exitCode: outcome.exitCode },
    `${tally.passed} passed, ${tally.failed} failed, ${tally.notApplicable} not applicable: ${verdict}`,
  );
}

/** One request first: a store that is down or refuses has one clear error, not one for each case. */
async function reach(store: Store, context: CommandContext): Promise<void> {
  for await (const _ of store.list(`holdfast-check-${randomBytes(6).toString("hex")}/`, { signal: context.signal }))
    break;
}

function capabilityLine(label: string, capabilities: Capabilities): string {
  const digests = capabilities.storeDigests.length > 0 ? capabilities.storeDigests.join(", ") : "none";
  const parts = [
    capabilities.orderedList ? "lists in name order" : "lists in no order",
    capabilities.conditionalPut ? "conditional puts" : "no conditional puts",
    capabilities.prefixNames ? "a beside a/b" : "no a beside a/b",
    capabilities.caseSensitive ? "case counts" : "case does not count",
    `names up to ${capabilities.maxNameBytes} bytes`,
    ...(capabilities.maxNamePartBytes === undefined ? [] : [`parts up to ${capabilities.maxNamePartBytes}`]),
    ...(capabilities.maxObjectBytes === undefined ? [] : [`objects up to ${formatBytes(capabilities.maxObjectBytes)}`]),
    `own digests: ${digests}`,
  ];
  return `${printable(label)}: ${parts.join("; ")}`;
}

async function measure(
  store: Store,
  signal: AbortSignal,
): Promise<{ latencyMs: number; upBytesPerSecond: number; downBytesPerSecond: number }> {
  const name = `holdfast-check-${randomBytes(6).toString("hex")}/speed`;
  const bytes = randomBytes(SPEED_BYTES);
  try {
    let start = performance.now();
    await store.put(name, toBody(bytes), { signal });
    const upMs = performance.now() - start;
    start = performance.now();
    const result = await store.get(name, { signal });
    const back = await collect(result.body);
    await result.close();
    const downMs = performance.now() - start;
    if (!bytes.equals(back)) throw new HoldfastError("corrupt", "what was read is not what was put", { object: name });
    const rounds: number[] = [];
    for (let round = 0; round < LATENCY_ROUNDS; round++) {
      start = performance.now();
      await store.stat(name, { signal });
      rounds.push(performance.now() - start);
    }
    rounds.sort((a, b) => a - b);
    return {
      latencyMs: rounds[Math.floor(LATENCY_ROUNDS / 2)] ?? 0,
      upBytesPerSecond: Math.round((SPEED_BYTES * 1000) / upMs),
      downBytesPerSecond: Math.round((SPEED_BYTES * 1000) / downMs),
    };
  } finally {
    // Also after a stop: nothing of ours stays on a user's store.
    await store.delete(name);
  }
}
