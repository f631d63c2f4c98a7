import { assert } from '../../base/assert.ts';
import { type AnyCursor, cursorOf, RequestBodies } from './bodies.ts';
import { FUSE_EXT_GROUPS, FUSE_KERNEL_MINOR_VERSION } from './flags.ts';
import { FUSE_SETXATTR, type Operation, operationOf } from './opcodes.ts';
import { fuse_ext_header, fuse_in_header, fuse_secctx, fuse_secctx_header, fuse_setxattr_in, fuse_supp_groups, sizeAt } from './structs.ts';
import { putUnique } from './words.ts';

/** Who asks. */
export interface WireCaller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** A security context for the inode to be made. */
export interface NamedContext {
  /** Name of the attribute. */
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * Writes requests, in the client's role, into one reused buffer: begin() puts the cursor of the operation's struct (`read_in`, ...) on
 * zeros, to be filled; then names, data, extensions in this order; end() completes the message.
 */
export class RequestEncoder extends RequestBodies {
  bytes: Uint8Array;
  #data: DataView;
  #at = 0;
  #extensions = 0;
  #operation: Operation | undefined;
  #minor = FUSE_KERNEL_MINOR_VERSION;
  #setxattrExt = true;
  readonly #cursors = new Map<number, AnyCursor>();
  readonly #header = fuse_in_header.view();

  constructor(bytes: Uint8Array) {
    super();
    this.bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Writes into `bytes` from now on. */
  moveTo(bytes: Uint8Array): this {
    this.bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return this;
  }

  /** What INIT agreed on, as far as it changes the shape of requests. */
  agree(minor: number, setxattrExt: boolean): void {
    this.#minor = Math.min(minor, FUSE_KERNEL_MINOR_VERSION);
    this.#setxattrExt = setxattrExt;
  }

  begin(opcode: number, unique: number, nodeid: number, caller: WireCaller): this {
    const operation = operationOf(opcode);
    assert(operation !== undefined, 'an opcode has a row');
    this.#operation = operation;
    this.#extensions = 0;
    this.#at = fuse_in_header.size;
    this.bytes.fill(0, 0, fuse_in_header.size);
    const header = this.#header.at(this.bytes, 0);
    header.opcode = opcode;
    header.nodeid = nodeid;
    header.uid = caller.uid;
    header.gid = caller.gid;
    header.pid = caller.pid;
    putUnique(this.#data, 8, unique, false);
    const form = operation.in;
    if (form === undefined) return this;

    // The whole struct for the cursor to stand on; what follows starts where the agreed form ends.
    let cursor = this.#cursors.get(opcode);
    if (cursor === undefined) this.#cursors.set(opcode, (cursor = cursorOf(this, form)));
    this.bytes.fill(0, this.#at, this.#at + form.size);
    cursor.at(this.bytes, this.#at);
    this.#at += opcode === FUSE_SETXATTR && !this.#setxattrExt ? sizeAt(fuse_setxattr_in, 0) : sizeAt(form, this.#minor);
    return this;
  }

  /** Adds a name and its NUL. The struct must be filled by now. */
  name(name: Uint8Array): this {
    this.bytes.set(name, this.#at);
    this.bytes[this.#at + name.length] = 0;
    this.#at += name.length + 1;
    return this;
  }

  data(data: Uint8Array): this {
    this.bytes.set(data, this.#at);
    this.#at += data.length;
    return this;
  }

  /** Makes room for `length` bytes of data. Shape: where they belong. */
  reserve(length: number): number {
    const at = this.#at;
    this.#at += length;
    return at;
  }

  /** A node of a BATCH_FORGET. */
  forgetOne(nodeid: number, nlookup: number): this {
    putUnique(this.#data, this.#at, nodeid, false);
    putUnique(this.#data, this.#at + 8, nlookup, false);
    this.#at += 16;
    return this;
  }

  /** An extension: contexts for the inode to be made, or none, as a kernel without an active label says it. */
  securityContexts(contexts: readonly NamedContext[]): this {
    const start = this.#beginExtension();
    this.#at += fuse_secctx_header.size;
    for (const { name, value } of contexts) {
      this.bytes.fill(0, this.#at, this.#at + fuse_secctx.size);
      this.#data.setUint32(this.#at, value.length, true);
      this.#at += fuse_secctx.size;
      this.name(name).data(value);
      this.#padTo8(start);
    }
    this.#data.setUint32(start, this.#at - start, true);
    this.#data.setUint32(start + 4, contexts.length, true);
    return this;
  }

  /** An extension: supplementary groups of the caller. */
  groups(gids: readonly number[]): this {
    const start = this.#beginExtension();
    const list = start + fuse_ext_header.size + fuse_supp_groups.size;
    this.#data.setUint32(list - 4, gids.length, true);
    for (const [index, gid] of gids.entries()) this.#data.setUint32(list + index * 4, gid, true);
    this.#at = list + gids.length * 4;
    this.#padTo8(start);
    this.#data.setUint32(start, this.#at - start, true);
    this.#data.setUint32(start + 4, FUSE_EXT_GROUPS, true);
    return this;
  }

  /** Shape: length of the message. */
  end(): number {
    assert(this.#at <= this.bytes.length, 'a request lies in the buffer');
    this.#header.len = this.#at;
    if (this.#extensions !== 0) this.#header.total_extlen = (this.#at - this.#extensions) / 8;
    return this.#at;
  }

  #beginExtension(): number {
    assert(this.#operation?.creates === true, `${this.#operation?.name} carries no extensions`);
    if (this.#extensions === 0) this.#extensions = this.#at;
    return this.#at;
  }

  #padTo8(start: number): void {
    while ((this.#at - start) % 8 !== 0) this.bytes[this.#at++] = 0;
  }
}
