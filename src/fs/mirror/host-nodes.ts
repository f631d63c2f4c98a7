import { FsError } from '../../base/fs-error.ts';
import { encodeUtf8 } from '../../layout/utf8.ts';
import type { Libc, Statx } from '../../sys/libc.ts';
import { makedev } from '../../vfs/attr.ts';
import type { NodeId } from '../../vfs/file-system.ts';
import { S_IFMT } from '../../vfs/uapi.ts';
import { Cookies } from './cookies.ts';

/** An inode of the host that somebody knows. */
export class HostNode {
  readonly id: NodeId;
  /** O_PATH descriptor: holds the inode whatever becomes of its names. */
  readonly fd: number;
  readonly key: string;
  /** S_IFMT bits. */
  readonly type: number;
  /** The inode as a path, for calls that take no descriptor of this kind: a link that leads to the inode itself, and no further. */
  readonly path: Uint8Array;
  nlookup = 0;
  opens = 0;
  #cookies: Cookies | undefined = undefined;

  constructor(id: NodeId, fd: number, stat: Statx) {
    this.id = id;
    this.fd = fd;
    this.key = keyOf(stat);
    this.type = stat.stx_mode & S_IFMT;
    this.path = pathOf(fd);
  }

  get cookies(): Cookies {
    this.#cookies ??= new Cookies();
    return this.#cookies;
  }
}

export function pathOf(fd: number): Uint8Array {
  return encodeUtf8(`/proc/self/fd/${fd}`);
}

/** What an inode is known by on the host while it is held: nobody else can have its numbers then. */
function keyOf({ stx_dev_major, stx_dev_minor, stx_ino }: Statx): string {
  return `${makedev(stx_dev_major, stx_dev_minor)}:${stx_ino}`;
}

/**
 * The inodes that are known, by number and by what the host calls them.
 *
 * Invariants:
 * 1. An inode of the host has one number: hard links share it.
 * 2. It is here, and its descriptor open, while it has lookups or open files. The root always is.
 * 3. Numbers are never used again, so an inode number that the host uses again comes back as another node.
 */
export class HostNodes {
  readonly #libc: Libc;
  readonly #byId = new Map<NodeId, HostNode>();
  readonly #byKey = new Map<string, HostNode>();
  readonly #root: NodeId;
  #lastId: number;

  /** The first that is added is the root. */
  constructor(libc: Libc, root: NodeId) {
    this.#libc = libc;
    this.#root = root;
    this.#lastId = root - 1;
  }

  /** Errors: ESTALE. */
  get(id: NodeId, syscall: string): HostNode {
    const node = this.#byId.get(id);
    if (node === undefined) throw new FsError('ESTALE', syscall, { detail: `node ${id}` });
    return node;
  }

  find(stat: Statx): HostNode | undefined {
    return this.#byKey.get(keyOf(stat));
  }

  /** The node of an inode, whose descriptor is the table's from here on. */
  add(fd: number, stat: Statx): HostNode {
    const known = this.find(stat);
    if (known !== undefined) {
      this.#libc.close(fd);
      return known;
    }
    const node = new HostNode(++this.#lastId, fd, stat);
    this.#byId.set(node.id, node);
    this.#byKey.set(node.key, node);
    return node;
  }

  forget(id: NodeId, nlookup: number): void {
    const node = this.#byId.get(id);
    if (node === undefined) return;
    node.nlookup = Math.max(0, node.nlookup - nlookup);
    this.put(node);
  }

  /** Lets go of an inode that nobody knows any more. */
  put(node: HostNode): void {
    if (node.nlookup > 0 || node.opens > 0 || node.id === this.#root) return;
    this.#byId.delete(node.id);
    this.#byKey.delete(node.key);
    this.#libc.close(node.fd);
  }

  closeAll(): void {
    for (const { fd } of this.#byId.values()) this.#libc.close(fd);
    this.#byId.clear();
    this.#byKey.clear();
  }
}
