import { FsError } from '../../src/base/fs-error.ts';
import type { Prng } from '../../src/base/prng.ts';
import type { Caller } from '../../src/vfs/caller.ts';
import type { FileSystem } from '../../src/vfs/file-system.ts';

/** What a filesystem that is far away answers later. */
const SLOW_CALLS: ReadonlySet<string | symbol> = new Set<keyof FileSystem>([
  ...(['lookup', 'getattr', 'setattr', 'readlink', 'mknod', 'mkdir', 'unlink', 'rmdir', 'symlink', 'rename', 'link'] as const),
  ...(['open', 'create', 'tmpfile', 'read', 'write', 'flush', 'fsync', 'lseek', 'fallocate', 'copyFileRange'] as const),
  ...(['opendir', 'readdir', 'getxattr', 'setxattr', 'listxattr', 'removexattr', 'statfs', 'syncfs'] as const),
]);

/** The same filesystem, some of whose answers come late: calls overlap in every order. With nowait they fail with EAGAIN instead. */
export function slowed<T extends FileSystem>(fs: T, share: number, prng: Prng): T {
  const turns = async (): Promise<void> => {
    for (let left = prng.below(6); left > 0; left--) await undefined;
  };
  return new Proxy(fs, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const call = (): unknown => value.apply(target, args);
        if (!SLOW_CALLS.has(name) || !prng.chance(share)) return call();
        if ((args[0] as Partial<Caller> | undefined)?.nowait === true) throw new FsError('EAGAIN', String(name));
        return turns().then(call).finally(turns);
      };
    },
  });
}
