/** The public API of Holdfast as a library. */
export { collect, toBody } from "./contract/body.ts";
export { bodyFromFile } from "./contract/file-body.ts";
export type { FileBody } from "./contract/file-body.ts";
export type { BodyInput, BodyOptions } from "./contract/body.ts";
export { HoldfastError, isHoldfastError } from "./contract/errors.ts";
export type { ErrorCode, HoldfastErrorOptions, Operation } from "./contract/errors.ts";
export type { LogFields, Logger } from "./contract/log.ts";
export { checkName, compareNames, MAX_NAME_BYTES } from "./contract/names.ts";
export { openPool } from "./open-pool.ts";
export type { OpenPoolOptions } from "./open-pool.ts";
export { knownSchemes, openStore } from "./stores/open-store.ts";
export type { OpenStoreOptions } from "./stores/open-store.ts";
export type { StoreContext, StoreKind, StoreKinds, StorePlace } from "./stores/base/store-kind.ts";
export { POOL_PARAMETERS } from "./config/parameters.ts";
export type { Placement, PoolParameter, PoolParameters, ReadOrder, WaitFor } from "./config/parameters.ts";
export { parsePool } from "./config/pool-config.ts";
export type { ParsePoolOptions, PoolDescription, SingleDescription, StoreDescription } from "./config/pool-config.ts";
export type { PoolFile } from "./config/pool-file.ts";
export type {
  DrainOptions,
  DrainReport,
  DrillOptions,
  DrillReport,
  Finding,
  FindingKind,
  Maintenance,
  Mode,
  OnFail,
  Pool,
  PoolDeleteResult,
  PoolGetResult,
  PoolObjectInfo,
  PoolPutOptions,
  PoolPutResult,
  PoolStatus,
  RebalanceOptions,
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
} from "./contract/pool.ts";
export type { Runtime, SinceBoot } from "./contract/runtime.ts";
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
  HashOperation,
  HashResult,
  ListOptions,
  NamesOperation,
  ObjectInfo,
  ObjectMetadata,
  OperationOptions,
  PutOptions,
  PutResult,
  Store,
} from "./contract/store.ts";
export type { StoreUrl } from "./contract/store-url.ts";
export { bandwidth } from "./wrappers/bandwidth.ts";
export type { BandwidthOptions } from "./wrappers/bandwidth.ts";
export { breaker } from "./wrappers/breaker.ts";
export type { BreakerOptions } from "./wrappers/breaker.ts";
export { deadline } from "./wrappers/deadline.ts";
export type { DeadlineOptions } from "./wrappers/deadline.ts";
export { ForwardingStore } from "./wrappers/forward.ts";
export { guarded } from "./wrappers/guarded.ts";
export type { GuardedOptions } from "./wrappers/guarded.ts";
export { limit } from "./wrappers/limit.ts";
export type { LimitOptions } from "./wrappers/limit.ts";
export type { OpenedStore } from "./wrappers/opened-store.ts";
export { retry } from "./wrappers/retry.ts";
export type { RetryOptions } from "./wrappers/retry.ts";
export { VERSION } from "./version.ts";
