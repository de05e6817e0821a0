/** The public API of Holdfast as a library. */
export { collect, toBody } from "./body.ts";
export { bodyFromFile } from "./file-body.ts";
export type { FileBody } from "./file-body.ts";
export type { BodyInput, BodyOptions } from "./body.ts";
export { HoldfastError, isHoldfastError } from "./errors.ts";
export type { ErrorCode, HoldfastErrorOptions, Operation } from "./errors.ts";
export type { LogFields, Logger } from "./log.ts";
export { checkName, compareNames, MAX_NAME_BYTES } from "./names.ts";
export { openPool } from "./open-pool.ts";
export type { OpenedPool, OpenPoolOptions, PoolPutOptions } from "./open-pool.ts";
export { knownSchemes, openStore } from "./open-store.ts";
export type { OpenStoreOptions, StoreContext, StoreKind, StorePlace } from "./open-store.ts";
export { parsePool, POOL_PARAMETERS } from "./pool-config.ts";
export type {
  ParsePoolOptions,
  Placement,
  PoolDescription,
  PoolFile,
  PoolParameter,
  PoolParameters,
  ReadOrder,
  SingleDescription,
  StoreDescription,
} from "./pool-config.ts";
export type {
  DrainReport,
  DrillReport,
  Finding,
  FindingKind,
  Mode,
  OnFail,
  Pool,
  PoolDeleteResult,
  PoolObjectInfo,
  PoolPutResult,
  PoolStatus,
  RepairAction,
  RepairOptions,
  RepairReport,
  ScanOptions,
  ScanProgress,
  StoreReport,
  StoreStatus,
  StoreTrouble,
  VerifyOptions,
  VerifyReport,
} from "./pool.ts";
export type { Runtime } from "./runtime.ts";
export type {
  Body,
  ByteRange,
  Capabilities,
  ChangeCondition,
  Debt,
  DeleteOptions,
  DeleteResult,
  DigestAlgorithm,
  GetOptions,
  GetResult,
  ListOptions,
  ObjectInfo,
  ObjectMetadata,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "./store.ts";
export type { StoreUrl } from "./store-url.ts";
export { VERSION } from "./version.ts";
