import { assert } from '../../base/assert.ts';
import { takeAttr, validMs, type WireAttr } from './attr.ts';
import { type AnyCursor, cursorOf, ReplyBodies } from './bodies.ts';
import { FUSE_ERRNO_MAX, FUSE_KERNEL_MINOR_VERSION } from './flags.ts';
import { malformed } from './malformed.ts';
import { type Notification, notificationOf } from './notify.ts';
import { FUSE_INIT, OPERATIONS, type Operation, operationOf } from './opcodes.ts';
import { fuse_attr, fuse_out_header, sizeAt } from './structs.ts';
import { isResendAt, roundedU64At, uniqueAt } from './words.ts';

// The decoder of replies and notifications, for the client's role. The peer is hostile here too. Invariants:
// 1. After decode() only the header is read: `unique`, `error`, or `notification` with its ranges.
// 2. After decodeBody() each struct of the row lies whole inside the message, or in a copy filled up with zeros, with its cursor on it;
//    data is within what was asked for; nothing is left over.
// An EPROTO of decode() ends the session; one of decodeBody() is an EIO for the caller of that request.

const NOTHING = new Uint8Array(0);
const BODY = fuse_out_header.size;
const SLASH = 0x2f;

/** One reply or notification: moved from message to message over reused buffers. */
export class Reply extends ReplyBodies {
  unique = 0;
  isResend = false;
  /** 0 or a negative errno. */
  error = 0;
  /** Its row; then there is no request that this answers, and the row's struct is at REPLY_BODY. */
  notification: Notification | undefined = undefined;

  /** What the ranges are positions in. Valid until the buffer is reused. */
  bytes: Uint8Array = NOTHING;
  /** Data of READ, READLINK, READDIR, GETXATTR, IOCTL, STORE; nodeids of PRUNE. */
  dataStart = 0;
  dataEnd = 0;
  /** Name of INVAL_ENTRY, DELETE, without its NUL. */
  nameStart = 0;
  nameEnd = 0;

  #length = 0;
  #minor = FUSE_KERNEL_MINOR_VERSION;
  #data: DataView = new DataView(NOTHING.buffer);
  readonly #cursors = new Map<Operation, readonly AnyCursor[]>();
  /** Structs in a shorter form, and INIT, are copied here, one behind the other. */
  readonly #copy = new Uint8Array(512);
  readonly #attr = fuse_attr.view();

  constructor() {
    super();
    for (const operation of OPERATIONS)
      this.#cursors.set(
        operation,
        operation.out.map((form) => cursorOf(this, form)),
      );
  }

  /** What INIT agreed on: older peers send shorter structs. */
  agree(minor: number): void {
    this.#minor = Math.min(minor, FUSE_KERNEL_MINOR_VERSION);
  }

  /**
   * Moves to the message in the first `length` bytes, and reads its header, or all of a notification.
   *
   * Errors: EPROTO, with the place.
   */
  decode(bytes: Uint8Array, length: number = bytes.length): this {
    assert(length <= bytes.length, 'a message lies in its buffer');
    this.notification = undefined;
    this.nameStart = this.nameEnd = this.dataStart = this.dataEnd = 0;
    if (length < BODY) throw malformed(`a message of ${length} bytes, its header has ${BODY}`);
    if (bytes.buffer !== this.#data.buffer) this.#data = new DataView(bytes.buffer);
    this.bytes = bytes;
    this.#length = length;

    const at = bytes.byteOffset;
    const claimed = this.#data.getUint32(at, true);
    if (claimed !== length) throw malformed(`len ${claimed} in a message of ${length} bytes`);
    this.error = this.#data.getInt32(at + 4, true);
    this.unique = uniqueAt(this.#data, at + 8);
    this.isResend = isResendAt(this.#data, at + 8);
    if (this.unique < 0) throw malformed('a reply to a unique past 2^53');
    if (this.unique === 0) this.#readNotification();
    else if (this.error > 0 || this.error < -FUSE_ERRNO_MAX) throw malformed(`a reply with error ${this.error}`);
    else if (this.error !== 0 && length !== BODY) throw malformed(`a reply with error ${this.error} and ${length - BODY} bytes`);
    return this;
  }

  /**
   * Reads the body of a reply without an error. `opcode`: of the request with this unique; `asked`: bytes of data that it asked for.
   *
   * Errors: EPROTO, with the place.
   */
  decodeBody(opcode: number, asked = 0): this {
    const operation = operationOf(opcode);
    assert(operation !== undefined && this.error === 0 && this.notification === undefined, 'a reply has a body');
    const { outData } = operation;
    let at = BODY;
    if (outData !== 'instead' || asked === 0) {
      let copied = 0;
      const cursors = this.#cursors.get(operation) as readonly AnyCursor[];
      for (const [index, form] of operation.out.entries()) {
        const left = this.#length - at;
        // INIT tells its version itself: what is not there is zeros.
        const size = opcode === FUSE_INIT ? Math.min(left, form.size) : sizeAt(form, this.#minor);
        if (left < size) throw malformed(`reply to ${operation.name}: ${left} bytes for ${form.name} of ${size}`);
        const cursor = cursors[index] as AnyCursor;
        if (size === form.size) {
          cursor.at(this.bytes, at);
        } else {
          this.#copy.fill(0, copied, copied + form.size);
          this.#copy.set(this.bytes.subarray(at, at + size), copied);
          cursor.at(this.#copy, copied);
          copied += form.size;
        }
        at += size;
      }
    }
    const room = outData === 'none' || (outData === 'instead' && asked === 0) ? 0 : asked;
    if (this.#length - at > room) {
      throw malformed(`reply to ${operation.name}: ${this.#length - at} bytes of data, ${room} were asked for`);
    }
    this.dataStart = at;
    this.dataEnd = this.#length;
    return this;
  }

  /** Attributes of the attr_out at its cursor's place. Shape: as takeAttr. */
  takeAttrOut(into: WireAttr): number {
    takeAttr(this.#attr.at(this.attr_out.attr), into);
    return validMs(this.attr_out.attr_valid, this.attr_out.attr_valid_nsec);
  }

  /** Attributes of the entry_out at its cursor's place, or of a record of READDIRPLUS, where its cursor is put first. */
  takeEntryAttr(into: WireAttr, entryStart?: number): number {
    if (entryStart !== undefined) this.entry_out.at(this.bytes, entryStart);
    takeAttr(this.#attr.at(this.entry_out.attr), into);
    return validMs(this.entry_out.attr_valid, this.entry_out.attr_valid_nsec);
  }

  /** Nodeid of a PRUNE at `index`, past 2^53 rounded. */
  prunedNodeid(index: number): number {
    const at = this.dataStart + index * 8;
    assert(index >= 0 && at + 8 <= this.dataEnd, `nodeid ${index} of a PRUNE`);
    return roundedU64At(this.#data, this.bytes.byteOffset + at);
  }

  #readNotification(): void {
    const row = notificationOf(this.error);
    if (row === undefined) throw malformed(`notification ${this.error}`);
    this.notification = row;
    // A body of those without a struct is passed over, as the kernel does.
    if (row.out === undefined) return;
    const there = this.#length - BODY;
    const { size } = row.out;
    if (there < size) throw malformed(`${row.name}: ${there} bytes for ${row.out.name} of ${size}`);
    const count = row.tail === 'none' ? 0 : this.#data.getUint32(this.bytes.byteOffset + BODY + row.countAt, true);
    const claimed = row.tail === 'name' ? count + 1 : row.tail === 'nodeids' ? count * 8 : count;
    if (there - size !== claimed) throw malformed(`${row.name}: ${claimed} bytes are claimed, ${there - size} are there`);

    const start = BODY + size;
    if (row.tail !== 'name') {
      this.dataStart = start;
      this.dataEnd = this.#length;
      return;
    }
    const end = this.#length - 1;
    let at = start;
    while (at < end && this.bytes[at] !== 0 && this.bytes[at] !== SLASH) at++;
    if (at !== end || start === end || this.bytes[end] !== 0) throw malformed(`${row.name}: not a name of ${end - start} bytes`);
    this.nameStart = start;
    this.nameEnd = end;
  }
}
