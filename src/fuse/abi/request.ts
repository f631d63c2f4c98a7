import { assert } from '../../base/assert.ts';
import { type AnyCursor, cursorOf, RequestBodies } from './bodies.ts';
import { FUSE_EXT_GROUPS, FUSE_KERNEL_MINOR_VERSION, FUSE_MAX_NR_SECCTX, FUSE_URING_IN_OUT_HEADER_SZ } from './flags.ts';
import { FUSE_INIT_EXT } from './init-flags.ts';
import { malformed } from './malformed.ts';
import {
  CUSE_INIT_BSWAP_RESERVED,
  FUSE_BATCH_FORGET,
  FUSE_FORGET,
  FUSE_INIT,
  FUSE_INIT_BSWAP_RESERVED,
  FUSE_SETXATTR,
  type NameKind,
  OPERATIONS,
  type Operation,
  opcodeName,
} from './opcodes.ts';
import {
  fuse_ext_header,
  fuse_forget_one,
  fuse_in_header,
  fuse_init_in,
  fuse_secctx,
  fuse_secctx_header,
  fuse_setxattr_in,
  fuse_supp_groups,
  fuse_uring_req_header,
  sizeAt,
  type WireForm,
} from './structs.ts';
import { isResendAt, roundedU64At, uniqueAt } from './words.ts';

// The decoder of requests. The peer is hostile: every length it tells is compared with the bytes that are there before they are read.
// Invariants after decode() has returned:
// 1. The struct of the operation lies whole inside the message, or in a copy filled up with zeros; its cursor stands on it.
// 2. All ranges (names, data, contexts) lie inside `bytes`, one behind the other, and nothing of the message is left over.
// 3. Names are what their row says (NameKind): without NUL, not empty, components without slashes.
// 4. What takes a reply has a number that is not 0.
// After a throw only `hasId`, and if that is set `opcode`, `unique`, `isResend`, are to be used: to answer the request with the error.
// Without an id there is no one to answer: the session is over.
// Texts of asserts are constant here: one with a value in it is made before it is known whether it is needed.

const SLASH = 0x2f;
const DOT = 0x2e;

/** Bytes [start, end) of a request. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A security context of the inode to be made. */
export interface SecurityContext {
  /** Name of the attribute. */
  readonly name: ByteRange;
  readonly value: ByteRange;
}

// One operation, with what depends on this decoder.
class Row {
  readonly operation: Operation;
  readonly form: WireForm | undefined;
  readonly cursor: AnyCursor | undefined;
  /** Bytes of the struct as the peer sends it. */
  inSize: number;

  constructor(operation: Operation, bodies: RequestBodies) {
    this.operation = operation;
    this.form = operation.in;
    this.cursor = operation.in && cursorOf(bodies, operation.in);
    this.inSize = operation.in?.size ?? 0;
  }
}

const NOTHING = new Uint8Array(0);

/**
 * One request, as the kernel or a client sent it: moved from message to message over reused buffers, allocating nothing for those
 * without extensions. The struct of the operation is the cursor of its name (`read_in`, `write_in`): reading a u64 there that is past
 * 2^53 - 1 is EOVERFLOW, for this one request.
 */
export class Request extends RequestBodies {
  opcode = 0;
  /** Its row; undefined for an operation that these tables do not know (ENOSYS), with all of its body as data. */
  operation: Operation | undefined = undefined;
  unique = 0;
  /** A copy of a request that was sent before: the answer carries the bit. */
  isResend = false;
  nodeid = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** The message can be answered. */
  hasId = false;

  /** What the ranges are positions in. Valid until the buffer is reused. */
  bytes: Uint8Array = NOTHING;
  /** Bytes of the names, without their NUL; empty if there are none. */
  nameStart = 0;
  nameEnd = 0;
  name2Start = 0;
  name2End = 0;
  /** Data of WRITE, SETXATTR, IOCTL, NOTIFY_REPLY; records of BATCH_FORGET, REMOVEMAPPING. */
  dataStart = 0;
  dataEnd = 0;
  /** Supplementary groups of the caller that a creating operation carries. */
  readonly groups: number[] = [];
  readonly securityContexts: SecurityContext[] = [];

  /** Nodes that a FORGET or BATCH_FORGET names. */
  forgetCount = 0;
  /** What forgetAt() found. Past 2^53 rounded. */
  forgetNodeid = 0;
  forgetNlookup = 0;
  /** Of a FORGET. */
  #nlookup = 0;

  readonly #rows: (Row | undefined)[] = [];
  readonly #farRows = new Map<number, Row>();
  /** Structs in a shorter form are copied here. */
  readonly #copy = new Uint8Array(fuse_init_in.size);
  #data: DataView = new DataView(NOTHING.buffer);
  /** Position of `bytes` in the buffer of `#data`. */
  #base = 0;

  constructor() {
    super();
    for (const operation of OPERATIONS) {
      const row = new Row(operation, this);
      if (operation.opcode < 1024) this.#rows[operation.opcode] = row;
      else this.#farRows.set(operation.opcode, row);
    }
  }

  /** What INIT agreed on, as far as it changes the shape of requests. Until then they have the newest. */
  agree(minor: number, setxattrExt: boolean): void {
    for (const row of [...this.#rows, ...this.#farRows.values()]) {
      if (row?.form) row.inSize = sizeAt(row.form, Math.min(minor, FUSE_KERNEL_MINOR_VERSION));
    }
    const setxattr = this.#rows[FUSE_SETXATTR] as Row;
    setxattr.inSize = setxattrExt ? fuse_setxattr_in.size : sizeAt(fuse_setxattr_in, 0);
  }

  /**
   * Moves to the message in the first `length` bytes.
   *
   * Errors: EPROTO, with the place, for what is not a request.
   */
  decode(bytes: Uint8Array, length: number = bytes.length): this {
    assert(length <= bytes.length, 'a message lies in its buffer');
    this.#begin(bytes, length);
    const row = this.#readHeader(length);
    const body = fuse_in_header.size;
    if (row === undefined) return this.#unknown(body, length);

    const inSize = this.#placeStruct(row, bytes, body, length);
    this.#readRest(row, body + inSize, length);
    return this;
  }

  /**
   * Moves to a request of an io_uring entry: header and struct in its header region, everything else in its payload.
   *
   * Errors: as decode().
   */
  decodeEntry(header: Uint8Array, payload: Uint8Array, payloadLength: number): this {
    assert(header.length >= fuse_uring_req_header.size && payloadLength <= payload.length, 'an entry in its memory');
    this.#begin(header, fuse_uring_req_header.size);
    const row = this.#readHeader(undefined);
    const claimed = this.#data.getUint32(this.#base, true);
    const inSize = row === undefined ? 0 : this.#placeStruct(row, header, FUSE_URING_IN_OUT_HEADER_SZ, fuse_uring_req_header.size - 32);
    const length = fuse_in_header.size + inSize + payloadLength;
    if (row !== undefined && claimed !== length) throw malformed(`${opcodeName(this.opcode)}: len ${claimed}, the entry has ${length}`);

    this.#enter(payload);
    if (row === undefined) return this.#unknown(0, payloadLength);
    const extensionLength = header[36] as number;
    this.#readRest(row, 0, payloadLength, ((header[37] as number) << 8) | extensionLength);
    return this;
  }

  /** Moves `forgetNodeid` and `forgetNlookup` to the node at `index` below forgetCount. */
  forgetAt(index: number): void {
    assert(index >= 0 && index < this.forgetCount, 'a forget is one of forgetCount');
    if (this.opcode === FUSE_FORGET) {
      this.forgetNodeid = this.nodeid;
      this.forgetNlookup = this.#nlookup;
      return;
    }
    const at = this.#base + this.dataStart + index * fuse_forget_one.size;
    this.forgetNodeid = roundedU64At(this.#data, at);
    this.forgetNlookup = roundedU64At(this.#data, at + 8);
  }

  /** Number of the request that an INTERRUPT is about. */
  get interruptedUnique(): number {
    return Number(BigInt.asUintN(63, this.interrupt_in.unique));
  }

  #begin(bytes: Uint8Array, length: number): void {
    this.hasId = false;
    this.operation = undefined;
    this.opcode = 0;
    this.#enter(bytes);
    if (length < fuse_in_header.size) throw malformed(`a message of ${length} bytes, its header has ${fuse_in_header.size}`);
  }

  #enter(bytes: Uint8Array): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.#base = bytes.byteOffset;
      if (bytes.buffer !== this.#data.buffer) this.#data = new DataView(bytes.buffer);
    }
    this.nameStart = this.nameEnd = this.name2Start = this.name2End = this.dataStart = this.dataEnd = 0;
    this.forgetCount = 0;
    if (this.groups.length > 0) this.groups.length = 0;
    if (this.securityContexts.length > 0) this.securityContexts.length = 0;
  }

  /** `length`: of the message, undefined where it is not told by the transport. */
  #readHeader(length: number | undefined): Row | undefined {
    const data = this.#data;
    const at = this.#base;
    const opcode = data.getUint32(at + 4, true);
    if (opcode === FUSE_INIT_BSWAP_RESERVED || opcode === CUSE_INIT_BSWAP_RESERVED) throw malformed('INIT in the other byte order');
    const claimed = data.getUint32(at, true);
    if (length !== undefined && claimed !== length) throw malformed(`len ${claimed} in a message of ${length} bytes`);

    this.opcode = opcode;
    const row = this.#rows[opcode] ?? this.#farRows.get(opcode);
    this.operation = row?.operation;
    this.unique = uniqueAt(data, at + 8);
    this.isResend = isResendAt(data, at + 8);
    if (this.unique < 0) throw malformed(`${opcodeName(opcode)}: unique past 2^53`);
    this.hasId = this.unique !== 0;
    if (!this.hasId && (row === undefined || row.operation.replies)) throw malformed(`${opcodeName(opcode)}: unique 0`);

    const nodeid = roundedU64At(data, at + 16);
    if (nodeid > Number.MAX_SAFE_INTEGER) throw malformed(`${opcodeName(opcode)}: nodeid ${nodeid} was given by no one`);
    this.nodeid = nodeid;
    this.uid = data.getUint32(at + 24, true);
    this.gid = data.getUint32(at + 28, true);
    this.pid = data.getUint32(at + 32, true);
    return row;
  }

  /** All of the body is data. */
  #unknown(start: number, end: number): this {
    this.dataStart = start;
    this.dataEnd = end;
    return this;
  }

  /** Puts the cursor of the row on the struct at `start`. Shape: bytes that it takes there. */
  #placeStruct(row: Row, bytes: Uint8Array, start: number, end: number): number {
    const { form, cursor } = row;
    if (form === undefined || cursor === undefined) return 0;
    const there = end - start;
    if (row.operation.opcode === FUSE_INIT) return this.#placeInit(cursor, bytes, start, there);
    const { inSize } = row;
    if (there < inSize) throw malformed(`${row.operation.name}: ${there} bytes for ${form.name} of ${inSize}`);
    if (inSize === form.size) cursor.at(bytes, start);
    else this.#placeCopy(cursor, bytes, start, inSize);
    if (row.operation.opcode === FUSE_FORGET) this.#nlookup = roundedU64At(this.#data, this.#base + start);
    return inSize;
  }

  /** INIT tells its version itself, so its length is free, and a longer one is of a newer peer. */
  #placeInit(cursor: AnyCursor, bytes: Uint8Array, start: number, there: number): number {
    if (there < 8) throw malformed(`FUSE_INIT: ${there} bytes`);
    this.#placeCopy(cursor, bytes, start, Math.min(there, fuse_init_in.size));
    if ((this.init_in.flags & FUSE_INIT_EXT) === 0) this.init_in.flags2 = 0;
    return there;
  }

  #placeCopy(cursor: AnyCursor, bytes: Uint8Array, start: number, size: number): void {
    this.#copy.fill(0);
    this.#copy.set(bytes.subarray(start, start + size));
    cursor.at(this.#copy, 0);
  }

  /** Names, data and extensions in [start, end) of `bytes`. */
  #readRest(row: Row, start: number, end: number, extlen: number = this.#data.getUint16(this.#base + 36, true)): void {
    const { operation } = row;
    let at = start;
    let dataEnd = end;
    if (extlen > 0) {
      dataEnd -= 8 * extlen;
      if (!operation.creates) throw malformed(`${operation.name}: it carries no extensions, total_extlen is ${extlen}`);
      if (dataEnd < at) throw malformed(`${operation.name}: total_extlen ${extlen}, ${end - at} bytes are left`);
    }

    const { names } = operation;
    if (names.length > 0) {
      at = this.#readName(operation, names[0] as NameKind, at, dataEnd);
      this.nameEnd = at - 1;
      this.nameStart = this.#nameStart;
    }
    if (names.length > 1) {
      at = this.#readName(operation, names[1] as NameKind, at, dataEnd);
      this.name2End = at - 1;
      this.name2Start = this.#nameStart;
    }

    const claimed = operation.dataLength === undefined ? 0 : operation.dataLength(this);
    if (dataEnd - at !== claimed) throw malformed(`${operation.name}: ${claimed} bytes of data are claimed, ${dataEnd - at} are there`);
    this.dataStart = at;
    this.dataEnd = dataEnd;

    if (operation.opcode === FUSE_FORGET) {
      this.forgetCount = 1;
    } else if (operation.opcode === FUSE_BATCH_FORGET) {
      this.forgetCount = this.batch_forget_in.count;
    } else if (extlen > 0) {
      this.#readExtensions(operation, dataEnd, end);
    }
  }

  /** Where the name that #readName read begins. */
  #nameStart = 0;

  /** Shape: the position behind its NUL. */
  #readName(operation: Operation, kind: NameKind, start: number, end: number): number {
    const { bytes } = this;
    this.#nameStart = start;
    let at = start;
    let slash = false;
    for (; at < end; at++) {
      const byte = bytes[at];
      if (byte === 0) break;
      if (byte === SLASH) slash = true;
    }
    if (at === end) throw malformed(`${operation.name}: a name of ${end - start} bytes without an end`);
    if (at === start) throw malformed(`${operation.name}: an empty name`);
    if (kind === 'text') return at + 1;
    if (slash) throw malformed(`${operation.name}: a name with a slash`);
    if (kind === 'entry' && bytes[start] === DOT && (at === start + 1 || (at === start + 2 && bytes[start + 1] === DOT))) {
      throw malformed(`${operation.name}: a name that is '.' or '..'`);
    }
    return at + 1;
  }

  /** The blocks in [start, end), whose length is a multiple of 8. */
  #readExtensions(operation: Operation, start: number, end: number): void {
    const data = this.#data;
    let seen = 0;
    for (let at = start; at < end; ) {
      const size = data.getUint32(this.#base + at, true);
      const type = data.getUint32(this.#base + at + 4, true);
      const step = (size + 7) & ~7;
      const place = `${operation.name}: extension of type ${type}`;
      if (size < fuse_ext_header.size || size > end - at || step > end - at)
        throw malformed(`${place}: size ${size}, ${end - at} are left`);
      if (type > FUSE_EXT_GROUPS) throw malformed(`${place} was not agreed on`);
      const kind = type === FUSE_EXT_GROUPS ? 2 : 1;
      if ((seen & kind) !== 0) throw malformed(`${place} comes twice`);
      seen |= kind;
      if (type === FUSE_EXT_GROUPS) this.#readGroups(place, at, size);
      else this.#readSecurityContexts(place, type, at, size);
      at += step;
    }
  }

  #readGroups(place: string, start: number, size: number): void {
    const list = fuse_ext_header.size + fuse_supp_groups.size;
    const count = size < list ? -1 : this.#data.getUint32(this.#base + start + fuse_ext_header.size, true);
    if (count < 0 || count > Math.floor((size - list) / 4)) throw malformed(`${place}: ${count} groups in ${size} bytes`);
    for (let i = 0; i < count; i++) this.groups.push(this.#data.getUint32(this.#base + start + list + i * 4, true));
  }

  /** A block without contexts is what a kernel without an active label sends. */
  #readSecurityContexts(place: string, count: number, start: number, size: number): void {
    assert(count <= FUSE_MAX_NR_SECCTX, 'larger types are other extensions');
    const end = start + size;
    let at = start + fuse_secctx_header.size;
    for (let i = 0; i < count; i++) {
      const nameStart = at + fuse_secctx.size;
      if (nameStart > end) throw malformed(`${place}: context ${i} of ${count} is past its ${size} bytes`);
      const valueLength = this.#data.getUint32(this.#base + at, true);
      let nameEnd = nameStart;
      while (nameEnd < end && this.bytes[nameEnd] !== 0) nameEnd++;
      if (nameEnd === end || nameEnd === nameStart) throw malformed(`${place}: context ${i} has no name`);
      const valueStart = nameEnd + 1;
      if (valueLength > end - valueStart) throw malformed(`${place}: context ${i} of ${valueLength} bytes, ${end - valueStart} are left`);
      const valueEnd = valueStart + valueLength;
      this.securityContexts.push({ name: { start: nameStart, end: nameEnd }, value: { start: valueStart, end: valueEnd } });
      at = start + ((valueEnd - start + 7) & ~7);
    }
    if (count === 0 && size !== fuse_secctx_header.size) throw malformed(`${place}: ${size} bytes without a context`);
  }
}
