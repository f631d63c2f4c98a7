import { assert } from '../../base/assert.ts';
import {
  fuse_notify_delete_out,
  fuse_notify_inval_entry_out,
  fuse_notify_inval_inode_out,
  fuse_notify_poll_wakeup_out,
  fuse_notify_prune_out,
  fuse_notify_retrieve_out,
  fuse_notify_store_out,
  fuse_out_header,
  type WireForm,
} from './structs.ts';

// What a server tells without being asked: an out_header with unique 0 whose error is the code, positive.
// Source: Linux include/uapi/linux/fuse.h; what the write returns was observed on Linux 6.18.

export const FUSE_NOTIFY_POLL = 1;
export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;
export const FUSE_NOTIFY_STORE = 4;
export const FUSE_NOTIFY_RETRIEVE = 5;
export const FUSE_NOTIFY_DELETE = 6;
export const FUSE_NOTIFY_RESEND = 7;
export const FUSE_NOTIFY_INC_EPOCH = 8;
export const FUSE_NOTIFY_PRUNE = 9;

/** What a notification has to wait for in the kernel, and so for the answers to the requests that hold it. */
export type NotifyWaits = 'nothing' | 'parent directory' | 'pages';

export interface Notification {
  /** The C name. */
  readonly name: string;
  readonly code: number;
  /** Minor version of the protocol. */
  readonly since: number;
  readonly out: WireForm | undefined;
  /** After the struct: a name with a NUL, bytes, nodeids. */
  readonly tail: 'none' | 'name' | 'data' | 'nodeids';
  /** Where in the struct their count is: bytes of the name or data, number of nodeids. */
  readonly countAt: number;
  readonly waits: NotifyWaits;
}

type Tail = Notification['tail'];

function row(
  name: string,
  code: number,
  since: number,
  waits: NotifyWaits,
  out?: WireForm,
  tail: Tail = 'none',
  countAt = 0,
): Notification {
  return { name, code, since, out, tail, countAt, waits };
}

// biome-ignore format: one row per notification
export const NOTIFICATIONS: readonly Notification[] = [
  // success also for a handle that nobody polls
  row('FUSE_NOTIFY_POLL', FUSE_NOTIFY_POLL, 11, 'nothing', fuse_notify_poll_wakeup_out),
  // ENOENT: the node is not in the cache; with a negative offset it waits for nothing
  row('FUSE_NOTIFY_INVAL_INODE', FUSE_NOTIFY_INVAL_INODE, 12, 'pages', fuse_notify_inval_inode_out),
  // ENOENT, ENOTDIR, ENAMETOOLONG; with FUSE_EXPIRE_ONLY it waits for nothing
  row('FUSE_NOTIFY_INVAL_ENTRY', FUSE_NOTIFY_INVAL_ENTRY, 12, 'parent directory',
    fuse_notify_inval_entry_out, 'name', fuse_notify_inval_entry_out.offsetOf('namelen')),
  // ENOENT, EINVAL for what is no regular file; a part of a page that is not up to date is not kept
  row('FUSE_NOTIFY_STORE', FUSE_NOTIFY_STORE, 15, 'pages', fuse_notify_store_out, 'data', fuse_notify_store_out.offsetOf('size')),
  // the answer is a request, FUSE_NOTIFY_REPLY
  row('FUSE_NOTIFY_RETRIEVE', FUSE_NOTIFY_RETRIEVE, 15, 'pages', fuse_notify_retrieve_out),
  // ENOENT: the name does not lead to this child; ENOTEMPTY, EBUSY
  row('FUSE_NOTIFY_DELETE', FUSE_NOTIFY_DELETE, 18, 'parent directory',
    fuse_notify_delete_out, 'name', fuse_notify_delete_out.offsetOf('namelen')),
  row('FUSE_NOTIFY_RESEND', FUSE_NOTIFY_RESEND, 40, 'nothing'),
  row('FUSE_NOTIFY_INC_EPOCH', FUSE_NOTIFY_INC_EPOCH, 44, 'nothing'),
  // nodes that are unknown or in use are passed over
  row('FUSE_NOTIFY_PRUNE', FUSE_NOTIFY_PRUNE, 45, 'nothing', fuse_notify_prune_out, 'nodeids', fuse_notify_prune_out.offsetOf('count')),
];

/** The row of a code, undefined for one that these tables do not know. */
export function notificationOf(code: number): Notification | undefined {
  return NOTIFICATIONS[code - 1];
}

const BODY = fuse_out_header.size;

/** Writes notifications into one reused buffer. Each method writes a whole message and returns its length. */
export class NotifyEncoder {
  readonly bytes: Uint8Array;
  readonly #data: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Whoever polls with this handle asks again. */
  poll(kh: number): number {
    fuse_notify_poll_wakeup_out.write(this.bytes, BODY, { kh });
    return this.#finish(FUSE_NOTIFY_POLL, fuse_notify_poll_wakeup_out.size);
  }

  /** A negative `pos` means attributes only; a `length` of 0 to the end. */
  invalInode(nodeid: number, pos: number, length: number): number {
    fuse_notify_inval_inode_out.write(this.bytes, BODY, { ino: nodeid, off: pos, len: length });
    return this.#finish(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out.size);
  }

  /** `flags`: FUSE_EXPIRE_ONLY. */
  invalEntry(parent: number, name: Uint8Array, flags = 0): number {
    fuse_notify_inval_entry_out.write(this.bytes, BODY, { parent, namelen: name.length, flags });
    const at = BODY + fuse_notify_inval_entry_out.size;
    return this.#finish(FUSE_NOTIFY_INVAL_ENTRY, this.#putName(at, name));
  }

  delete(parent: number, child: number, name: Uint8Array): number {
    fuse_notify_delete_out.write(this.bytes, BODY, { parent, child, namelen: name.length });
    const at = BODY + fuse_notify_delete_out.size;
    return this.#finish(FUSE_NOTIFY_DELETE, this.#putName(at, name));
  }

  /** Puts data into the page cache of the node. */
  store(nodeid: number, offset: number, data: Uint8Array): number {
    fuse_notify_store_out.write(this.bytes, BODY, { nodeid, offset, size: data.length });
    this.bytes.set(data, BODY + fuse_notify_store_out.size);
    return this.#finish(FUSE_NOTIFY_STORE, fuse_notify_store_out.size + data.length);
  }

  /** Asks for what the page cache of the node has; `notifyUnique` comes back with it. */
  retrieve(notifyUnique: number, nodeid: number, offset: number, size: number): number {
    const notify_unique = notifyUnique;
    fuse_notify_retrieve_out.write(this.bytes, BODY, { notify_unique, nodeid, offset, size });
    return this.#finish(FUSE_NOTIFY_RETRIEVE, fuse_notify_retrieve_out.size);
  }

  /** All requests that are delivered and not answered come again. */
  resend(): number {
    return this.#finish(FUSE_NOTIFY_RESEND, 0);
  }

  /** All names are asked for again at their next use. */
  incEpoch(): number {
    return this.#finish(FUSE_NOTIFY_INC_EPOCH, 0);
  }

  /** Nodes that may be forgotten where they are not in use. */
  prune(nodeids: readonly number[]): number {
    fuse_notify_prune_out.write(this.bytes, BODY, { count: nodeids.length });
    let at = BODY + fuse_notify_prune_out.size;
    for (const nodeid of nodeids) {
      assert(Number.isSafeInteger(nodeid) && nodeid > 0, `nodeid ${nodeid}`);
      this.#data.setUint32(at, nodeid % 2 ** 32, true);
      this.#data.setUint32(at + 4, Math.floor(nodeid / 2 ** 32), true);
      at += 8;
    }
    return this.#finish(FUSE_NOTIFY_PRUNE, at - BODY);
  }

  /** Shape: bytes of the body so far. */
  #putName(at: number, name: Uint8Array): number {
    this.bytes.set(name, at);
    this.bytes[at + name.length] = 0;
    return at + name.length + 1 - BODY;
  }

  #finish(code: number, bodyLength: number): number {
    const length = BODY + bodyLength;
    assert(length <= this.bytes.length, `a notification of ${length} bytes in a buffer of ${this.bytes.length}`);
    fuse_out_header.write(this.bytes, 0, { len: length, error: code, unique: 0n });
    return length;
  }
}
