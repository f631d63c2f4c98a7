// A filesystem whose every answer waits: what a Vfs does at once over memory, it does here in pieces, between which others run.

import type { FileSystem } from '../../src/vfs/file-system.ts';

/** Answered at once by contract. */
const AT_ONCE = new Set<PropertyKey>(['attach', 'forget']);

/** `fs` with promises for answers, the errors among them. */
export function waitingFs(fs: FileSystem): FileSystem {
  return new Proxy(fs, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      const call = value.bind(target) as (...args: unknown[]) => unknown;
      if (AT_ONCE.has(name)) return call;
      return async (...args: unknown[]) => {
        await null;
        return await call(...args);
      };
    },
  });
}
