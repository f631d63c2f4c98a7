import { putAttr, validNsec, validSec, type WireEntry } from './attr.ts';
import { malformed } from './malformed.ts';
import { fuse_attr, fuse_dirent, fuse_direntplus, fuse_entry_out, type ViewOf } from './structs.ts';
import { roundedU64At } from './words.ts';

// The records of READDIR and READDIRPLUS: one behind the other, each padded with zeros to 8 bytes.

/** Bytes of a record. */
export function direntSize(nameLength: number, plus: boolean): number {
  return ((plus ? fuse_direntplus.size : fuse_dirent.size) + nameLength + 7) & ~7;
}

const ENTRY_ATTR = fuse_entry_out.offsetOf('attr');
const PLUS_DIRENT = fuse_direntplus.offsetOf('dirent');

/** Packs names into the room that the reader gave. */
export class DirentWriter {
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #at = 0;
  #end = 0;
  readonly #dirent = fuse_dirent.view();
  readonly #entry = fuse_entry_out.view();
  readonly #attr = fuse_attr.view();

  /** Starts a listing at `start` in `bytes`, of `size` bytes at most. */
  begin(bytes: Uint8Array, start: number, size: number): this {
    this.#bytes = bytes;
    this.#start = start;
    this.#at = start;
    this.#end = Math.min(bytes.length, start + size);
    return this;
  }

  /** Bytes that are packed. */
  get length(): number {
    return this.#at - this.#start;
  }

  /**
   * Adds a name if it fits.
   *
   * Shape:  `next` is where the listing goes on after it, above 0; `type` are file type bits of a mode.
   */
  tryAdd(ino: number, next: number, type: number, name: Uint8Array): boolean {
    const at = this.#at;
    const size = direntSize(name.length, false);
    if (at + size > this.#end) return false;
    this.#put(at, ino, next, type, name, at + size);
    this.#at = at + size;
    return true;
  }

  /** The same with what a lookup would answer; without `entry` the name only. Shape: a name that did not fit counts no lookup. */
  tryAddPlus(entry: WireEntry | undefined, attrFlags: number, ino: number, next: number, type: number, name: Uint8Array): boolean {
    const at = this.#at;
    const size = direntSize(name.length, true);
    if (at + size > this.#end) return false;
    if (entry === undefined) this.#bytes.fill(0, at, at + PLUS_DIRENT);
    else putEntry(this.#bytes, at, this.#entry, this.#attr, entry, attrFlags);
    this.#put(at + PLUS_DIRENT, ino, next, type, name, at + size);
    this.#at = at + size;
    return true;
  }

  #put(at: number, ino: number, next: number, type: number, name: Uint8Array, end: number): void {
    const dirent = this.#dirent.at(this.#bytes, at);
    dirent.ino = ino;
    dirent.off = next;
    dirent.namelen = name.length;
    dirent.type = (type & 0xf000) >>> 12;
    const nameAt = at + fuse_dirent.size;
    this.#bytes.set(name, nameAt);
    this.#bytes.fill(0, nameAt + name.length, end);
  }
}

/** Writes a fuse_entry_out at `at`. */
export function putEntry(
  bytes: Uint8Array,
  at: number,
  view: ViewOf<typeof fuse_entry_out>,
  attr: ViewOf<typeof fuse_attr>,
  entry: WireEntry,
  attrFlags: number,
): void {
  view.at(bytes, at);
  view.nodeid = entry.node;
  view.generation = entry.generation;
  view.entry_valid = validSec(entry.entryValidMs);
  view.attr_valid = validSec(entry.attrValidMs);
  view.entry_valid_nsec = validNsec(entry.entryValidMs);
  view.attr_valid_nsec = validNsec(entry.attrValidMs);
  putAttr(attr.at(bytes, at + ENTRY_ATTR), entry.attr, attrFlags);
}

const SLASH = 0x2f;

/** Walks over the records of a reply. The peer is hostile: each record is checked before it is shown. */
export class DirentReader {
  /** Number of the inode, past 2^53 rounded. */
  ino = 0;
  /** Where the listing goes on after this name. */
  next = 0;
  /** File type bits of a mode. */
  type = 0;
  nameStart = 0;
  nameEnd = 0;
  /** Of READDIRPLUS: where the fuse_entry_out of the name is. */
  entryStart = 0;

  #bytes: Uint8Array = new Uint8Array(0);
  #data: DataView = new DataView(this.#bytes.buffer);
  #at = 0;
  #end = 0;
  #plus = false;
  #nameMax = 0;

  /** Starts at the records in [start, end) of `bytes`. `nameMax`: bytes of the longest name that is let through. */
  begin(bytes: Uint8Array, start: number, end: number, plus: boolean, nameMax: number): this {
    this.#bytes = bytes;
    if (bytes.buffer !== this.#data.buffer) this.#data = new DataView(bytes.buffer);
    this.#at = start;
    this.#end = end;
    this.#plus = plus;
    this.#nameMax = nameMax;
    return this;
  }

  /**
   * Moves to the next record. False at the end: a last record that is not there in full is left, as the kernel does.
   *
   * Errors: EPROTO for a name that is empty, too long, or holds a slash or NUL; for a position of 0 or past 2^53.
   */
  step(): boolean {
    const head = this.#plus ? fuse_direntplus.size : fuse_dirent.size;
    const at = this.#at;
    if (this.#end - at < head) return false;
    const dirent = this.#bytes.byteOffset + at + head - fuse_dirent.size;
    const nameLength = this.#data.getUint32(dirent + 16, true);
    if (nameLength === 0 || nameLength > this.#nameMax) throw malformed(`dirent: a name of ${nameLength} bytes`);
    const size = direntSize(nameLength, this.#plus);
    if (size > this.#end - at) return false;

    this.entryStart = at;
    this.nameStart = at + head;
    this.nameEnd = this.nameStart + nameLength;
    for (let i = this.nameStart; i < this.nameEnd; i++) {
      const byte = this.#bytes[i];
      if (byte === 0 || byte === SLASH) throw malformed('dirent: a name with a slash or NUL');
    }
    this.ino = roundedU64At(this.#data, dirent);
    this.next = roundedU64At(this.#data, dirent + 8);
    if (this.next === 0 || this.next > Number.MAX_SAFE_INTEGER) throw malformed(`dirent: off ${this.next}`);
    this.type = (this.#data.getUint32(dirent + 20, true) & 0xf) << 12;
    this.#at = at + size;
    return true;
  }
}
