// A whole filesystem of one's own: rows of a table as files. It implements what it has; whatever it leaves out answers as a system
// without it does. A Volume reads it with the calls of node:fs, and so will every other face.

import {
  type Attr,
  type Caller,
  type DirEntry,
  type Entry,
  type Fh,
  FileSystem,
  FsError,
  type Kiocb,
  type NodeId,
  type OpenReply,
  S_IFDIR,
  S_IFREG,
} from '../src/index.ts';

/** Each row of `table` is a file NAME.json in the root directory. Read-only. */
export class TableFs extends FileSystem {
  override readonly isReadOnly = true;
  readonly #names: string[];
  readonly #files: Uint8Array[];

  constructor(table: Readonly<Record<string, unknown>>) {
    super();
    this.#names = Object.keys(table).map((name) => `${name}.json`);
    this.#files = Object.values(table).map((row) => new TextEncoder().encode(`${JSON.stringify(row)}\n`));
  }

  // The root is node 1, row i is node i + 2.

  lookup(_caller: Caller, _parent: NodeId, name: string): Entry | undefined {
    const row = this.#names.indexOf(name);
    return row < 0 ? undefined : this.#entry(row + 2);
  }

  forget(): void {
    // Numbers are never reused, so that nobody has to count.
  }

  getattr(_caller: Caller, node: NodeId): Attr {
    const isRoot = node === this.root;
    const size = isRoot ? 0 : this.#file(node).length;
    const never = { atime: 0, atimeNsec: 0, mtime: 0, mtimeNsec: 0, ctime: 0, ctimeNsec: 0, btime: 0, btimeNsec: 0 };
    const mode = isRoot ? S_IFDIR | 0o755 : S_IFREG | 0o444;
    return {
      ino: node,
      mode,
      size,
      blocks: Math.ceil(size / 512),
      blksize: 4096,
      nlink: isRoot ? 2 : 1,
      uid: 0,
      gid: 0,
      rdev: 0,
      ...never,
    };
  }

  override open(): OpenReply {
    return { fh: 0 }; // nothing to remember
  }

  override read(_caller: Caller, node: NodeId, _fh: Fh, iocb: Kiocb, into: Uint8Array): number {
    const bytes = this.#file(node).subarray(iocb.pos, iocb.pos + into.length);
    into.set(bytes);
    iocb.pos += bytes.length;
    return bytes.length;
  }

  readdir(_caller: Caller, _node: NodeId, _fh: Fh, offset: number, count: number, plus: boolean): DirEntry[] {
    return this.#names.slice(offset, offset + count).map((name, i) => {
      const node = offset + i + 2;
      return { name, ino: node, type: S_IFREG, next: offset + i + 1, entry: plus ? this.#entry(node) : undefined };
    });
  }

  #file(node: NodeId): Uint8Array {
    const file = this.#files[node - 2];
    if (file === undefined) throw new FsError('ESTALE', 'getattr');
    return file;
  }

  /** Nothing ever changes: names and attributes hold for good. */
  #entry(node: NodeId): Entry {
    const always = Number.POSITIVE_INFINITY;
    const attr = this.getattr({} as Caller, node);
    return { node, generation: 0, attr, entryValidMs: always, attrValidMs: always, io: { mode: 'direct' } };
  }
}
