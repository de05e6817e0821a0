/** Names of environment variables that a pool file may not set for a store. */

/**
 * Variables that make a program started with them run code, load a library or find another program. A store's `env`
 * reaches child processes (rclone, ssh), so setting one of these would turn a pool file into a program.
 * `*` at the end stands for anything. Compared without regard to case.
 */
export const REFUSED_ENVIRONMENT: readonly string[] = [
  // The loader and the C library.
  "LD_*",
  "DYLD_*",
  "GLIBC_TUNABLES",
  "GCONV_PATH",
  "LOCPATH",
  "NLSPATH",
  // Where programs are found.
  "PATH",
  "PATHEXT",
  "COMSPEC",
  // Shells.
  "SHELL",
  "SHELLOPTS",
  "BASHOPTS",
  "BASH_ENV",
  "BASH_FUNC_*",
  "ENV",
  "IFS",
  "CDPATH",
  "PS4",
  "PROMPT_COMMAND",
  "ZDOTDIR",
  // Interpreters.
  "NODE_*",
  "NPM_CONFIG_*",
  "PYTHON*",
  "PERL*",
  "RUBY*",
  "GEM_*",
  "BUNDLE_*",
  "LUA_*",
  "JAVA_*",
  "_JAVA_*",
  "JDK_*",
  "CLASSPATH",
  "DOTNET_*",
  "TCLLIBPATH",
  // Libraries that load modules.
  "OPENSSL_CONF",
  "OPENSSL_CONF_INCLUDE",
  "OPENSSL_ENGINES",
  "OPENSSL_MODULES",
  // Variables that name a program to run.
  "GIT_*",
  "SSH_ASKPASS",
  "SUDO_ASKPASS",
  "EDITOR",
  "VISUAL",
  "PAGER",
  "BROWSER",
  "RSYNC_RSH",
  "RSYNC_CONNECT_PROG",
  "RCLONE_PASSWORD_COMMAND",
  "RCLONE_SFTP_SSH",
  "RCLONE_CONFIG_*_SSH",
];

const refused = new RegExp(
  `^(?:${REFUSED_ENVIRONMENT.map((name) => name.replaceAll("*", "[A-Z0-9_]*")).join("|")})$`,
  "iu",
);

/** Whether a variable of this name could make a program run code of the pool file's choice. */
export function isRefusedEnvironmentName(name: string): boolean {
  return refused.test(name);
}
