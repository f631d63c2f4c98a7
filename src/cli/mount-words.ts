import type { MountOptions } from '../fuse/mount/mount-options.ts';
import { UsageError } from './usage-error.ts';

type Draft = { -readonly [Name in keyof MountOptions]: MountOptions[Name] };

/** One word of -o, in libfuse's spelling. */
export interface MountWord {
  readonly name: string;
  /** Name of its value; absent: it has none. */
  readonly value?: string;
  readonly meaning: string;
  readonly apply: (options: Draft, value: string) => void;
}

/** Where two words say the opposite, the last one counts, as for mount(8). */
export const MOUNT_WORDS: readonly MountWord[] = [
  { name: 'allow_other', meaning: 'others than who mounts may enter', apply: (options) => (options.allowOther = true) },
  {
    name: 'default_permissions',
    meaning: 'the kernel checks permissions; it does so anyway, unless the filesystem checks them itself',
    apply: (options) => (options.defaultPermissions = true),
  },
  { name: 'allow_root', meaning: 'who mounts and root may enter, and nobody else', apply: (options) => (options.allowRoot = true) },
  { name: 'auto_unmount', meaning: 'unmount if the serving process is killed', apply: (options) => (options.autoUnmount = true) },
  { name: 'nodiratime', meaning: 'times of access of directories are not kept', apply: (options) => (options.nodiratime = true) },
  { name: 'sync', meaning: 'a write is on storage when it returns', apply: (options) => (options.sync = true) },
  { name: 'async', meaning: 'the opposite, and the default', apply: (options) => (options.sync = false) },
  { name: 'dirsync', meaning: 'so is a change of a directory', apply: (options) => (options.dirsync = true) },
  {
    name: 'fsname',
    value: 'NAME',
    meaning: 'shown as the device; by default the source',
    apply: (options, value) => (options.fsname = value),
  },
  {
    name: 'subtype',
    value: 'NAME',
    meaning: 'shown as fuse.NAME; by default iomap',
    apply: (options, value) => (options.subtype = value),
  },
  { name: 'ro', meaning: 'nothing can be changed', apply: (options) => (options.readOnly = true) },
  { name: 'rw', meaning: 'the opposite of ro, and the default', apply: (options) => (options.readOnly = false) },
  { name: 'nosuid', meaning: 'set-user-ID bits and file capabilities count for nothing', apply: (options) => (options.nosuid = true) },
  { name: 'suid', meaning: 'the opposite, and the default', apply: (options) => (options.nosuid = false) },
  { name: 'nodev', meaning: 'device files cannot be opened', apply: (options) => (options.nodev = true) },
  { name: 'dev', meaning: 'the opposite, and the default', apply: (options) => (options.nodev = false) },
  { name: 'noexec', meaning: 'no file can be executed', apply: (options) => (options.noexec = true) },
  { name: 'exec', meaning: 'the opposite, and the default', apply: (options) => (options.noexec = false) },
  { name: 'noatime', meaning: 'the kernel does not ask for times of access to be kept', apply: (options) => (options.noatime = true) },
  { name: 'atime', meaning: 'the opposite, and the default', apply: (options) => (options.noatime = false) },
];

/** Words of libfuse that are known and refused, since taking them would promise what does not happen. */
const NOT_SERVED: Readonly<Record<string, string>> = {
  max_read: 'the kernel reads up to its own limit',
};

/** What fsname= and subtype= may be: they go through mount(8), where a dash begins an option, and the mount table as they are. */
const NAME = /^(?!-)[\w.:/@+-]+$/;

/**
 * The options that the values of -o ask for.
 *
 * Errors: UsageError with the word.
 */
export function mountOptionsOf(values: readonly string[], command: string): MountOptions {
  const options: Draft = { allowOther: false };
  for (const word of values.flatMap((value) => value.split(','))) {
    const [name = '', ...rest] = word.split('=');
    const value = rest.length === 0 ? undefined : rest.join('=');
    const refused = Object.hasOwn(NOT_SERVED, name) ? NOT_SERVED[name] : undefined;
    if (refused !== undefined) throw new UsageError(`mount option '${word}' is not served: ${refused}`, command);
    const row = MOUNT_WORDS.find((known) => known.name === name);
    if (row === undefined) throw new UsageError(`mount option '${word}' is unknown`, command);
    if (row.value === undefined && value !== undefined) throw new UsageError(`mount option '${word}': ${name} has no value`, command);
    if (row.value !== undefined && !NAME.test(value ?? '')) {
      throw new UsageError(`mount option '${word}': ${name}=${row.value} takes letters, digits and . : / @ + - _`, command);
    }
    row.apply(options, value ?? '');
  }
  return options;
}
