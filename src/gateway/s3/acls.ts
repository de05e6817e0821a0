/** The one ACL that everything has: the owner may do everything, and nobody else anything. */
import { OWNER, OWNER_ID } from "./answers.ts";
import { takeWhole } from "./call.ts";
import type { Call } from "./call.ts";
import { S3Error } from "./s3-error.ts";
import { parseXml, tag } from "./xml.ts";

export function aclXml(): string {
  return (
    `<Owner>${OWNER}</Owner><AccessControlList><Grant>` +
    `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">${OWNER}</Grantee>` +
    `${tag("Permission", "FULL_CONTROL")}</Grant></AccessControlList>`
  );
}

/** Takes a request to set the ACL that is there already, in a header or in the body. Throws for every other. */
export async function takeAcl(call: Call): Promise<void> {
  const body = await takeWhole(call);
  const inHeader = call.exchange.request.headers["x-amz-acl"] !== undefined;
  if (body.length === 0) {
    if (!inHeader) throw new S3Error("MissingSecurityHeader", "an ACL is given as x-amz-acl or in the body");
    return;
  }
  if (inHeader) throw new S3Error("InvalidRequest", "an ACL is given as x-amz-acl or in the body, not as both");
  const policy = await parseXml(body, "AccessControlPolicy");
  const owners = policy.all("Owner").map((owner) => owner.text("ID"));
  const grants = policy.all("AccessControlList").flatMap((list) => list.all("Grant"));
  const isOwners = grants.every((grant) => {
    const grantees = grant.all("Grantee");
    const ids = grantees.flatMap((grantee) => grantee.all("ID").map((id) => id.value));
    const others = grantees.flatMap((grantee) => [...grantee.all("URI"), ...grantee.all("EmailAddress")]);
    return (
      others.length === 0 && ids.length === 1 && ids[0] === OWNER_ID && grant.text("Permission") === "FULL_CONTROL"
    );
  });
  if (grants.length === 0 || !isOwners || owners.some((id) => id !== OWNER_ID))
    throw new S3Error("NotImplemented", "everything is private; grants to others than the owner are not supported");
}
