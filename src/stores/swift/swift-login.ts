/** Logging in to an identity service, and where it says that objects are. */
import { z } from "zod";
import { HoldfastError } from "../../contract/errors.ts";
import type { SwiftAccess } from "./swift-settings.ts";

const endpointSchema = z.object({
  publicURL: z.string().optional(),
  url: z.string().optional(),
  interface: z.string().optional(),
  region: z.string().nullish(),
  region_id: z.string().nullish(),
});
const catalogSchema = z.array(z.object({ type: z.string(), endpoints: z.array(endpointSchema) }));
export const version2Schema = z.object({
  access: z.object({ token: z.object({ id: z.string() }), serviceCatalog: catalogSchema }),
});
export const version3Schema = z.object({ token: z.object({ catalog: catalogSchema }) });

export interface Session {
  readonly origin: string;
  /** Path of the account, without a slash at its end. */
  readonly path: string;
  readonly token: string;
}

type PasswordAccess = Extract<SwiftAccess, { kind: "password" }>;

export function version2Request(access: PasswordAccess): object {
  const tenant = access.projectId === undefined ? { tenantName: access.projectName } : { tenantId: access.projectId };
  const user = access.username === undefined ? { userId: access.userId } : { username: access.username };
  return { auth: { passwordCredentials: { ...user, password: access.password }, ...tenant } };
}

export function version3Request(access: PasswordAccess): object {
  const { username, userId, password, projectId, projectName, userDomain, projectDomain } = access;
  const user = userId === undefined ? { name: username, domain: userDomain, password } : { id: userId, password };
  const project =
    projectId === undefined
      ? projectName === undefined
        ? undefined
        : { name: projectName, domain: projectDomain }
      : { id: projectId };
  return {
    auth: {
      identity: { methods: ["password"], password: { user } },
      ...(project ? { scope: { project } } : {}),
    },
  };
}

export function storageUrlIn(catalog: z.infer<typeof catalogSchema>, region: string | undefined): string | undefined {
  const endpoints = catalog
    .filter((service) => service.type === "object-store")
    .flatMap((service) => service.endpoints);
  const found = endpoints.find(
    (endpoint) =>
      (endpoint.interface === undefined || endpoint.interface === "public") &&
      (region === undefined || endpoint.region === region || endpoint.region_id === region),
  );
  if (!found) {
    const where = region === undefined ? "" : ` in the region ${region}`;
    throw new HoldfastError("config", `the identity service knows no object store${where}`);
  }
  return found.publicURL ?? found.url;
}

export function sessionAt(storageUrl: string | undefined, token: string | undefined): Session {
  if (storageUrl === undefined || token === undefined || !URL.canParse(storageUrl)) {
    throw new HoldfastError("unavailable", "the identity service gave no token, or no place of the account");
  }
  const { origin, pathname, protocol } = new URL(storageUrl);
  if (protocol !== "http:" && protocol !== "https:") {
    throw new HoldfastError("unavailable", "the identity service gave a place of the account that is not HTTP");
  }
  return { origin, path: pathname.replace(/\/+$/u, ""), token };
}
