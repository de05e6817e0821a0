/** Where a store can be on each real server of servers.ts: a place of its own, with what is needed to open it. */
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import path from "node:path";
import { BlobServiceClient, StorageSharedKeyCredential } from "@azure/storage-blob";
import type { RunningServer, ServerName } from "./servers.ts";
import { uniqueName } from "./servers.ts";

export interface Place {
  readonly url: string;
  /** The store's `env`: credentials, and nothing of the user's own. */
  readonly env: Readonly<Record<string, string>>;
  /** Where its files stand on this machine, where they stand under their own names. */
  readonly folder?: string;
}

export interface PlaceOptions {
  /** Of a proxy on loopback in front of the server. Default: the server's own. */
  readonly port?: number;
  /** Servers that have several protocols: which one. */
  readonly scheme?: "ftp" | "ftpes" | "rsync+ssh" | "s3" | "swift" | "opendal";
}

type MakePlace = (server: RunningServer, port: number, name: string, scheme?: string) => Promise<Place>;

/** An empty place on a server. */
export async function placeOn(server: RunningServer, options: PlaceOptions = {}): Promise<Place> {
  const make = makers[server.name];
  if (make === undefined) throw new Error(`there are no places on ${server.name}`);
  return make(server, options.port ?? server.port, uniqueName(), options.scheme);
}

/** No home with keys or a .netrc, no agent, no proxy. */
const bare = { HOME: "/nonexistent", SSH_AUTH_SOCK: "", http_proxy: "", https_proxy: "" };

async function hostKeyFile(server: RunningServer, port: number): Promise<string> {
  const [type = "", text = ""] = (await readFile(path.join(server.folder, "hostkey.pub"), "utf8")).split(" ");
  const file = path.join(server.folder, `known_hosts-${uniqueName()}`);
  await writeFile(file, `[${server.host}]:${port} ${type} ${text}\n`);
  return file;
}

const onOpenSsh: MakePlace = async (server, port, name, scheme) => {
  const folder = path.join(server.folder, "data", name);
  const at = `${server.host}:${port}/${folder}`;
  const known = await hostKeyFile(server, port);
  const key = path.join(server.folder, "id");
  if (scheme === "rsync+ssh") {
    const RSYNC_RSH = `ssh -o BatchMode=yes -i ${key} -o UserKnownHostsFile=${known} -o GlobalKnownHostsFile=/dev/null`;
    return { url: `rsync://${userInfo().username}@${at}`, env: { ...bare, RSYNC_RSH }, folder };
  }
  return { url: `sftp://${at}?identity=${key}&known-hosts=${known}`, env: bare, folder };
};

const onRcloneSftp: MakePlace = async (server, port, name) => {
  const config = path.join(server.folder, `ssh_config-${name}`);
  await writeFile(config, `Host *\n  StrictHostKeyChecking accept-new\n  UserKnownHostsFile ${config}-known\n`);
  return {
    url: `sftp://test:test@${server.host}:${port}/${name}?ssh-config=${config}`,
    env: bare,
    folder: path.join(server.folder, "data", name),
  };
};

const onProftpd: MakePlace = async (server, port, name, scheme = "ftp") => ({
  url: `${scheme}://test:test@${server.host}:${port}/${name}${scheme === "ftp" ? "" : `?ca=${path.join(server.folder, "rsa.pem")}`}`,
  env: bare,
  folder: path.join(server.folder, "data", name),
});

const onVsftpd: MakePlace = async (server, port, name) => ({
  url: `ftp://${server.host}:${port}/data/${name}`,
  env: bare,
  folder: path.join(server.folder, "root", "data", name),
});

/** The server has given up root, so the folder is open to all. */
async function openFolder(folder: string): Promise<string> {
  await mkdir(folder);
  await chmod(folder, 0o777);
  return folder;
}

const onApache: MakePlace = async (server, port, name) => ({
  url: `webdav://${server.host}:${port}/dav/${name}`,
  env: bare,
  folder: await openFolder(path.join(server.folder, "www", "dav", name)),
});

const onNginx: MakePlace = async (server, port, name) => ({
  url: `webdav://${server.host}:${port}/${name}`,
  env: bare,
  folder: await openFolder(path.join(server.folder, "data", name)),
});

const onRcloneWebdav: MakePlace = async (server, port, name) => ({
  url: `webdav://${server.host}:${port}/${name}`,
  env: bare,
  folder: path.join(server.folder, "data", name),
});

const onCeph: MakePlace = async (server, port, name, scheme = "s3") => {
  const endpoint = `http://${server.host}:${port}`;
  if (scheme === "opendal") {
    const env = {
      ...bare,
      OPENDAL_S3_ENDPOINT: endpoint,
      OPENDAL_S3_BUCKET: "test-bucket",
      OPENDAL_S3_REGION: "us-east-1",
      OPENDAL_S3_ACCESS_KEY_ID: "test",
      OPENDAL_S3_SECRET_ACCESS_KEY: "testtest",
    };
    return { url: `opendal://s3/${name}`, env };
  }
  return s3Place(endpoint, name, "test", "testtest");
};

function s3Place(endpoint: string, name: string, id: string, secret: string): Place {
  return {
    url: `s3://test-bucket/${name}?endpoint=${endpoint}`,
    env: { ...bare, AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret },
  };
}

const onSwift: MakePlace = async (server, port, name, scheme = "swift") => {
  if (scheme === "s3") {
    const place = s3Place(`http://${server.host}:${port}`, name, "test:tester", "testing");
    return { ...place, url: `${place.url}&max-parts=1000` };
  }
  const env = {
    ...bare,
    SWIFT_AUTHURL: `http://${server.host}:${port}/auth/v1.0`,
    SWIFT_USERNAME: "test:tester",
    SWIFT_PASSWORD: "testing",
  };
  const login = await fetch(`http://${server.host}:${server.port}/auth/v1.0`, {
    headers: { "x-auth-user": env.SWIFT_USERNAME, "x-auth-key": env.SWIFT_PASSWORD },
  });
  const headers = { "x-auth-token": login.headers.get("x-auth-token") ?? "" };
  const made = await fetch(`${login.headers.get("x-storage-url")}/${name}`, { method: "PUT", headers });
  if (!made.ok) throw new Error(`the container was not made: ${made.status}`);
  return { url: `swift://${name}`, env };
};

const onAzurite: MakePlace = async (server, port, name) => {
  const account = "devstoreaccount1";
  const key = /key (\S+)\)/u.exec(server.address)?.[1] ?? "";
  const credential = new StorageSharedKeyCredential(account, key);
  await new BlobServiceClient(`http://${server.host}:${server.port}/${account}`, credential).createContainer(name);
  return {
    url: `azure://${name}?endpoint=http://${server.host}:${port}/${account}`,
    env: { ...bare, AZURE_ACCOUNT_NAME: account, AZURE_ACCOUNT_KEY: key },
  };
};

const onGcs: MakePlace = async (server, port, name) => ({
  url: `gs://${name}`,
  env: { ...bare, STORAGE_EMULATOR_HOST: `${server.host}:${port}` },
});

const onRsyncd: MakePlace = async (server, port, name) => ({
  url: `rsync://test@${server.host}:${port}::data/${name}`,
  env: { ...bare, RSYNC_PASSWORD: "test" },
  folder: path.join(server.folder, "data", name),
});

const onSamba: MakePlace = async (server, port, name) => ({
  url: `smb://${userInfo().username}:test@${server.host}:${port}/data/${name}`,
  env: bare,
  folder: path.join(server.folder, "data", name),
});

const onRestic: MakePlace = async (server, port, name) => ({
  url: `rest:http://${server.host}:${port}/${name}/`,
  env: bare,
});

const makers: Partial<Record<ServerName, MakePlace>> = {
  sshd: onOpenSsh,
  "rclone-sftp": onRcloneSftp,
  proftpd: onProftpd,
  vsftpd: onVsftpd,
  "apache-dav": onApache,
  "nginx-dav": onNginx,
  "rclone-webdav": onRcloneWebdav,
  "ceph-rgw": onCeph,
  swift: onSwift,
  azurite: onAzurite,
  "gcs-firebase": onGcs,
  rsyncd: onRsyncd,
  samba: onSamba,
  "rclone-restic": onRestic,
};
