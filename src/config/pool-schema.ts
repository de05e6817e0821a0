/** The JSON Schema of a pool's file, for editors: made from the same table that the parser reads parameters with. */
import { POOL_PARAMETERS } from "./parameters.ts";

/** Name of the schema; not an address. It stands in the package, as `dist/pool.schema.json`. */
export const POOL_SCHEMA_ID = "urn:holdfast:pool";

/** The schema (draft 2020-12) of both forms of a pool's file: the list, and the object with parameters. */
export function poolSchema(): Record<string, unknown> {
  const parameters: Record<string, unknown> = {};
  for (const { name, description, schema } of POOL_PARAMETERS) parameters[name] = { description, ...schema };
  const store = (strict: boolean): Record<string, unknown> => ({
    type: "object",
    required: ["url"],
    properties: {
      url: {
        type: "string",
        minLength: 1,
        description: "Where the store is: file:///folder, s3://…, sftp://…, webdavs://…, multi:///another/pool.json …",
      },
      // The list form is duplicity's, which ignores what it does not know.
      description: strict
        ? { type: "string", description: "The store's name in messages. Its URL without credentials when left out." }
        : { description: "The store's name in messages. Its URL without credentials when left out." },
      env: {
        type: "array",
        description: "Environment variables for this store alone: its credentials, for example.",
        items: {
          type: "object",
          required: ["name", "value"],
          properties: {
            name: { type: "string", pattern: "^[A-Za-z_][A-Za-z0-9_]*$" },
            value: { type: "string" },
          },
          ...(strict ? { additionalProperties: false } : {}),
        },
      },
      prefixes: {
        type: "array",
        description: "mode=mirror: objects whose name starts with one of these are kept on the stores that name it.",
        items: { type: "string" },
      },
      weight: {
        type: "number",
        exclusiveMinimum: 0,
        maximum: 1_000_000,
        description: "mode=stripe with place=weighted: the store's share, relative to the others'. Default 1.",
      },
    },
    ...(strict ? { additionalProperties: false } : {}),
  });
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: POOL_SCHEMA_ID,
    title: "Holdfast pool",
    description: "The stores of a pool: a list of them, or an object with the pool's parameters and the list.",
    anyOf: [
      { type: "array", minItems: 1, items: store(false) },
      {
        type: "object",
        required: ["stores"],
        properties: {
          $schema: { type: "string" },
          ...parameters,
          stores: { type: "array", minItems: 1, description: "The stores, in order.", items: store(true) },
        },
        additionalProperties: false,
      },
    ],
  };
}
