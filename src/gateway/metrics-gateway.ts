/** `/metrics`, `/healthz` and `/readyz` on an address of their own. */
import type { Credential } from "./http-tools.ts";
import { basicUser, send, statusOf } from "./http-tools.ts";
import type { Exchange, Gateway } from "./exchange.ts";
import { toHoldfastError } from "../contract/errors.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { Ready } from "./readiness.ts";

/** With credentials, `/metrics` asks for one by basic authentication; the others never do. */
export function createMetricsGateway(
  metrics: GatewayMetrics,
  credentials: readonly Credential[],
  ready: () => Promise<Ready>,
): Gateway {
  return {
    protocol: "metrics",
    async handle(exchange: Exchange): Promise<void> {
      const { rawPath, method, request } = exchange;
      if (method !== "GET" && method !== "HEAD") {
        send(exchange, 405, { Allow: "GET, HEAD" });
        return;
      }
      if (rawPath === "/healthz") {
        send(exchange, 200, { "Content-Type": "text/plain" }, "ok\n");
        return;
      }
      if (rawPath === "/readyz") {
        const { isReady, text } = await ready();
        send(exchange, isReady ? 200 : 503, { "Content-Type": "text/plain" }, `${text}\n`);
        return;
      }
      if (rawPath !== "/metrics") {
        send(exchange, 404);
        return;
      }
      if (credentials.length > 0 && !basicUser(request.headers.authorization, credentials)) {
        send(exchange, 401, { "WWW-Authenticate": 'Basic realm="holdfast"' });
        return;
      }
      send(exchange, 200, { "Content-Type": metrics.contentType }, await metrics.text());
    },
    fail(exchange: Exchange, error: unknown): void {
      send(exchange, statusOf(toHoldfastError(error)), { "Content-Type": "text/plain" }, "error\n");
    },
  };
}
