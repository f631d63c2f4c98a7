import { FsError } from '../../base/fs-error.ts';
import { S_IFMT } from '../../vfs/uapi.ts';
import type { ServerOptions } from '../server/options.ts';
import type { FilesystemFacts } from './messages.ts';

/** How a filesystem is mounted and served. */
export interface MountOptions extends ServerOptions {
  /** What the source's function is called with; crosses to the serving thread as postMessage carries it. */
  readonly args?: unknown;
  /** Shown as the device of the mount. Default 'iomap'. */
  readonly fsname?: string;
  /** Shown as fuse.SUBTYPE. Default 'iomap'. */
  readonly subtype?: string;
  /** Users other than the one who mounts may enter. Default: yes for root. Users need user_allow_other in /etc/fuse.conf for it. */
  readonly allowOther?: boolean;
  /** Who mounts and root may enter, and nobody else. Needs what allowOther needs: the kernel lets all in, and the server refuses. */
  readonly allowRoot?: boolean;
  /** The kernel checks permissions even where the filesystem says that it does so itself. Default: no. */
  readonly defaultPermissions?: boolean;
  /** Another program unmounts if this process is killed. Default: no; the mount stays, and answers ENOTCONN. */
  readonly autoUnmount?: boolean;
  /** Bytes of the largest READ. Default: what the kernel's limits let through. */
  readonly maxRead?: number;
  readonly readOnly?: boolean;
  /** Users other than root cannot have these two otherwise. */
  readonly nosuid?: boolean;
  readonly nodev?: boolean;
  readonly noexec?: boolean;
  readonly noatime?: boolean;
  readonly nodiratime?: boolean;
  /** Each write is on storage when it returns. */
  readonly sync?: boolean;
  /** The same for changes of directories. */
  readonly dirsync?: boolean;
  /** Serves counts and times for Prometheus: 'unix:/path/of/socket', '127.0.0.1:PORT' or '[::1]:PORT'. Port 0: any. */
  readonly metrics?: string;
  /** Faults: requests that were answered with EIO because of an error in the filesystem's code. Default: printed to stderr. */
  readonly onBug?: (request: string, stack: string) => void;
  /** What whoever runs the filesystem should know: a request whose time was up, a change that the kernel did not take. Default: printed to stderr. */
  readonly onNotice?: (text: string) => void;
}

/** Those that are a word for mount(8) and fusermount3. */
const FLAGS = ['nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime', 'sync', 'dirsync'] as const;

/** What fsname and subtype may be: both go through mount(8), where a dash begins an option and a comma a word, and the mount table. */
export const MOUNT_NAME = /^(?!-)[\w.:/@+-]+$/;

/**
 * What the kernel is told about a mount, but for the descriptor.
 *
 * Errors: EINVAL for options that cannot be together, and for values that mean nothing.
 */
export function mountWords(facts: FilesystemFacts, options: MountOptions): string[] {
  const words: string[] = [options.readOnly === true || facts.isReadOnly ? 'ro' : 'rw'];
  if (letsOthersIn(options)) words.push('allow_other');
  if (!facts.checksAccess || options.defaultPermissions === true) words.push('default_permissions');
  if (options.maxRead !== undefined) words.push(`max_read=${options.maxRead}`);
  return [...words, ...FLAGS.filter((word) => options[word] === true)];
}

/** Of the kernel alone: mount(8) takes them, and fusermount3 makes them itself. */
export function deviceWords(fd: number, facts: FilesystemFacts): string[] {
  const rootMode = (facts.rootMode & S_IFMT).toString(8);
  return [`fd=${fd}`, `rootmode=${rootMode}`, `user_id=${process.getuid?.() ?? 0}`, `group_id=${process.getgid?.() ?? 0}`];
}

function letsOthersIn({ allowOther, allowRoot }: MountOptions): boolean {
  return allowRoot === true || (allowOther ?? process.getuid?.() === 0);
}

/** Errors: EINVAL. */
export function checkMountOptions(options: MountOptions): void {
  const wrong = (detail: string) => new FsError('EINVAL', 'mount', { detail });
  const { fsname = 'iomap', subtype = 'iomap', maxRead, allowOther, allowRoot } = options;
  for (const name of [fsname, subtype]) if (!MOUNT_NAME.test(name)) throw wrong(`name '${name}'`);
  if (allowOther === true && allowRoot === true) throw wrong('allowOther and allowRoot exclude each other');
  if (maxRead !== undefined && !(Number.isInteger(maxRead) && maxRead >= 4096 && maxRead < 2 ** 32)) {
    throw wrong(`maxRead ${maxRead}, from 4096 on`);
  }
}

/** The part that the server takes, as plain data. */
export function serverOptionsOf(options: MountOptions): ServerOptions {
  const { args: _, onBug: __, onNotice: ___, fsname: ____, subtype: _____, metrics: ______, ...rest } = options;
  return JSON.parse(JSON.stringify(rest)) as ServerOptions;
}

/** The one user beside root whose requests are answered, where that is the server's business. */
export function ownerOf({ allowRoot }: MountOptions): number | undefined {
  return allowRoot === true ? (process.getuid?.() ?? 0) : undefined;
}
