import { assert } from '../../base/assert.ts';
import { ERRNO } from '../../base/errno.ts';
import { putAttr, putStatx, validNsec, validSec, type WireAttr, type WireEntry, type WireStatFs } from './attr.ts';
import { ReplyBodies } from './bodies.ts';
import { putEntry } from './dirents.ts';
import { FUSE_ERRNO_MAX } from './flags.ts';
import {
  fuse_attr,
  fuse_attr_out,
  fuse_entry_out,
  fuse_file_lock,
  fuse_init_out,
  fuse_ioctl_out,
  fuse_kstatfs,
  fuse_open_out,
  fuse_out_header,
  fuse_statfs_out,
  fuse_statx_out,
  sizeAt,
} from './structs.ts';
import { lockWord, putUnique } from './words.ts';

/** Where the body of a reply begins. */
export const REPLY_BODY: number = fuse_out_header.size;
/** Where the data of an IOCTL reply begins. */
export const IOCTL_DATA: number = REPLY_BODY + fuse_ioctl_out.size;
/** Bytes that a buffer for replies has at least, so that every fixed reply fits. */
export const REPLY_BUFFER_MIN: number = fuse_out_header.size + fuse_statx_out.size;

const ATTR_OUT_ATTR = REPLY_BODY + fuse_attr_out.offsetOf('attr');
const STATX_OUT_STAT = REPLY_BODY + fuse_statx_out.offsetOf('stat');

/** What INIT answers, in the words of fuse_init_out. The minor is in it twice: as told, and for the shape of the struct. */
export interface InitReply {
  readonly major: number;
  readonly minor: number;
  readonly max_readahead: number;
  readonly flags: number;
  readonly flags2?: number;
  readonly max_background?: number;
  readonly congestion_threshold?: number;
  readonly max_write: number;
  readonly time_gran?: number;
  readonly max_pages?: number;
  readonly map_alignment?: number;
  readonly max_stack_depth?: number;
  readonly request_timeout?: number;
}

/** A lock as getlk tells it. `end`: the last byte, Infinity for none. */
export interface WireLock {
  readonly type: number;
  readonly start: number;
  readonly end: number;
  readonly pid: number;
}

/**
 * Writes replies into one reused buffer. Each method writes a whole message and returns its length; nothing is allocated. Data, where a
 * reply has any, is put at `bytes[REPLY_BODY]` (for IOCTL behind its struct) by the caller, before or after.
 *
 * Errors: EOVERFLOW for a number that its field cannot hold, and then there is no message.
 */
export class ReplyEncoder {
  bytes: Uint8Array;
  #data: DataView;
  #unique = 0;
  #isResend = false;
  #entrySize = fuse_entry_out.size;
  #attrOutSize = fuse_attr_out.size;
  #statfsSize = fuse_statfs_out.size;
  readonly #header = fuse_out_header.view();
  readonly #bodies = new ReplyBodies();
  readonly #attr = fuse_attr.view();
  readonly #lock = fuse_file_lock.view();
  readonly #kstatfs = fuse_kstatfs.view();

  constructor(bytes: Uint8Array) {
    checkRoom(bytes);
    this.bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Writes into `bytes` from now on. */
  moveTo(bytes: Uint8Array): this {
    if (bytes === this.bytes) return this;
    checkRoom(bytes);
    this.bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return this;
  }

  /** What INIT agreed on: older peers expect shorter structs. */
  agree(minor: number): void {
    this.#entrySize = sizeAt(fuse_entry_out, minor);
    this.#attrOutSize = sizeAt(fuse_attr_out, minor);
    this.#statfsSize = sizeAt(fuse_statfs_out, minor);
  }

  /** Which request the next replies answer. */
  to(unique: number, isResend = false): this {
    this.#unique = unique;
    this.#isResend = isResend;
    return this;
  }

  /** Success without a body. */
  empty(): number {
    return this.#finish(0, 0);
  }

  /** `errno` is negative. What no reply may carry becomes EIO. */
  error(errno: number): number {
    return this.#finish(errno < 0 && errno >= -FUSE_ERRNO_MAX ? errno : -ERRNO.EIO, 0);
  }

  /** `length` bytes of data that are at REPLY_BODY. */
  data(length: number): number {
    assert(REPLY_BODY + length <= this.bytes.length, 'data lies in the buffer');
    return this.#finish(0, length);
  }

  /** LOOKUP, MKNOD, MKDIR, SYMLINK, LINK. `attrFlags`: FUSE_ATTR_*. */
  entry(entry: WireEntry, attrFlags = 0): number {
    putEntry(this.bytes, REPLY_BODY, this.#bodies.entry_out, this.#attr, entry, attrFlags);
    return this.#finish(0, this.#entrySize);
  }

  /** LOOKUP: there is no such name, and it need not be asked for again for `validMs`. */
  negativeEntry(entryValidMs: number): number {
    this.bytes.fill(0, REPLY_BODY, REPLY_BODY + fuse_entry_out.size);
    const view = this.#bodies.entry_out.at(this.bytes, REPLY_BODY);
    view.entry_valid = validSec(entryValidMs);
    view.entry_valid_nsec = validNsec(entryValidMs);
    return this.#finish(0, this.#entrySize);
  }

  /** CREATE, TMPFILE. */
  create(entry: WireEntry, attrFlags: number, fh: number, openFlags: number, backingId = 0): number {
    putEntry(this.bytes, REPLY_BODY, this.#bodies.entry_out, this.#attr, entry, attrFlags);
    this.#putOpen(REPLY_BODY + this.#entrySize, fh, openFlags, backingId);
    return this.#finish(0, this.#entrySize + fuse_open_out.size);
  }

  /** GETATTR, SETATTR. */
  attr(attr: Readonly<WireAttr>, attrValidMs: number, attrFlags = 0): number {
    const view = this.#bodies.attr_out.at(this.bytes, REPLY_BODY);
    view.attr_valid = validSec(attrValidMs);
    view.attr_valid_nsec = validNsec(attrValidMs);
    this.#data.setUint32(REPLY_BODY + 12, 0, true);
    putAttr(this.#attr.at(this.bytes, ATTR_OUT_ATTR), attr, attrFlags);
    return this.#finish(0, this.#attrOutSize);
  }

  /** STATX. `mask`: STATX_* that `attr` has. */
  statx(attr: Readonly<WireAttr>, attrValidMs: number, mask: number, attrFlags = 0): number {
    this.bytes.fill(0, REPLY_BODY, STATX_OUT_STAT);
    const view = this.#bodies.statx_out.at(this.bytes, REPLY_BODY);
    view.attr_valid = validSec(attrValidMs);
    view.attr_valid_nsec = validNsec(attrValidMs);
    view.flags = attrFlags;
    putStatx(this.bytes, STATX_OUT_STAT, attr, mask);
    return this.#finish(0, fuse_statx_out.size);
  }

  /** OPEN, OPENDIR. `openFlags`: FOPEN_*. */
  open(fh: number, openFlags: number, backingId = 0): number {
    this.#putOpen(REPLY_BODY, fh, openFlags, backingId);
    return this.#finish(0, fuse_open_out.size);
  }

  /** WRITE, COPY_FILE_RANGE: bytes taken. */
  write(size: number): number {
    this.#bodies.write_out.at(this.bytes, REPLY_BODY).size = size;
    this.#data.setUint32(REPLY_BODY + 4, 0, true);
    return this.#finish(0, 8);
  }

  /** COPY_FILE_RANGE_64. */
  copied(length: number): number {
    this.#bodies.copy_file_range_out.at(this.bytes, REPLY_BODY).bytes_copied = length;
    return this.#finish(0, 8);
  }

  statfs(st: Readonly<WireStatFs>): number {
    this.bytes.fill(0, REPLY_BODY, REPLY_BODY + fuse_statfs_out.size);
    const view = this.#kstatfs.at(this.bytes, REPLY_BODY);
    view.blocks = st.blocks;
    view.bfree = st.bfree;
    view.bavail = st.bavail;
    view.files = st.files;
    view.ffree = st.ffree;
    view.bsize = st.bsize;
    view.namelen = st.namelen;
    view.frsize = st.bsize;
    return this.#finish(0, this.#statfsSize);
  }

  /** GETXATTR, LISTXATTR asked with size 0: bytes that the answer has. */
  xattrSize(size: number): number {
    this.#bodies.getxattr_out.at(this.bytes, REPLY_BODY).size = size;
    this.#data.setUint32(REPLY_BODY + 4, 0, true);
    return this.#finish(0, 8);
  }

  /** GETLK: the lock that is in the way, or one of type F_UNLCK. */
  lock(lock: WireLock): number {
    const view = this.#lock.at(this.bytes, REPLY_BODY);
    view.start = lockWord(lock.start);
    view.end = lockWord(lock.end);
    view.type = lock.type;
    // A lock that belongs to no process is told as -1.
    view.pid = lock.pid >>> 0;
    return this.#finish(0, fuse_file_lock.size);
  }

  bmap(block: number): number {
    this.#bodies.bmap_out.at(this.bytes, REPLY_BODY).block = block;
    return this.#finish(0, 8);
  }

  /** `length` bytes of data are behind the struct, from `IOCTL_DATA` on. */
  ioctl(result: number, length: number): number {
    assert(IOCTL_DATA + length <= this.bytes.length, 'data lies in the buffer');
    const view = this.#bodies.ioctl_out.at(this.bytes, REPLY_BODY);
    view.result = result;
    view.flags = 0;
    view.in_iovs = 0;
    view.out_iovs = 0;
    return this.#finish(0, fuse_ioctl_out.size + length);
  }

  /** POLL: events that are there now. */
  poll(revents: number): number {
    this.#bodies.poll_out.at(this.bytes, REPLY_BODY).revents = revents;
    this.#data.setUint32(REPLY_BODY + 4, 0, true);
    return this.#finish(0, 8);
  }

  lseek(offset: number): number {
    this.#bodies.lseek_out.at(this.bytes, REPLY_BODY).offset = offset;
    return this.#finish(0, 8);
  }

  /** INIT, in the form that a peer of this minor expects. */
  init(reply: InitReply): number {
    fuse_init_out.write(this.bytes, REPLY_BODY, reply);
    return this.#finish(0, sizeAt(fuse_init_out, reply.minor));
  }

  #putOpen(at: number, fh: number, openFlags: number, backingId: number): void {
    const view = this.#bodies.open_out.at(this.bytes, at);
    view.fh = fh;
    view.open_flags = openFlags;
    view.backing_id = backingId;
  }

  #finish(error: number, bodyLength: number): number {
    assert(this.#unique > 0, 'a reply has an addressee');
    const length = REPLY_BODY + bodyLength;
    const header = this.#header.at(this.bytes, 0);
    header.len = length;
    header.error = error;
    putUnique(this.#data, 8, this.#unique, this.#isResend);
    return length;
  }
}

function checkRoom(bytes: Uint8Array): void {
  assert(bytes.length >= REPLY_BUFFER_MIN, `a reply buffer of ${bytes.length} bytes, it takes ${REPLY_BUFFER_MIN}`);
}
