import { FsError } from '../../base/fs-error.ts';
import { type MaybePromise, then } from '../../base/task.ts';
import type { Entry } from '../../vfs/attr.ts';
import type { FileSystem, OpenTraits } from '../../vfs/file-system.ts';
import * as flag from '../abi/flags.ts';
import type { FuseChannel } from '../transport/channel.ts';
import type { KnownNode, NodeTable } from './node-table.ts';

/** A file of the host that the kernel reads and writes by itself. */
interface Backing {
  readonly fd: number;
  /** The kernel's number of it. */
  readonly id: MaybePromise<number>;
  /** Nodes that are served so. */
  users: number;
}

/**
 * How the kernel is told to serve the data of files (FOPEN_*).
 *
 * The mode of a file is that of its inode, from its first entry until it is forgotten, and so all of its opens agree: the kernel's own counter
 * of cached and uncached opens, which would refuse others, never has anything to refuse. What a filesystem says against that fails with EIO,
 * which is what a kernel makes of it, and is told with the error that the kernel has for it.
 *
 * | IoMode | FOPEN_* |
 * |---|---|
 * | iomap, cached | KEEP_CACHE: behind a mount the kernel's page cache is the page cache |
 * | direct | DIRECT_IO |
 * | passthrough | PASSTHROUGH where the channel and the session have it, else as cached |
 */
export class IoModes {
  readonly #fs: FileSystem;
  readonly #channel: FuseChannel;
  readonly #nodes: NodeTable;
  readonly #notice: (text: string) => void;
  readonly #backings = new Map<number, Backing>();
  /** FUSE_PASSTHROUGH is agreed on. */
  canPassThrough = false;

  constructor(fs: FileSystem, channel: FuseChannel, nodes: NodeTable, notice: (text: string) => void) {
    this.#fs = fs;
    this.#channel = channel;
    this.#nodes = nodes;
    this.#notice = notice;
  }

  /** Errors: EIO for an inode whose data is to be served in another way while the kernel has it. */
  checkEntry(entry: Entry): void {
    if (this.#nodes.agrees(entry)) return;
    const before = this.#nodes.get(entry.node)?.io.mode;
    throw this.#refused('EBUSY', entry.node, `its mode is ${before} as long as it is known, and cannot become ${entry.io.mode}`);
  }

  /** FOPEN_* for an open file, whose backing file then is that of the node. Errors: EIO for what cannot be. */
  openFlags(node: number, traits: OpenTraits | undefined): MaybePromise<number> {
    const known = this.#nodes.get(node);
    if (known === undefined && traits === undefined) return flag.FOPEN_KEEP_CACHE;
    return then(known?.io.mode === 'passthrough' ? this.#backingOf(known) : 0, (backing) =>
      this.#flags(node, known, traits ?? NONE, backing),
    );
  }

  /** FOPEN_* for an open directory. */
  directoryFlags(traits: OpenTraits | undefined): number {
    if (traits?.uncachedListing === true) return 0;
    return traits?.dropsCache === true ? flag.FOPEN_CACHE_DIR : flag.FOPEN_CACHE_DIR | flag.FOPEN_KEEP_CACHE;
  }

  /** The kernel has forgotten a node. */
  forgotten(known: KnownNode): void {
    if (known.io.mode !== 'passthrough' || known.backing === undefined || known.backing === 0) return;
    const { backingId } = known.io;
    const backing = this.#backings.get(backingId);
    if (backing === undefined || --backing.users > 0) return;
    this.#backings.delete(backingId);
    void then(backing.id, (id) => this.#channel.backingClose?.(id));
  }

  #flags(node: number, known: KnownNode | undefined, traits: OpenTraits, backing: number): number {
    const isDirect = traits.direct === true || known?.io.mode === 'direct';
    const hasNoPosition = traits.stream === true || traits.nonseekable === true;
    let flags = 0;
    if (backing > 0) {
      if (hasNoPosition) throw this.#refused('EINVAL', node, 'passthrough cannot be a stream, or without seeks');
      flags |= flag.FOPEN_PASSTHROUGH;
    } else if (!isDirect && traits.dropsCache !== true) {
      flags |= flag.FOPEN_KEEP_CACHE;
    }
    if (isDirect) flags |= flag.FOPEN_DIRECT_IO;
    if (isDirect && traits.parallelWrites === true) flags |= flag.FOPEN_PARALLEL_DIRECT_WRITES;
    if (traits.nonseekable === true) flags |= flag.FOPEN_NONSEEKABLE;
    if (traits.stream === true) flags |= flag.FOPEN_STREAM;
    if (traits.noflush === true) flags |= flag.FOPEN_NOFLUSH;
    return flags;
  }

  /** The kernel's number of the file behind a node, 0 where it is served without: as the first open decided. */
  #backingOf(known: KnownNode): MaybePromise<number> {
    if (known.backing !== undefined) return known.backing;
    if (known.io.mode !== 'passthrough') return 0;
    const { backingId } = known.io;
    const fd = this.#fs.backingFd(backingId);
    if (!this.canPassThrough || this.#channel.backingOpen === undefined || fd === undefined) {
      const why = !this.canPassThrough
        ? 'the session has none'
        : fd === undefined
          ? `no file is registered as ${backingId}`
          : 'no ioctl here';
      this.#notice(`node ${known.node}: served by the cache instead of passthrough: ${why}`);
      known.backing = 0;
      return 0;
    }
    let backing = this.#backings.get(backingId);
    if (backing !== undefined && backing.fd !== fd) {
      throw this.#refused('EBUSY', known.node, `another file is behind ${backingId} while that is in use`);
    }
    if (backing === undefined) this.#backings.set(backingId, (backing = { fd, id: this.#channel.backingOpen(fd), users: 0 }));
    const { id } = backing;
    const registered = backing;
    try {
      const decided = then(id, (number) => {
        if (known.backing === undefined) registered.users++;
        known.backing = number;
        return number;
      });
      if (decided instanceof Promise) decided.catch(() => this.#drop(backingId, registered));
      return decided;
    } catch (error) {
      this.#drop(backingId, backing);
      throw error;
    }
  }

  #drop(backingId: number, backing: Backing): void {
    if (this.#backings.get(backingId) === backing) this.#backings.delete(backingId);
  }

  #refused(kernelCode: 'EBUSY' | 'EINVAL', node: number, detail: string): FsError {
    this.#notice(`node ${node}: ${detail} (${kernelCode})`);
    return new FsError('EIO', 'open', { detail: `node ${node}: ${detail}` });
  }
}

const NONE: OpenTraits = {};
