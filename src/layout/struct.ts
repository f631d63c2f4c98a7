import { assert } from '../base/assert.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { FsError } from '../base/fs-error.ts';
import { decodeUtf8, encodeUtf8 } from './utf8.ts';

// One table per foreign struct. Invariants, checked when the table is made:
// 1. Fields tile [0, size): no byte belongs to two fields or to none; unused bytes are named by pad().
// 2. No field has the name of a cursor's own member.
// And of every cursor:
// 3. All bytes of the struct at the cursor's place lie inside the bytes given to at(), so no getter reads past them.

interface FieldOf<Kind extends string> {
  readonly kind: Kind;
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

export type NumberField = FieldOf<'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32' | 's64'>;
export type BigField = FieldOf<'u64big'>;
export type BytesField = FieldOf<'bytes'>;
export type TextField = FieldOf<'cstr'>;
export type ArrayField = FieldOf<'u16array' | 'u32array'>;
export type PadField = FieldOf<'pad'>;
export type Field = NumberField | BigField | BytesField | TextField | ArrayField | PadField;
export type Fields = { readonly [name: string]: Field };

export const u8 = (offset: number): NumberField => ({ kind: 'u8', offset, length: 1 });
export const u16 = (offset: number): NumberField => ({ kind: 'u16', offset, length: 2 });
export const u32 = (offset: number): NumberField => ({ kind: 'u32', offset, length: 4 });
export const s8 = (offset: number): NumberField => ({ kind: 's8', offset, length: 1 });
export const s16 = (offset: number): NumberField => ({ kind: 's16', offset, length: 2 });
export const s32 = (offset: number): NumberField => ({ kind: 's32', offset, length: 4 });
/** A size or position. Errors: EOVERFLOW where the bytes hold more than 2^53 - 1. */
export const u64 = (offset: number): NumberField => ({ kind: 'u64', offset, length: 8 });
/** Errors: EOVERFLOW outside -(2^53 - 1) .. 2^53 - 1. */
export const s64 = (offset: number): NumberField => ({ kind: 's64', offset, length: 8 });
/** An opaque 64-bit value, as bigint. */
export const u64big = (offset: number): BigField => ({ kind: 'u64big', offset, length: 8 });
/** Raw bytes; what is not valid UTF-8 by contract (file names) is read with this, not with cstr. */
export const bytes = (offset: number, length: number): BytesField => ({ kind: 'bytes', offset, length });
/** UTF-8 text up to the first NUL, or all `length` bytes; written with NULs up to the end. */
export const cstr = (offset: number, length: number): TextField => ({ kind: 'cstr', offset, length });
export const u16array = (offset: number, count: number): ArrayField => ({ kind: 'u16array', offset, length: count * 2 });
export const u32array = (offset: number, count: number): ArrayField => ({ kind: 'u32array', offset, length: count * 4 });
/** Bytes without a name: reserved, or alignment. */
export const pad = (offset: number, length: number): PadField => ({ kind: 'pad', offset, length });

/** The elements of an array field at the cursor's place; moves with the cursor. */
export interface NumberArray {
  readonly length: number;
  get(index: number): number;
  set(index: number, value: number): void;
  /** A copy. */
  toArray(): number[];
}

type ViewValue<F> = F extends NumberField
  ? number
  : F extends BigField
    ? bigint
    : F extends TextField
      ? string
      : F extends BytesField
        ? Uint8Array
        : NumberArray;
type CopyValue<F> = F extends ArrayField ? number[] : ViewValue<F>;
type InputValue<F> = F extends ArrayField ? ArrayLike<number> : ViewValue<F>;
type Named<F> = { [K in keyof F]: F[K] extends PadField ? never : K }[keyof F];

/**
 * A cursor on one struct in memory: `at` moves it, a property per field reads and writes there.
 *
 * Shape:  a `bytes` property is a view on the memory, so copy what must outlive the memory; assigning copies in, whole length.
 * Errors: EOVERFLOW for assigning a number that the field cannot hold (flags built with bit operators need `>>> 0`), or a text too long.
 */
export type View<F extends Fields> = {
  /** Moves to `offset` in `bytes`. Errors: EUCLEAN (or the struct's own) if the struct does not fit there; the cursor stays. */
  at(bytes: Uint8Array, offset?: number): View<F>;
} & { -readonly [K in Named<F>]: ViewValue<F[K]> };

/** The fields of a struct `S` as plain values. */
export type Values<S> = S extends Struct<infer F> ? { [K in Named<F>]: CopyValue<F[K]> } : never;

export interface StructOptions {
  endian?: 'little' | 'big';
  /** The error for bytes that are too short: EUCLEAN for an image, EPROTO for a peer. */
  malformed?: ErrnoCode;
}

export interface Struct<F extends Fields> {
  /** The C name. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: F;
  /** A new cursor, nowhere yet. Make one per walk and move it. */
  view(): View<F>;
  offsetOf(field: keyof F): number;
  /** A copy of all fields at `offset`. Errors: as View.at. */
  read(bytes: Uint8Array, offset?: number): { [K in Named<F>]: CopyValue<F[K]> };
  /** Writes the whole struct at `offset`: a field that is not given, and every pad, becomes zeros. Errors: as View. */
  write(bytes: Uint8Array, offset: number, fields: { readonly [K in Named<F>]?: InputValue<F[K]> }): void;
}

const NOWHERE = new ArrayBuffer(0);
const NOTHING = new DataView(NOWHERE);

/**
 * Where a cursor stands. One class for the cursors of all structs: code that serves many shapes of objects is slow, and here that is
 * only the one load of `viewPlace`. Measured: 3.5 ns for a move and four fields, against 12 ns with the state on the cursor itself.
 */
class Place {
  bytes: Uint8Array | undefined = undefined;
  buffer: ArrayBufferLike = NOWHERE;
  data: DataView = NOTHING;
  /** Position in `buffer` of the bytes, and of the struct. */
  start = 0;
  base = 0;
  /** The largest offset in `bytes` at which the struct fits. */
  room = -1;
  arrays: Record<string, NumberArray> | undefined = undefined;

  /** Stands in other bytes from now on. */
  enter(bytes: Uint8Array, size: number): void {
    this.bytes = bytes;
    this.start = bytes.byteOffset;
    this.room = bytes.length - size;
    if (bytes.buffer !== this.buffer) {
      this.buffer = bytes.buffer;
      this.data = new DataView(bytes.buffer);
    }
  }
}

// The cursor as its accessors see it. Field names of C are never in camelCase, so they do not meet this one.
interface Cursor {
  readonly viewPlace: Place;
}

const RESERVED = new Set(['at', 'viewPlace', 'constructor', '__proto__']);

/**
 * Makes the table of one struct.
 *
 * Shape:  `fields` in any order, little-endian unless the options say big; alignment is not asked for, C's own padding is named.
 * Errors: AssertionError at load if the fields do not tile the size.
 */
export function struct<const F extends Fields>(name: string, size: number, fields: F, options: StructOptions = {}): Struct<F> {
  checkTiling(name, size, fields);
  const little = options.endian !== 'big';
  const malformed = options.malformed ?? 'EUCLEAN';
  const named = Object.entries(fields).filter((entry): entry is [string, Exclude<Field, PadField>] => entry[1].kind !== 'pad');

  class StructView implements Cursor {
    readonly viewPlace = new Place();

    at(bytes: Uint8Array, offset = 0): this {
      const place = this.viewPlace;
      // `buffer` and `length` of an array are calls, so they are asked once per array.
      const room = bytes === place.bytes ? place.room : bytes.length - size;
      if (!(Number.isSafeInteger(offset) && offset >= 0 && offset <= room)) {
        throw new FsError(malformed, 'read', { detail: `${name} of ${size} bytes at ${offset}, there are ${bytes.length}` });
      }
      if (bytes !== place.bytes) place.enter(bytes, size);
      place.base = place.start + offset;
      return this;
    }
  }

  for (const [field, spec] of named) {
    const where = `${name}.${field}`;
    const accessor = isArray(spec) ? arrayAccessor(field, spec, little, where) : accessorOf(spec, little, where);
    Object.defineProperty(StructView.prototype, field, { ...accessor, enumerable: true });
  }

  type Untyped = { at(bytes: Uint8Array, offset: number): void } & Record<string, unknown>;
  const own = new StructView() as unknown as Untyped;

  return {
    name,
    size,
    fields,
    view: () => new StructView() as unknown as View<F>,
    offsetOf: (field) => (fields[field] as Field).offset,
    read(bytes, offset = 0) {
      own.at(bytes, offset);
      const copy: Record<string, unknown> = {};
      for (const [field, spec] of named) {
        const value = own[field];
        copy[field] = spec.kind === 'bytes' ? (value as Uint8Array).slice() : isArray(spec) ? (value as NumberArray).toArray() : value;
      }
      return copy as never;
    },
    write(bytes, offset, values) {
      own.at(bytes, offset);
      bytes.fill(0, offset, offset + size);
      for (const [field, spec] of named) {
        const value = (values as Record<string, unknown>)[field];
        if (value === undefined) continue;
        if (!isArray(spec)) {
          own[field] = value;
          continue;
        }
        const elements = value as ArrayLike<number>;
        const array = own[field] as NumberArray;
        assert(elements.length === array.length, `${name}.${field}: ${elements.length} elements for ${array.length}`);
        for (let i = 0; i < array.length; i++) array.set(i, elements[i] as number);
      }
    },
  };
}

function isArray(field: Field): field is ArrayField {
  return field.kind === 'u16array' || field.kind === 'u32array';
}

function checkTiling(name: string, size: number, fields: Fields): void {
  let end = 0;
  for (const [field, { offset, length }] of Object.entries(fields).sort(([, a], [, b]) => a.offset - b.offset)) {
    assert(!RESERVED.has(field), `struct ${name}: field name '${field}' is taken by the cursor`);
    assert(
      Number.isInteger(offset) && Number.isInteger(length) && length > 0,
      `struct ${name}: ${field} has offset ${offset}, length ${length}`,
    );
    assert(offset >= end, `struct ${name}: ${field} at ${offset} overlaps the field that ends at ${end}`);
    assert(offset === end, `struct ${name}: nothing covers [${end}, ${offset}) before ${field}`);
    end = offset + length;
  }
  assert(end === size, `struct ${name}: fields end at ${end}, size is ${size}`);
}

type Accessor = { get(this: Cursor): unknown; set(this: Cursor, value: never): void };

// One pair of closures per field, made once; the offset is constant in them. A hot loop inlines them to a plain DataView access.
function accessorOf(field: Exclude<Field, ArrayField | PadField>, little: boolean, where: string): Accessor {
  const at = field.offset;
  const length = field.length;
  const low = little ? at : at + 4;
  const high = little ? at + 4 : at;
  switch (field.kind) {
    case 'u8':
      return {
        get() {
          return this.viewPlace.data.getUint8(this.viewPlace.base + at);
        },
        set(value: number) {
          this.viewPlace.data.setUint8(this.viewPlace.base + at, checked(value, 0, 0xff, where));
        },
      };
    case 's8':
      return {
        get() {
          return this.viewPlace.data.getInt8(this.viewPlace.base + at);
        },
        set(value: number) {
          this.viewPlace.data.setInt8(this.viewPlace.base + at, checked(value, -0x80, 0x7f, where));
        },
      };
    case 'u16':
      return {
        get() {
          return this.viewPlace.data.getUint16(this.viewPlace.base + at, little);
        },
        set(value: number) {
          this.viewPlace.data.setUint16(this.viewPlace.base + at, checked(value, 0, 0xffff, where), little);
        },
      };
    case 's16':
      return {
        get() {
          return this.viewPlace.data.getInt16(this.viewPlace.base + at, little);
        },
        set(value: number) {
          this.viewPlace.data.setInt16(this.viewPlace.base + at, checked(value, -0x8000, 0x7fff, where), little);
        },
      };
    case 'u32':
      return {
        get() {
          return this.viewPlace.data.getUint32(this.viewPlace.base + at, little);
        },
        set(value: number) {
          this.viewPlace.data.setUint32(this.viewPlace.base + at, checked(value, 0, 0xffffffff, where), little);
        },
      };
    case 's32':
      return {
        get() {
          return this.viewPlace.data.getInt32(this.viewPlace.base + at, little);
        },
        set(value: number) {
          this.viewPlace.data.setInt32(this.viewPlace.base + at, checked(value, -0x80000000, 0x7fffffff, where), little);
        },
      };
    case 'u64':
      return {
        get() {
          const value =
            this.viewPlace.data.getUint32(this.viewPlace.base + high, little) * 2 ** 32 +
            this.viewPlace.data.getUint32(this.viewPlace.base + low, little);
          if (value > Number.MAX_SAFE_INTEGER)
            throw overflow('read', where, this.viewPlace.data.getBigUint64(this.viewPlace.base + at, little));
          return value;
        },
        set(value: number) {
          checked(value, 0, Number.MAX_SAFE_INTEGER, where);
          this.viewPlace.data.setUint32(this.viewPlace.base + high, Math.floor(value / 2 ** 32), little);
          this.viewPlace.data.setUint32(this.viewPlace.base + low, value % 2 ** 32, little);
        },
      };
    case 's64':
      return {
        get() {
          const value =
            this.viewPlace.data.getInt32(this.viewPlace.base + high, little) * 2 ** 32 +
            this.viewPlace.data.getUint32(this.viewPlace.base + low, little);
          if (!Number.isSafeInteger(value))
            throw overflow('read', where, this.viewPlace.data.getBigInt64(this.viewPlace.base + at, little));
          return value;
        },
        set(value: number) {
          checked(value, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, where);
          const upper = Math.floor(value / 2 ** 32);
          this.viewPlace.data.setInt32(this.viewPlace.base + high, upper, little);
          this.viewPlace.data.setUint32(this.viewPlace.base + low, value - upper * 2 ** 32, little);
        },
      };
    case 'u64big':
      return {
        get() {
          return this.viewPlace.data.getBigUint64(this.viewPlace.base + at, little);
        },
        set(value: bigint) {
          if (BigInt.asUintN(64, value) !== value) throw overflow('write', where, value);
          this.viewPlace.data.setBigUint64(this.viewPlace.base + at, value, little);
        },
      };
    case 'cstr':
      return {
        get() {
          const raw = new Uint8Array(this.viewPlace.buffer, this.viewPlace.base + at, length);
          const end = raw.indexOf(0);
          return decodeUtf8(raw, 0, end < 0 ? length : end);
        },
        set(value: string) {
          const encoded = encodeUtf8(value);
          if (encoded.length > length) throw overflow('write', where, value);
          const raw = new Uint8Array(this.viewPlace.buffer, this.viewPlace.base + at, length);
          raw.fill(0, encoded.length);
          raw.set(encoded);
        },
      };
    case 'bytes':
      return {
        get() {
          return new Uint8Array(this.viewPlace.buffer, this.viewPlace.base + at, length);
        },
        set(value: Uint8Array) {
          assert(value.length === length, `${where}: ${value.length} bytes for ${length}`);
          new Uint8Array(this.viewPlace.buffer, this.viewPlace.base + at, length).set(value);
        },
      };
  }
}

// The element object is made once per cursor and moves with it.
function arrayAccessor(name: string, field: ArrayField, little: boolean, where: string): Accessor {
  const width = field.kind === 'u16array' ? 2 : 4;
  const count = field.length / width;

  class Elements implements NumberArray {
    readonly #place: Place;
    readonly length = count;

    constructor(place: Place) {
      this.#place = place;
    }

    get(index: number): number {
      assert(index >= 0 && index < count, `${where}[${index}] of ${count}`);
      const at = this.#place.base + field.offset + index * width;
      return width === 2 ? this.#place.data.getUint16(at, little) : this.#place.data.getUint32(at, little);
    }

    set(index: number, value: number): void {
      assert(index >= 0 && index < count, `${where}[${index}] of ${count}`);
      const at = this.#place.base + field.offset + index * width;
      if (width === 2) this.#place.data.setUint16(at, checked(value, 0, 0xffff, where), little);
      else this.#place.data.setUint32(at, checked(value, 0, 0xffffffff, where), little);
    }

    toArray(): number[] {
      return Array.from({ length: count }, (_, index) => this.get(index));
    }
  }

  return {
    get() {
      const place = this.viewPlace;
      place.arrays ??= {};
      return (place.arrays[name] ??= new Elements(place));
    },
    set() {
      assert(false, `${where}: set elements, or use write()`);
    },
  };
}

function checked(value: number, min: number, max: number, where: string): number {
  if (!(Number.isInteger(value) && value >= min && value <= max)) throw overflow('write', where, value);
  return value;
}

function overflow(syscall: string, where: string, value: unknown): FsError {
  return new FsError('EOVERFLOW', syscall, { detail: `${where} = ${String(value)}` });
}
