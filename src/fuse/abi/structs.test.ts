import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Field } from '../../layout/struct.ts';
import * as flags from './flags.ts';
import * as initFlags from './init-flags.ts';
import * as notify from './notify.ts';
import * as opcodes from './opcodes.ts';
import type { WireForm } from './structs.ts';
import * as tables from './structs.ts';

type Table = WireForm & { fields: { [name: string]: Field } };
const structs = Object.values(tables).filter((value) => typeof value === 'object') as unknown as Table[];

const constants = new Map<string, number>();
for (const exported of [flags, initFlags, notify, opcodes]) {
  for (const [name, value] of Object.entries(exported)) if (typeof value === 'number') constants.set(name, value);
}

// What the header says, after the preprocessor and before the compiler.
interface Header {
  minor: number;
  /** Field names of each struct. */
  structs: Map<string, string[]>;
  enumerators: Set<string>;
  macros: Set<string>;
}

function readHeader(): Header | string {
  if (spawnSync('gcc', ['--version']).status !== 0) return 'no C compiler here';
  const source = '#include <linux/fuse.h>\n#include <sys/ioctl.h>\n';
  const preprocess = (option: string) => spawnSync('gcc', [option, '-E', '-P', '-'], { input: source, encoding: 'utf8' });
  const plain = preprocess('-DNOTHING');
  if (plain.status !== 0) return 'no linux/fuse.h here';

  const header: Header = { minor: 0, structs: new Map(), enumerators: new Set(), macros: new Set() };
  for (const [, name, body] of plain.stdout.matchAll(/struct ((?:fuse|cuse)_\w+) \{([^}]*)\}/g)) {
    header.structs.set(
      name as string,
      [...(body as string).matchAll(/(\w+)(?:\[[^\]]*\])?;/g)].map((match) => match[1] as string),
    );
  }
  for (const [, body] of plain.stdout.matchAll(/enum fuse_\w+ \{([^}]*)\}/g)) {
    for (const [name] of (body as string).matchAll(/\b(?:FUSE|CUSE)_\w+/g)) header.enumerators.add(name);
  }
  for (const [, name, value] of preprocess('-dM').stdout.matchAll(/^#define (\w+)(?:\([^)]*\))? ?(.*)$/gm)) {
    if (name === 'FUSE_KERNEL_MINOR_VERSION') header.minor = Number(value);
    if (/^(?:FUSE|CUSE|FATTR|FOPEN)_/.test(name as string)) header.macros.add(name as string);
  }
  return header;
}

/** Runs a C program that prints one number per line, and returns them by name. */
function evaluate(expressions: ReadonlyMap<string, string>): Map<string, number> {
  const dir = mkdtempSync(join(tmpdir(), 'iomap-fuse-abi-'));
  try {
    const lines = [...expressions].map(([name, value]) => `printf("%s %lld\\n", "${name}", (long long)(${value}));`);
    const includes = ['linux/fuse.h', 'stddef.h', 'stdio.h', 'sys/ioctl.h'].map((file) => `#include <${file}>\n`).join('');
    writeFileSync(join(dir, 'abi.c'), `${includes}int main(void) {\n${lines.join('\n')}\n}\n`);
    execFileSync('gcc', ['-o', join(dir, 'abi'), join(dir, 'abi.c')]);
    const output = execFileSync(join(dir, 'abi'), { encoding: 'utf8' }).trim().split('\n');
    return new Map(output.map((line) => line.split(' ') as [string, string]).map(([name, value]) => [name, Number(value)]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const header = readHeader();
const skip = typeof header === 'string' ? header : false;

// The name of a dirent is not a field here: it has no size.
const FLEXIBLE = new Set(['name', 'groups']);

test('sizes and offsets of structs agree with those of a C compiler', { skip }, (t) => {
  if (typeof header === 'string') return;
  const expressions = new Map<string, string>();
  const unchecked: string[] = [];
  for (const table of structs) {
    const known = header.structs.get(table.name);
    if (known === undefined) {
      assert.ok(table.since >= header.minor, `struct ${table.name} of 7.${table.since} is not in the header of 7.${header.minor}`);
      unchecked.push(table.name);
      continue;
    }
    expressions.set(table.name, `sizeof(struct ${table.name})`);
    for (const field of Object.keys(table.fields)) {
      if (!known.includes(field)) {
        unchecked.push(`${table.name}.${field}`);
        continue;
      }
      expressions.set(`${table.name}.${field}`, `offsetof(struct ${table.name}, ${field})`);
      expressions.set(`${table.name}.${field}+`, `sizeof(((struct ${table.name} *)0)->${field})`);
    }
  }
  const inC = evaluate(expressions);
  for (const table of structs) {
    if (!inC.has(table.name)) continue;
    assert.equal(table.size, inC.get(table.name), `sizeof(struct ${table.name})`);
    for (const [field, { kind, offset, length }] of Object.entries(table.fields)) {
      const name = `${table.name}.${field}`;
      const offsetInC = inC.get(name);
      if (offsetInC === undefined) continue;
      const lengthInC = inC.get(`${name}+`) as number;
      // An older header has more bytes left over: newer fields came out of their beginning.
      if (kind === 'pad' && offset > offsetInC) assert.equal(offset + length, offsetInC + lengthInC, name);
      else assert.deepEqual([offset, length], [offsetInC, lengthInC], name);
    }
  }
  t.diagnostic(`${inC.size} numbers agree with linux/fuse.h 7.${header.minor}; not in that header: ${unchecked.join(', ') || 'nothing'}`);
});

test('constants agree with those of a C compiler', { skip }, (t) => {
  if (typeof header === 'string') return;
  const expressions = new Map<string, string>();
  const unchecked: string[] = [];
  for (const name of constants.keys()) {
    // The header gives it in pages.
    const isThere = (header.macros.has(name) || header.enumerators.has(name)) && name !== 'FUSE_REMOVEMAPPING_MAX_ENTRY';
    if (isThere) expressions.set(name, name);
    else unchecked.push(name);
  }
  for (const [name, value] of evaluate(expressions)) {
    if (name === 'FUSE_KERNEL_MINOR_VERSION') continue;
    // 1 << 31 is negative in C.
    assert.equal(constants.get(name), value < 0 ? value + 2 ** 32 : value, name);
  }
  t.diagnostic(`${expressions.size} numbers agree with linux/fuse.h 7.${header.minor}; not in that header: ${unchecked.join(', ')}`);
});

test('nothing of the header is missing in the tables', {
  skip:
    skip || (typeof header === 'object' && header.minor > flags.FUSE_KERNEL_MINOR_VERSION ? 'the header is newer than the tables' : false),
}, () => {
  if (typeof header === 'string') return;
  const missing: string[] = [];
  // The first name of a flag, sizes that `compat` has, macros that are functions, and the end of a list.
  const elsewhere = /^FUSE_(?:COMPAT_\w+|WRITE_KILL_PRIV|REC_ALIGN|NAME_OFFSET\w*|DIRENT\w*|NOTIFY_CODE_MAX|DIRECT_IO_RELAX)$/;
  for (const [name, fields] of header.structs) {
    const table = structs.find((one) => one.name === name);
    if (table === undefined) missing.push(name);
    // A field that used to be padding keeps its older name in an older header.
    else
      for (const field of fields)
        if (!Object.hasOwn(table.fields, field) && !/^(?:padding|unused)/.test(field) && !FLEXIBLE.has(field))
          missing.push(`${name}.${field}`);
  }
  for (const name of [...header.enumerators, ...header.macros]) if (!constants.has(name) && !elsewhere.test(name)) missing.push(name);
  assert.deepEqual(missing, []);
});

test('older forms of a struct are shorter, and end between two fields', () => {
  for (const table of structs) {
    let { size } = table;
    let before = flags.FUSE_KERNEL_MINOR_VERSION + 1;
    for (const form of table.compat) {
      assert.ok(form.size < size && form.before < before, table.name);
      const borders = Object.values(table.fields).map((field) => field.offset);
      // fuse_attr ends in the one that contains it.
      if (!('attr' in table.fields || 'st' in table.fields)) assert.ok(borders.includes(form.size), `${table.name} of ${form.size}`);
      ({ size, before } = form);
    }
    assert.equal(tables.sizeAt(table, flags.FUSE_KERNEL_MINOR_VERSION), table.size);
  }
  assert.deepEqual(
    [3, 4, 8, 9].map((minor) => tables.sizeAt(tables.fuse_statfs_out, minor)),
    [48, 80, 80, 80],
  );
  assert.deepEqual(
    [4, 5, 22, 23].map((minor) => tables.sizeAt(tables.fuse_init_out, minor)),
    [8, 24, 24, 64],
  );
});

test('every flag of INIT has a row at its bit, under the name of its mask', () => {
  for (const [bit, row] of initFlags.INIT_FLAGS.entries()) {
    assert.equal(row.bit, bit);
    assert.equal(constants.get(row.name), 2 ** bit, row.name);
  }
  const set = initFlags.initFlagsOf(initFlags.FUSE_ASYNC_READ, initFlags.FUSE_PASSTHROUGH, 2 ** 63);
  assert.deepEqual(set, { flags: 0x40000001, flags2: 0x80000020 });
  assert.deepEqual(initFlags.initFlagNames(set), ['FUSE_ASYNC_READ', 'FUSE_INIT_EXT', 'FUSE_PASSTHROUGH', 'bit 63']);
  assert.ok(!initFlags.hasInitFlag(set, initFlags.FUSE_POSIX_LOCKS) && !initFlags.hasInitFlag(set, initFlags.FUSE_HAS_RESEND));
});

test('every operation and notification has a row under its own name', () => {
  for (const row of opcodes.OPERATIONS) {
    assert.equal(constants.get(row.name), row.opcode, row.name);
    assert.equal(opcodes.operationOf(row.opcode), row);
    assert.ok(row.since <= flags.FUSE_KERNEL_MINOR_VERSION, row.name);
    for (const form of [...row.out, ...(row.in ? [row.in] : [])]) {
      // A struct of an operation is not younger, unless the operation began without it.
      assert.ok(form.since <= Math.max(row.since, 9), `${form.name} of ${row.name}`);
    }
  }
  for (const [index, row] of notify.NOTIFICATIONS.entries()) {
    assert.equal(row.code, index + 1);
    assert.equal(constants.get(row.name), row.code, row.name);
  }
  assert.equal(opcodes.operationOf(7), undefined);
  assert.equal(opcodes.opcodeName(54), 'opcode 54');
  const sticky = opcodes.OPERATIONS.filter((row) => row.sticky).map((row) => row.name.replace('FUSE_', ''));
  assert.deepEqual(
    sticky.join(' '),
    'LINK OPEN FSYNC SETXATTR GETXATTR LISTXATTR REMOVEXATTR FLUSH OPENDIR FSYNCDIR ACCESS CREATE INTERRUPT BMAP POLL FALLOCATE RENAME2 LSEEK ' +
      'COPY_FILE_RANGE SYNCFS TMPFILE STATX COPY_FILE_RANGE_64',
  );
  const counts = opcodes.OPERATIONS.filter((row) => row.lookups === 1).map((row) => row.name.replace('FUSE_', ''));
  assert.deepEqual(counts.join(' '), 'LOOKUP SYMLINK MKNOD MKDIR LINK CREATE TMPFILE');
  assert.deepEqual(
    opcodes.OPERATIONS.filter((row) => !row.replies).map((row) => row.opcode),
    [2, 36, 41, 42],
  );
});
