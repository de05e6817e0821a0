/** What S3 and the SDK's chain of credentials say went wrong, as an error of Holdfast. */
import { HoldfastError } from "../../contract/errors.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { httpError, networkError } from "../../support/network-errors.ts";
import { S3Failure } from "./s3-service.ts";

/** Services' error codes that say more than the HTTP status does: code of Holdfast, and whether to try again. */
const serviceCodes: Readonly<Record<string, readonly [ErrorCode, boolean?]>> = {
  NoSuchKey: ["not-found"],
  NoSuchVersion: ["not-found"],
  NoSuchUpload: ["unavailable"],
  AccessDenied: ["denied"],
  AllAccessDisabled: ["denied"],
  AccountProblem: ["denied"],
  ExpiredToken: ["denied"],
  ExpiredTokenException: ["denied"],
  InvalidAccessKeyId: ["denied"],
  InvalidToken: ["denied"],
  SignatureDoesNotMatch: ["denied"],
  AuthorizationHeaderMalformed: ["denied"],
  TokenRefreshRequired: ["denied"],
  CredentialsProviderError: ["denied"],
  // The difference of the clocks was learnt from the answer: the next try is signed with the right time.
  RequestTimeTooSkewed: ["denied", true],
  PreconditionFailed: ["conflict"],
  // Another conditional request for the same name was under way.
  ConditionalRequestConflict: ["conflict", true],
  OperationAborted: ["conflict", true],
  SlowDown: ["throttled"],
  Throttling: ["throttled"],
  ThrottlingException: ["throttled"],
  RequestLimitExceeded: ["throttled"],
  TooManyRequests: ["throttled"],
  BandwidthLimitExceeded: ["throttled"],
  QuotaExceeded: ["full"],
  StorageQuotaExceeded: ["full"],
  InsufficientStorage: ["full"],
  XMinioStorageFull: ["full"],
  XMinioAdminBucketQuotaExceeded: ["full"],
  // The bytes were damaged on their way: they are still right here.
  BadDigest: ["corrupt", true],
  InvalidDigest: ["corrupt", true],
  XAmzContentSHA256Mismatch: ["corrupt", true],
  IncompleteBody: ["unavailable"],
  RequestTimeout: ["timeout"],
  RequestAborted: ["aborted"],
  InternalError: ["unavailable"],
  ServiceUnavailable: ["unavailable"],
  EntityTooLarge: ["invalid"],
  KeyTooLongError: ["invalid"],
  InvalidURI: ["invalid"],
  InvalidObjectName: ["invalid"],
  NotImplemented: ["unsupported"],
  MethodNotAllowed: ["unsupported"],
  // In cold storage: it has to be restored there first.
  InvalidObjectState: ["unavailable", false],
};

/** What the service or the SDK's chain of credentials said, as an error of Holdfast. */
export function mapS3Error(error: unknown, bucket: string, nowMs: number): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const name = nameOf(error);
  if (name === "NoSuchBucket") return noBucket(bucket, error);
  const failure = error instanceof S3Failure ? error : undefined;
  const status = failure?.status;
  const message = error instanceof Error ? error.message : String(error);
  const byStatus =
    failure && httpError({ status: failure.status, message, retryAfter: failure.retryAfter, nowMs, cause: error });
  const known = serviceCodes[name];
  if (known) {
    const [code, retryable] = known;
    return new HoldfastError(code, message, { cause: error, retryable, retryAfterMs: byStatus?.retryAfterMs });
  }
  if (status === 301 || status === 307 || status === 308) {
    return new HoldfastError(
      "unavailable",
      "the service redirects elsewhere, which is not followed: set region= or endpoint= to where the bucket is",
      { cause: error, retryable: status === 307 },
    );
  }
  // An error that a success turned out to be may pass.
  if (status !== undefined && status < 300) return new HoldfastError("unavailable", message, { cause: error });
  return byStatus ?? networkError(error) ?? new HoldfastError("internal", message, { cause: error });
}

export function noBucket(bucket: string, cause: unknown): HoldfastError {
  return new HoldfastError("unavailable", `the bucket ${bucket} does not exist`, { cause, retryable: false });
}

/** What the service or the SDK calls an error; empty where it gave it no name. */
export function nameOf(error: unknown): string {
  if (error instanceof S3Failure) return error.code;
  return error instanceof Error ? error.name : "";
}

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3Failure ? error.status : undefined;
}
