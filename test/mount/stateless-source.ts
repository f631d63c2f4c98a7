// A filesystem that keeps no open files: what needs one inside opens it for the call.

import type { WriteSource } from '../../src/base/iov-iter.ts';
import { type MaybePromise, run, type Task, then, wait } from '../../src/base/task.ts';
import type { DirEntry } from '../../src/vfs/attr.ts';
import { type Caller, ROOT } from '../../src/vfs/caller.ts';
import type { CreateReply, Kiocb } from '../../src/vfs/file-system.ts';
import { O_RDWR } from '../../src/vfs/uapi.ts';
import { MemFs } from '../support/mem-fs.ts';

class StatelessFs extends MemFs {
  override readonly isStateless = true;

  override create(...args: Parameters<MemFs['create']>): MaybePromise<CreateReply> {
    const { entry, fh } = super.create(...args) as CreateReply;
    return then(super.release(entry.node, fh), () => ({ entry, fh: 0 }));
  }

  override read(caller: Caller, node: number, _fh: number, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    return this.#opened(node, (fh) => super.read(caller, node, fh, iocb, into));
  }

  override write(caller: Caller, node: number, _fh: number, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    return this.#opened(node, (fh) => super.write(caller, node, fh, iocb, source));
  }

  override fsync(caller: Caller, node: number, _fh: number, datasync: boolean): MaybePromise<void> {
    return this.#opened(node, (fh) => super.fsync(caller, node, fh, datasync));
  }

  override setattr(...args: Parameters<MemFs['setattr']>): ReturnType<MemFs['setattr']> {
    const [caller, node, changes] = args;
    return super.setattr(caller, node, changes);
  }

  override getattr(caller: Caller, node: number): ReturnType<MemFs['getattr']> {
    return super.getattr(caller, node);
  }

  override release(): void {}

  override readdir(caller: Caller, node: number, _fh: number, offset: number, count: number, plus: boolean): DirEntry[] {
    const { fh } = super.opendir(ROOT, node, 0);
    try {
      return super.readdir(caller, node, fh, offset, count, plus);
    } finally {
      void super.release(node, fh);
    }
  }

  override releasedir(): void {}

  override fsyncdir(): void {}

  #opened<T>(node: number, use: (fh: number) => MaybePromise<T>): MaybePromise<T> {
    const { fh } = super.open(ROOT, node, O_RDWR);
    const release = (): MaybePromise<void> => super.release(node, fh);
    const task = function* (): Task<T> {
      try {
        return yield* wait(use(fh));
      } finally {
        yield* wait(release());
      }
    };
    return run(task());
  }
}

export default (): StatelessFs => new StatelessFs();
