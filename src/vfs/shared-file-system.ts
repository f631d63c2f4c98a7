import { assert } from '../base/assert.ts';
import { FsError } from '../base/fs-error.ts';
import type { WriteSource } from '../base/iov-iter.ts';
import { isPromise, type MaybePromise, run, type Task, then, wait } from '../base/task.ts';
import type { Attr, AttrChanges, DirEntry, Entry, FileExtent, FileLock, LockRequest, StatFs } from './attr.ts';
import { type Caller, ROOT } from './caller.ts';
import { type CreateReply, type Fh, FileSystem, type Kiocb, type NodeId, type Notifier, type OpenReply } from './file-system.ts';
import { IN_ATTRIB, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MODIFY, IN_MOVE_SELF, IN_MOVED_FROM, IN_MOVED_TO } from './fsnotify.ts';
import { F_UNLCK, isDirectory, LOCK_END, RENAME_EXCHANGE } from './uapi.ts';

/** Faces of one filesystem at once. */
const FACES_MAX = 1024;

/**
 * One filesystem for several faces, such as a Volume and a kernel mount in one process. Each gets a FileSystem of its own, face(), and hears
 * by its Notifier what the others change, when it is done. A face that is alone is told nothing, and nothing is worked out for it.
 *
 * Not told: times of access, since reading would be telling.
 *
 * Invariants:
 * 1. What a face holds (lookups, open files, locks) is its own: owners of locks of different faces are different owners, and what is left
 *    of a face that ends is taken back.
 * 2. The filesystem ends with the last face.
 */
export class SharedFileSystem {
  readonly #fs: FileSystem;
  readonly #faces = new Map<number, Face>();
  readonly #detach: () => void;
  #isOver = false;

  constructor(fs: FileSystem) {
    this.#fs = fs;
    this.#detach = fs.attach({
      invalInode: (node, pos, length) => this.tell(undefined, (to) => to.invalInode(node, pos, length)),
      invalEntry: (parent, name) => this.tell(undefined, (to) => to.invalEntry(parent, name)),
      delete: (parent, child, name) => this.tell(undefined, (to) => to.delete(parent, child, name)),
      event: (node, name, mask) => this.tell(undefined, (to) => to.event?.(node, name, mask)),
    });
  }

  /** The filesystem for one more face, which ends it by destroy(). Errors: EBADF once the last face ended; EMFILE. */
  face(): FileSystem {
    if (this.#isOver) throw new FsError('EBADF', 'attach', { detail: 'the filesystem has ended' });
    let slot = 0;
    while (this.#faces.has(slot)) slot++;
    if (slot === FACES_MAX) throw new FsError('EMFILE', 'attach', { detail: `${FACES_MAX} faces` });
    const face = new Face(this, this.#fs, slot);
    this.#faces.set(slot, face);
    return face;
  }

  /** How many faces there are. */
  get faceCount(): number {
    return this.#faces.size;
  }

  /** @internal Tells all faces but the one that knows. */
  tell(from: Face | undefined, say: (to: Notifier) => void): void {
    for (const face of this.#faces.values()) if (face !== from) for (const to of face.notifiers) say(to);
  }

  /** @internal Does somebody behind another face watch? */
  isWatched(from: Face): boolean {
    for (const face of this.#faces.values()) {
      if (face !== from) for (const to of face.notifiers) if (to.event !== undefined) return true;
    }
    return false;
  }

  /** @internal A face has ended. */
  end(slot: number): MaybePromise<void> {
    this.#faces.delete(slot);
    if (this.#faces.size > 0) return;
    this.#isOver = true;
    this.#detach();
    return this.#fs.destroy();
  }
}

/** An inode that a face has looked up. */
interface Held {
  lookups: number;
  /** Where it was last found, which may be over. */
  parent: NodeId;
  name: string | undefined;
}

/** The filesystem as one face has it. */
class Face extends FileSystem {
  override readonly root: NodeId;
  override readonly nameMax: number;
  override readonly attrValidMs: number;
  override readonly checksAccess: boolean;
  override readonly changesElsewhere = true;
  override readonly isStateless: boolean;
  override readonly isExportable: boolean;
  readonly notifiers = new Set<Notifier>();
  readonly #shared: SharedFileSystem;
  readonly #fs: FileSystem;
  readonly #slot: number;
  #hasEnded = false;
  readonly #held = new Map<NodeId, Held>();
  /** Open files and directories, by handle. */
  readonly #files = new Map<Fh, NodeId>();
  readonly #directories = new Map<Fh, NodeId>();
  /** Who may have locks on what, as the filesystem knows them. */
  readonly #ranges = new Map<NodeId, Set<number>>();
  readonly #flocks = new Map<NodeId, Set<number>>();

  constructor(shared: SharedFileSystem, fs: FileSystem, slot: number) {
    super();
    this.#shared = shared;
    this.#fs = fs;
    this.#slot = slot;
    this.root = fs.root;
    this.nameMax = fs.nameMax;
    this.attrValidMs = fs.attrValidMs;
    this.checksAccess = fs.checksAccess;
    this.isStateless = fs.isStateless;
    this.isExportable = fs.isExportable;
    // A field of the class above, and true at any time of the filesystem's own.
    Object.defineProperty(this, 'isReadOnly', { get: () => fs.isReadOnly });
  }

  /** The other faces of this thread would wait for ever while it stands still. */
  override get needsEventLoop(): boolean {
    return this.#shared.faceCount > 1 || this.#fs.needsEventLoop;
  }

  override get nextDue(): number | undefined {
    return this.#fs.nextDue;
  }

  override attach(notifier: Notifier): () => void {
    this.notifiers.add(notifier);
    return () => this.notifiers.delete(notifier);
  }

  override destroy(): MaybePromise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    return run(this.#destroy());
  }

  *#destroy(): Task<void> {
    let failure: unknown;
    const end = function* (step: () => MaybePromise<unknown>): Task<void> {
      try {
        yield* wait(step());
      } catch (error) {
        failure ??= error;
      }
    };
    for (const [locks, flock] of [[this.#ranges, false] as const, [this.#flocks, true] as const]) {
      for (const [node, owners] of locks) {
        for (const owner of owners) {
          const all: FileLock = { type: F_UNLCK, start: 0, end: LOCK_END, pid: 0, owner };
          yield* end(() => this.#fs.setlk(ROOT, node, 0, all, { flock, wait: false }));
        }
      }
    }
    for (const [fh, node] of this.#files) yield* end(() => this.#fs.release(node, fh));
    for (const [fh, node] of this.#directories) yield* end(() => this.#fs.releasedir(node, fh));
    for (const [node, { lookups }] of this.#held) yield* end(() => this.#fs.forget(node, lookups));
    yield* end(() => this.#shared.end(this.#slot));
    if (failure !== undefined) throw failure;
  }

  // What is held, and what is told.

  /** An entry that the face has now. `name`: where it was found, if by a name. */
  #counted(entry: Entry, parent: NodeId = 0, name?: string): Entry {
    let held = this.#held.get(entry.node);
    if (held === undefined) this.#held.set(entry.node, (held = { lookups: 0, parent, name }));
    held.lookups++;
    if (name !== undefined) {
      held.parent = parent;
      held.name = name;
    }
    return entry;
  }

  get #isAlone(): boolean {
    return this.#shared.faceCount === 1;
  }

  #tell(say: (to: Notifier) => void): void {
    if (!this.#isAlone) this.#shared.tell(this, say);
  }

  /** Names in a directory changed: its listing and its times with them. `mask`: what those who watch it hear. */
  #tellName(parent: NodeId, name: string, mask: number): void {
    this.#tell((to) => {
      to.invalEntry(parent, name);
      to.invalInode(parent, 0, 0);
      to.event?.(parent, name, mask);
    });
  }

  #tellAttr(node: NodeId): void {
    this.#tell((to) => to.invalInode(node, -1, 0));
  }

  #tellData(node: NodeId, pos: number, length: number): void {
    this.#tell((to) => to.invalInode(node, pos, length));
  }

  /** The inode itself changed: those who watch it hear that, and those who watch the directory in which this face has found it. */
  #tellWatchers(node: NodeId, mask: number): void {
    if (this.#isAlone || !this.#shared.isWatched(this)) return;
    this.#tell((to) => to.event?.(node, '', mask));
    const { parent = 0, name } = this.#held.get(node) ?? {};
    if (name === undefined) return;
    const found = (entry: Entry | undefined): void => {
      if (entry === undefined) return;
      this.#fs.forget(entry.node, 1);
      if (entry.node === node) this.#tell((to) => to.event?.(parent, name, mask));
    };
    // The name may lead elsewhere since. Where that cannot be found out, it is not told.
    try {
      const looked = this.#fs.lookup(ROOT, parent, name);
      if (isPromise(looked)) (looked as Promise<Entry | undefined>).then(found).catch(() => {});
      else found(looked as Entry | undefined);
    } catch {}
  }

  #made(parent: NodeId, name: string, made: MaybePromise<Entry>): MaybePromise<Entry> {
    return then(made, (entry) => {
      this.#tellName(parent, name, IN_CREATE);
      return this.#counted(entry, parent, name);
    });
  }

  #opened(created: CreateReply, parent?: NodeId, name?: string): CreateReply {
    this.#counted(created.entry, parent, name);
    this.#files.set(created.fh, created.entry.node);
    return created;
  }

  /** The inode behind a name that is about to change, held until the function is called that comes with it. */
  *#behind(caller: Caller, parent: NodeId, name: string): Task<{ readonly entry: Entry | undefined; readonly end: () => void }> {
    const entry = yield* wait(this.#fs.lookup(caller, parent, name));
    return {
      entry,
      end: () => {
        if (entry !== undefined) this.#fs.forget(entry.node, 1);
      },
    };
  }

  /** A number of its own for each owner of each face; 0 is nobody. */
  #ownerOf(owner: number): number {
    assert(Number.isSafeInteger(owner * FACES_MAX + FACES_MAX), 'an owner is a number that can be told from others');
    return owner === 0 ? 0 : owner * FACES_MAX + this.#slot;
  }

  // Inodes.

  lookup(caller: Caller, parent: NodeId, name: string): MaybePromise<Entry | undefined> {
    return then(this.#fs.lookup(caller, parent, name), (entry) => (entry === undefined ? undefined : this.#counted(entry, parent, name)));
  }

  override iget(caller: Caller, node: NodeId): MaybePromise<Entry> {
    return then(this.#fs.iget(caller, node), (entry) => this.#counted(entry));
  }

  override parentOf(caller: Caller, node: NodeId): MaybePromise<Entry> {
    return then(this.#fs.parentOf(caller, node), (entry) => this.#counted(entry));
  }

  forget(node: NodeId, nlookup: number): void {
    const held = this.#held.get(node);
    if (held === undefined) return;
    const given = Math.min(held.lookups, nlookup);
    held.lookups -= given;
    if (held.lookups === 0) this.#held.delete(node);
    if (given > 0) this.#fs.forget(node, given);
  }

  getattr(caller: Caller, node: NodeId, fh?: Fh): MaybePromise<Attr> {
    return this.#fs.getattr(caller, node, fh);
  }

  override setattr(caller: Caller, node: NodeId, changes: AttrChanges, fh?: Fh): MaybePromise<Attr> {
    return then(this.#fs.setattr(caller, node, changes, fh), (attr) => {
      if (changes.size === undefined) this.#tellAttr(node);
      else this.#tellData(node, changes.size, 0);
      this.#tellWatchers(node, changes.size === undefined ? IN_ATTRIB : IN_MODIFY);
      return attr;
    });
  }

  override access(caller: Caller, node: NodeId, mask: number): MaybePromise<void> {
    return this.#fs.access(caller, node, mask);
  }

  override readlink(caller: Caller, node: NodeId): MaybePromise<string> {
    return this.#fs.readlink(caller, node);
  }

  // Names.

  override mknod(caller: Caller, parent: NodeId, name: string, mode: number, rdev: number): MaybePromise<Entry> {
    return this.#made(parent, name, this.#fs.mknod(caller, parent, name, mode, rdev));
  }

  override mkdir(caller: Caller, parent: NodeId, name: string, mode: number): MaybePromise<Entry> {
    return this.#made(parent, name, this.#fs.mkdir(caller, parent, name, mode));
  }

  override symlink(caller: Caller, parent: NodeId, name: string, target: string): MaybePromise<Entry> {
    return this.#made(parent, name, this.#fs.symlink(caller, parent, name, target));
  }

  override link(caller: Caller, node: NodeId, newParent: NodeId, newName: string): MaybePromise<Entry> {
    return then(this.#made(newParent, newName, this.#fs.link(caller, node, newParent, newName)), (entry) => {
      this.#tellAttr(node);
      return entry;
    });
  }

  override unlink(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    if (this.#isAlone) return this.#fs.unlink(caller, parent, name);
    return run(this.#remove(caller, parent, name, () => this.#fs.unlink(caller, parent, name)));
  }

  override rmdir(caller: Caller, parent: NodeId, name: string): MaybePromise<void> {
    if (this.#isAlone) return this.#fs.rmdir(caller, parent, name);
    return run(this.#remove(caller, parent, name, () => this.#fs.rmdir(caller, parent, name)));
  }

  *#remove(caller: Caller, parent: NodeId, name: string, remove: () => MaybePromise<void>): Task<void> {
    const { entry, end } = yield* this.#behind(caller, parent, name);
    try {
      yield* wait(remove());
      this.#tellGone(parent, name, entry);
    } finally {
      end();
    }
  }

  #tellGone(parent: NodeId, name: string, entry: Entry | undefined): void {
    const wasLast = entry !== undefined && (isDirectory(entry.attr.mode) || entry.attr.nlink <= 1);
    this.#tell((to) => {
      if (wasLast) to.delete(parent, entry.node, name);
      else to.invalEntry(parent, name);
      to.invalInode(parent, 0, 0);
      if (entry !== undefined) to.invalInode(entry.node, -1, 0);
      to.event?.(parent, name, IN_DELETE);
      if (entry !== undefined) to.event?.(entry.node, '', wasLast ? IN_DELETE_SELF : IN_ATTRIB);
    });
  }

  override rename(caller: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): MaybePromise<void> {
    if (this.#isAlone) return this.#fs.rename(caller, parent, name, newParent, newName, flags);
    return run(this.#rename(caller, parent, name, newParent, newName, flags));
  }

  *#rename(caller: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): Task<void> {
    const moved = yield* this.#behind(caller, parent, name);
    try {
      const replaced = yield* this.#behind(caller, newParent, newName);
      try {
        yield* wait(this.#fs.rename(caller, parent, name, newParent, newName, flags));
        this.#tellMoved(parent, name, newParent, newName, moved.entry, replaced.entry, (flags & RENAME_EXCHANGE) !== 0);
      } finally {
        replaced.end();
      }
    } finally {
      moved.end();
    }
  }

  #tellMoved(
    parent: NodeId,
    name: string,
    newParent: NodeId,
    newName: string,
    moved: Entry | undefined,
    replaced: Entry | undefined,
    isExchange: boolean,
  ): void {
    // Two names of one inode stay as they are.
    if (moved !== undefined && moved.node === replaced?.node) return;
    this.#tellName(parent, name, IN_MOVED_FROM);
    this.#tellName(newParent, newName, IN_MOVED_TO);
    this.#tell((to) => {
      if (isExchange) {
        to.event?.(newParent, newName, IN_MOVED_FROM);
        to.event?.(parent, name, IN_MOVED_TO);
      }
      if (moved !== undefined) {
        to.invalInode(moved.node, -1, 0);
        to.event?.(moved.node, '', IN_MOVE_SELF);
      }
      if (replaced !== undefined) {
        const isGone = isDirectory(replaced.attr.mode) || replaced.attr.nlink <= 1;
        to.invalInode(replaced.node, -1, 0);
        to.event?.(replaced.node, '', isExchange ? IN_MOVE_SELF : isGone ? IN_DELETE_SELF : IN_ATTRIB);
      }
    });
    this.#renamed(moved, newParent, newName);
    if (isExchange) this.#renamed(replaced, parent, name);
  }

  #renamed(entry: Entry | undefined, parent: NodeId, name: string): void {
    const held = entry === undefined ? undefined : this.#held.get(entry.node);
    if (held === undefined) return;
    held.parent = parent;
    held.name = name;
  }

  // Open files.

  override open(caller: Caller, node: NodeId, flags: number): MaybePromise<OpenReply> {
    return then(this.#fs.open(caller, node, flags), (opened) => {
      this.#files.set(opened.fh, node);
      return opened;
    });
  }

  override create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number): MaybePromise<CreateReply> {
    return then(this.#fs.create(caller, parent, name, mode, flags), (created) => {
      this.#tellName(parent, name, IN_CREATE);
      return this.#opened(created, parent, name);
    });
  }

  override tmpfile(caller: Caller, parent: NodeId, mode: number, flags: number): MaybePromise<CreateReply> {
    return then(this.#fs.tmpfile(caller, parent, mode, flags), (created) => this.#opened(created));
  }

  override read(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, into: Uint8Array): MaybePromise<number> {
    return this.#fs.read(caller, node, fh, iocb, into);
  }

  override write(caller: Caller, node: NodeId, fh: Fh, iocb: Kiocb, source: WriteSource): MaybePromise<number> {
    return then(this.#fs.write(caller, node, fh, iocb, source), (count) => {
      if (count > 0) {
        this.#tellData(node, iocb.pos - count, count);
        this.#tellWatchers(node, IN_MODIFY);
      }
      return count;
    });
  }

  override flush(caller: Caller, node: NodeId, fh: Fh, lockOwner: number): MaybePromise<void> {
    return this.#fs.flush(caller, node, fh, this.#ownerOf(lockOwner));
  }

  override release(node: NodeId, fh: Fh, flockOwner?: number): MaybePromise<void> {
    this.#files.delete(fh);
    if (flockOwner === undefined) return this.#fs.release(node, fh);
    const owner = this.#ownerOf(flockOwner);
    dropOwner(this.#flocks, node, owner);
    return this.#fs.release(node, fh, owner);
  }

  override fsync(caller: Caller, node: NodeId, fh: Fh, datasync: boolean, start?: number, end?: number): MaybePromise<void> {
    return this.#fs.fsync(caller, node, fh, datasync, start, end);
  }

  override lseek(caller: Caller, node: NodeId, fh: Fh, pos: number, whence: number): MaybePromise<number> {
    return this.#fs.lseek(caller, node, fh, pos, whence);
  }

  override fallocate(caller: Caller, node: NodeId, fh: Fh, mode: number, offset: number, length: number): MaybePromise<void> {
    // To the end: modes that move what lies behind the range are among them.
    return then(this.#fs.fallocate(caller, node, fh, mode, offset, length), () => {
      this.#tellData(node, offset, 0);
      this.#tellWatchers(node, IN_MODIFY);
    });
  }

  override copyFileRange(
    caller: Caller,
    nodeIn: NodeId,
    fhIn: Fh,
    posIn: number,
    nodeOut: NodeId,
    fhOut: Fh,
    posOut: number,
    length: number,
    flags: number,
  ): MaybePromise<number> {
    return then(this.#fs.copyFileRange(caller, nodeIn, fhIn, posIn, nodeOut, fhOut, posOut, length, flags), (count) => {
      if (count > 0) {
        this.#tellData(nodeOut, posOut, count);
        this.#tellWatchers(nodeOut, IN_MODIFY);
      }
      return count;
    });
  }

  override ioctl(
    caller: Caller,
    node: NodeId,
    fh: Fh,
    cmd: number,
    arg: Uint8Array,
    outSize: number,
  ): MaybePromise<{ result: number; data: Uint8Array }> {
    return then(this.#fs.ioctl(caller, node, fh, cmd, arg, outSize), (answer) => {
      this.#tellData(node, 0, 0); // whatever it did
      return answer;
    });
  }

  override poll(caller: Caller, node: NodeId, fh: Fh, events: number, wake?: () => void): MaybePromise<number> {
    return this.#fs.poll(caller, node, fh, events, wake);
  }

  override fiemap(caller: Caller, node: NodeId, start: number, length: number, flags: number, max?: number): MaybePromise<FileExtent[]> {
    return this.#fs.fiemap(caller, node, start, length, flags, max);
  }

  override getlk(caller: Caller, node: NodeId, fh: Fh, lock: FileLock): MaybePromise<FileLock | undefined> {
    return this.#fs.getlk(caller, node, fh, { ...lock, owner: this.#ownerOf(lock.owner) });
  }

  override setlk(caller: Caller, node: NodeId, fh: Fh, lock: FileLock, request: LockRequest): MaybePromise<void> {
    const owner = this.#ownerOf(lock.owner);
    const locks = request.flock ? this.#flocks : this.#ranges;
    if (lock.type !== F_UNLCK) {
      const owners = locks.get(node);
      if (owners === undefined) locks.set(node, new Set([owner]));
      else owners.add(owner);
    } else if (lock.start === 0 && lock.end === LOCK_END) {
      dropOwner(locks, node, owner);
    }
    return this.#fs.setlk(caller, node, fh, { ...lock, owner }, request);
  }

  override backingFd(backingId: number): number | undefined {
    return this.#fs.backingFd(backingId);
  }

  // Directories.

  override opendir(caller: Caller, node: NodeId, flags: number): MaybePromise<OpenReply> {
    return then(this.#fs.opendir(caller, node, flags), (opened) => {
      this.#directories.set(opened.fh, node);
      return opened;
    });
  }

  readdir(caller: Caller, node: NodeId, fh: Fh, offset: number, count: number, plus: boolean): MaybePromise<DirEntry[]> {
    return then(this.#fs.readdir(caller, node, fh, offset, count, plus), (entries) => {
      for (const { name, entry } of entries) if (entry !== undefined) this.#counted(entry, node, name);
      return entries;
    });
  }

  override releasedir(node: NodeId, fh: Fh): MaybePromise<void> {
    this.#directories.delete(fh);
    return this.#fs.releasedir(node, fh);
  }

  override fsyncdir(caller: Caller, node: NodeId, fh: Fh, datasync: boolean): MaybePromise<void> {
    return this.#fs.fsyncdir(caller, node, fh, datasync);
  }

  // Extended attributes.

  override getxattr(caller: Caller, node: NodeId, name: string): MaybePromise<Uint8Array | undefined> {
    return this.#fs.getxattr(caller, node, name);
  }

  override setxattr(caller: Caller, node: NodeId, name: string, value: Uint8Array, flags: number): MaybePromise<void> {
    return then(this.#fs.setxattr(caller, node, name, value, flags), () => this.#tellXattr(node));
  }

  override listxattr(caller: Caller, node: NodeId): MaybePromise<string[]> {
    return this.#fs.listxattr(caller, node);
  }

  override removexattr(caller: Caller, node: NodeId, name: string): MaybePromise<void> {
    return then(this.#fs.removexattr(caller, node, name), () => this.#tellXattr(node));
  }

  #tellXattr(node: NodeId): void {
    this.#tellAttr(node);
    this.#tellWatchers(node, IN_ATTRIB);
  }

  // The whole.

  override statfs(caller: Caller, node: NodeId): MaybePromise<StatFs> {
    return this.#fs.statfs(caller, node);
  }

  override syncfs(caller: Caller): MaybePromise<void> {
    return this.#fs.syncfs(caller);
  }

  override freeze(): MaybePromise<void> {
    return this.#fs.freeze();
  }

  override thaw(): MaybePromise<void> {
    return this.#fs.thaw();
  }

  override shutdown(how: number): MaybePromise<void> {
    return this.#fs.shutdown(how);
  }
}

function dropOwner(locks: Map<NodeId, Set<number>>, node: NodeId, owner: number): void {
  const owners = locks.get(node);
  if (owners?.delete(owner) === true && owners.size === 0) locks.delete(node);
}
