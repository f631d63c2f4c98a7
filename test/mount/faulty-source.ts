// A filesystem with names that do what no filesystem should.
import type { MaybePromise } from '../../src/base/task.ts';
import type { Entry } from '../../src/vfs/attr.ts';
import { MemFs } from '../support/mem-fs.ts';

class FaultyFs extends MemFs {
  override mkdir(...args: Parameters<MemFs['mkdir']>): MaybePromise<Entry> {
    const name = args[2];
    if (name === 'throw') throw new TypeError('a fault of the filesystem');
    if (name === 'stuck') return new Promise(() => {});
    if (name === 'die') {
      setImmediate(() => {
        throw new Error('a fault that nobody catches');
      });
      return new Promise(() => {});
    }
    return super.mkdir(...args);
  }
}

export default (): FaultyFs => {
  // Keeps a thread from ending by itself.
  setInterval(() => {}, 1000);
  return new FaultyFs();
};
