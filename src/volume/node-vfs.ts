import type { FileHandle } from './file-handle.ts';
import { builtin } from './platform.ts';
import type { Volume } from './volume.ts';

// node:vfs, where the running Node has it (26.4 and up, with --experimental-vfs), puts a filesystem of ours below a path of the process, so
// that `node:fs` itself, and what is built on it, reaches a volume. Source: Node.js documentation, "Virtual File System".

/** What of node:vfs is needed here. */
interface NodeVfs {
  readonly VirtualProvider: new () => object;
}

/** Methods of a provider that are those of a volume: `name` with promises, `nameSync` at once. */
const METHODS = [
  'stat',
  'lstat',
  'readdir',
  'mkdir',
  'rmdir',
  'unlink',
  'rename',
  'link',
  'symlink',
  'readlink',
  'realpath',
  'access',
  'copyFile',
  'readFile',
  'writeFile',
  'appendFile',
  'chmod',
  'chown',
  'lchown',
  'utimes',
  'lutimes',
  'truncate',
  'rm',
  'mkdtemp',
  'cp',
] as const;

/** Methods of an open file that are those of a handle, and of a descriptor. */
const FILE_METHODS = [
  'read',
  'readv',
  'write',
  'writev',
  'readFile',
  'writeFile',
  'appendFile',
  'stat',
  'truncate',
  'chmod',
  'chown',
  'utimes',
  'sync',
  'datasync',
] as const;

/** How node:fs calls what a handle has under another name. */
const BY_DESCRIPTOR: Readonly<Record<string, string>> = {
  stat: 'fstat',
  truncate: 'ftruncate',
  chmod: 'fchmod',
  chown: 'fchown',
  utimes: 'futimes',
  sync: 'fsync',
  datasync: 'fdatasync',
};

type Method = (...args: unknown[]) => unknown;

/**
 * A provider for vfs.create() of node:vfs, which makes `node:fs` reach the volume below the mount point.
 *
 * Errors: ERR_IOMAP_NO_NODE where the running Node has no node:vfs, or was started without --experimental-vfs.
 */
export function nodeVfsProvider(volume: Volume): object {
  const { VirtualProvider } = builtin<NodeVfs>('node:vfs');
  const sync = volume.sync as unknown as Record<string, Method>;
  const async = volume as unknown as Record<string, Method>;

  class VolumeProvider extends VirtualProvider {
    get readonly(): boolean {
      return volume.vfs.fs.isReadOnly;
    }

    get supportsSymlinks(): boolean {
      return true;
    }

    get supportsWatch(): boolean {
      return true;
    }

    async open(path: string, flags?: string | number, mode?: number): Promise<object> {
      return openFile(volume, await volume.open(path, flags, mode));
    }

    openSync(path: string, flags?: string | number, mode?: number): object {
      return openFile(volume, volume.openAtOnce(path, flags, mode));
    }

    exists(path: string): Promise<boolean> {
      return volume.access(path).then(
        () => true,
        () => false,
      );
    }

    existsSync(path: string): boolean {
      return volume.sync.existsSync(path);
    }

    watch(path: string, options?: object): unknown {
      return (sync.watch as Method).call(volume.sync, path, options);
    }

    watchAsync(path: string, options?: object): unknown {
      return (async.watch as Method).call(volume, path, options);
    }
  }
  for (const name of METHODS) {
    define(VolumeProvider.prototype, name, (...args) => (async[name] as Method).apply(volume, args));
    define(VolumeProvider.prototype, `${name}Sync`, (...args) => (sync[`${name}Sync`] as Method).apply(volume.sync, args));
  }
  return new VolumeProvider();
}

/** An open file as node:vfs has them: a handle, with synchronous methods beside. */
function openFile(volume: Volume, handle: FileHandle): object {
  const sync = volume.sync as unknown as Record<string, Method>;
  const async = handle as unknown as Record<string, Method>;
  const file = {
    get closed(): boolean {
      return handle.fd === -1;
    },
    close: () => handle.close(),
    closeSync: () => handle.closeAtOnce(),
  };
  for (const name of FILE_METHODS) {
    const ofDescriptor = `${BY_DESCRIPTOR[name] ?? name}Sync`;
    define(file, name, (...args) => (async[name] as Method).apply(handle, args));
    define(file, `${name}Sync`, (...args) => (sync[ofDescriptor] as Method).call(volume.sync, handle.fd, ...args));
  }
  for (const name of ['readLines', 'createReadStream', 'createWriteStream', 'readableWebStream'] as const) {
    define(file, name, (...args) => (async[name] as Method).apply(handle, args));
  }
  return file;
}

/** Not enumerable, as methods are. */
function define(target: object, name: string, value: Method): void {
  Object.defineProperty(target, name, { value, configurable: true, writable: true });
}
