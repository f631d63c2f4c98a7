import { isPromise } from '../../src/base/task.ts';
import { MemFs } from '../../src/fs/memfs/mem-fs.ts';
import { ROOT } from '../../src/vfs/caller.ts';
import type { FileDescription } from '../../src/vfs/file-description.ts';
import { O_CREAT, O_RDWR } from '../../src/vfs/uapi.ts';
import { Vfs, type VfsOptions } from '../../src/vfs/vfs.ts';
import { FilterFs, type FsFilter } from './filter-fs.ts';

/** A Vfs over a memory filesystem, with a filter in between. */
export interface VfsWorld {
  readonly vfs: Vfs;
  readonly filter: FilterFs;
  /** Makes a file, open for reading and writing. */
  file(path: string): Promise<FileDescription>;
  names(path: string): Promise<string[]>;
}

export function vfsWorld(filter: FsFilter = {}, options: VfsOptions = {}): VfsWorld {
  const filtered = new FilterFs(new MemFs(), filter);
  const vfs = new Vfs(filtered.fs, options);
  return {
    vfs,
    filter: filtered,
    file: async (path) => vfs.open(ROOT, path, O_RDWR | O_CREAT, 0o644),
    async names(path) {
      const dir = await vfs.open(ROOT, path, 0);
      const entries = await dir.readdir(ROOT, 100_000);
      await dir.close(ROOT);
      return entries.map(({ name }) => name).sort();
    },
  };
}

/** The answer of a call that must not wait. */
export function atOnce<T>(value: T | Promise<T>): T {
  if (isPromise(value)) throw new Error('the call waits');
  return value as T;
}

/** Holds operations up until they are let go, one by one. */
export class Gate {
  readonly #held: { readonly op: string; readonly go: () => void }[] = [];
  /** Operations that are held up; all of them by default. */
  holds: (op: string) => boolean = () => true;
  isOpen = false;

  readonly before = (op: string): void | Promise<void> => {
    if (this.isOpen || !this.holds(op)) return;
    return new Promise((go) => {
      this.#held.push({ op, go });
    });
  };

  get waiting(): string[] {
    return this.#held.map(({ op }) => op);
  }

  /** Lets the one go that came first, and gives it its turn. */
  async step(): Promise<void> {
    this.#held.shift()?.go();
    await turn();
  }

  /** Lets everything go from here on. */
  async open(): Promise<void> {
    this.isOpen = true;
    while (this.#held.length > 0) await this.step();
  }
}

/** A turn of the event loop: everything that can go on has gone on. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
