/** `/metrics` and `/healthz` on an address of their own. */
import type { Credential } from "./http-tools.ts";
import { basicUser, send, statusOf } from "./http-tools.ts";
import type { Exchange, Gateway } from "./http-server.ts";
import { toHoldfastError } from "../errors.ts";
import type { GatewayMetrics } from "./metrics.ts";

/** With credentials, `/metrics` asks for one by basic authentication; `/healthz` never does. */
export function createMetricsGateway(metrics: GatewayMetrics, credentials: readonly Credential[]): Gateway {
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
