import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hex } from '../../../test/support/fuse-samples.ts';
import { forEachSeed } from '../../../test/support/seeds.ts';
import { FsError } from '../../base/fs-error.ts';
import { takeStatx, validMs, validNsec, validSec, type WireAttr, type WireEntry } from './attr.ts';
import { DirentReader, DirentWriter, direntSize } from './dirents.ts';
import { FOPEN_KEEP_CACHE, FUSE_EXPIRE_ONLY, FUSE_KERNEL_MINOR_VERSION } from './flags.ts';
import { NotifyEncoder } from './notify.ts';
import * as op from './opcodes.ts';
import { Reply } from './reply.ts';
import { IOCTL_DATA, REPLY_BODY, ReplyEncoder } from './reply-encoder.ts';
import { fuse_notify_delete_out, fuse_notify_inval_entry_out, fuse_notify_inval_inode_out, fuse_notify_retrieve_out } from './structs.ts';
import { clampedLength, lockOffset, lockWord } from './words.ts';

const ATTR: WireAttr = {
  ino: 2 ** 40 + 7,
  size: 2 ** 50,
  blocks: 8,
  blksize: 4096,
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 4_000_000_000,
  rdev: 0x1234_5678,
  atime: -1,
  atimeNsec: 999_999_999,
  mtime: 1_700_000_000,
  mtimeNsec: 1,
  ctime: 2 ** 33,
  ctimeNsec: 2,
  btime: 5,
  btimeNsec: 6,
};
const ENTRY: WireEntry = { node: 2 ** 33 + 1, generation: 3, attr: ATTR, entryValidMs: 1500, attrValidMs: Number.POSITIVE_INFINITY };
const bytesOf = (text: string) => new TextEncoder().encode(text);
const zeroAttr = (): WireAttr => Object.fromEntries(Object.keys(ATTR).map((key) => [key, 0])) as unknown as WireAttr;
const withoutBirth = { ...ATTR, btime: 0, btimeNsec: 0 };

const encoder = new ReplyEncoder(new Uint8Array(8192)).to(10);
const reply = new Reply();
const decode = (length: number, opcode: number, asked = 0) => reply.decode(encoder.bytes, length).decodeBody(opcode, asked);
const dataText = () => new TextDecoder().decode(reply.bytes.subarray(reply.dataStart, reply.dataEnd));

test('a reply without a body, an error, and what no reply may carry', () => {
  assert.equal(encoder.to(6).empty(), 16);
  assert.deepEqual(encoder.bytes.subarray(0, 16), hex('10000000 00000000 0600000000000000'));
  assert.equal(encoder.to(2 ** 32 + 4, true).error(-2), 16);
  assert.deepEqual(encoder.bytes.subarray(0, 16), hex('10000000 feffffff 0400000001000080'));
  reply.decode(encoder.bytes, 16);
  assert.deepEqual([reply.unique, reply.isResend, reply.error, reply.notification], [2 ** 32 + 4, true, -2, undefined]);
  for (const errno of [0, 1, -512, -4095]) {
    encoder.to(10).error(errno);
    assert.equal(reply.decode(encoder.bytes, 16).error, -5);
  }
  encoder.error(-511);
  assert.equal(reply.decode(encoder.bytes, 16).error, -511);
  assert.throws(() => new ReplyEncoder(new Uint8Array(304)).empty(), { code: 'ERR_ASSERTION' }, 'it has no addressee');
  assert.throws(() => new ReplyEncoder(new Uint8Array(100)), { code: 'ERR_ASSERTION' });
});

test('entries and attributes arrive as they were given', () => {
  const into = zeroAttr();
  encoder.bytes.fill(0xff);
  decode(encoder.entry(ENTRY, 2), op.FUSE_LOOKUP);
  assert.deepEqual([reply.entry_out.nodeid, reply.entry_out.generation], [ENTRY.node, 3]);
  assert.deepEqual([reply.entry_out.entry_valid, reply.entry_out.entry_valid_nsec], [1, 500_000_000]);
  assert.equal(reply.takeEntryAttr(into), Number.POSITIVE_INFINITY);
  assert.deepEqual(into, withoutBirth);

  const created = encoder.create(ENTRY, 0, 77, FOPEN_KEEP_CACHE, -1);
  assert.equal(created, 16 + 144);
  decode(created, op.FUSE_CREATE);
  assert.deepEqual(
    [reply.entry_out.nodeid, reply.open_out.fh, reply.open_out.open_flags, reply.open_out.backing_id],
    [ENTRY.node, 77, 2, -1],
  );

  encoder.bytes.fill(0xff);
  decode(encoder.attr(ATTR, 1001), op.FUSE_GETATTR);
  assert.deepEqual([reply.takeAttrOut(into), into], [1001, withoutBirth]);

  decode(encoder.negativeEntry(2000), op.FUSE_LOOKUP);
  assert.deepEqual([reply.entry_out.nodeid, reply.entry_out.entry_valid, reply.takeEntryAttr(into)], [0, 2, 0]);

  encoder.bytes.fill(0xff);
  const statx = encoder.statx({ ...ATTR, rdev: 0xabc1_2345 }, 0, 0xfff);
  assert.equal(statx, 16 + 288);
  decode(statx, op.FUSE_STATX);
  const all = zeroAttr();
  assert.equal(takeStatx(reply.bytes, REPLY_BODY + 32, all), 0xfff);
  assert.deepEqual(all, { ...ATTR, rdev: 0xabc1_2345 });

  assert.throws(() => encoder.attr({ ...ATTR, rdev: 2 ** 32 }, 0), { code: 'EOVERFLOW' });
});

test('the shorter replies', () => {
  decode(encoder.open(2 ** 53 - 1, 0x42, 9), op.FUSE_OPEN);
  assert.deepEqual([reply.open_out.fh, reply.open_out.open_flags, reply.open_out.backing_id], [2 ** 53 - 1, 0x42, 9]);
  decode(encoder.write(131072), op.FUSE_WRITE);
  assert.equal(reply.write_out.size, 131072);
  decode(encoder.write(5), op.FUSE_COPY_FILE_RANGE);
  decode(encoder.copied(2 ** 33), op.FUSE_COPY_FILE_RANGE_64);
  assert.equal(reply.copy_file_range_out.bytes_copied, 2 ** 33);
  decode(encoder.xattrSize(65536), op.FUSE_GETXATTR);
  assert.equal(reply.getxattr_out.size, 65536);
  decode(encoder.bmap(7), op.FUSE_BMAP);
  assert.equal(reply.bmap_out.block, 7);
  decode(encoder.poll(0x145), op.FUSE_POLL);
  assert.equal(reply.poll_out.revents, 0x145);
  decode(encoder.lseek(2 ** 44), op.FUSE_LSEEK);
  assert.equal(reply.lseek_out.offset, 2 ** 44);
  decode(encoder.empty(), op.FUSE_FLUSH);
  assert.equal(encoder.statfs({ bsize: 4096, blocks: 2 ** 40, bfree: 3, bavail: 2, files: 9, ffree: 8, namelen: 255 }), 96);
  assert.deepEqual(
    encoder.bytes.subarray(16, 96),
    hex(
      `0000000000010000 0300000000000000 0200000000000000 0900000000000000 0800000000000000 00100000 ff000000 00100000 ${'00'.repeat(28)}`,
    ),
  );
  encoder.lock({ type: 1, start: 5, end: Number.POSITIVE_INFINITY, pid: -1 });
  assert.deepEqual(encoder.bytes.subarray(16, 40), hex('0500000000000000 ffffffffffffff7f 01000000 ffffffff'));
  assert.deepEqual([lockOffset(0x7fff_ffff_ffff_ffffn), lockOffset(2n ** 53n), lockOffset(5n), lockWord(5)], [Infinity, Infinity, 5, 5n]);
  assert.deepEqual([clampedLength(2n ** 64n - 1n), clampedLength(9n)], [2 ** 53 - 1, 9]);
});

test('data: as much as was asked for, not more', () => {
  encoder.bytes.set(bytesOf('hello'), REPLY_BODY);
  decode(encoder.data(5), op.FUSE_READ, 4096);
  assert.equal(dataText(), 'hello');
  assert.throws(() => decode(encoder.data(5), op.FUSE_READ, 4), { code: 'EPROTO', message: /5 bytes of data, 4 were asked for/ });
  decode(encoder.data(5), op.FUSE_GETXATTR, 5);
  assert.equal(dataText(), 'hello');
  decode(encoder.data(0), op.FUSE_LISTXATTR, 5);
  encoder.bytes.set(bytesOf('out'), IOCTL_DATA);
  decode(encoder.ioctl(-3, 3), op.FUSE_IOCTL, 16);
  assert.deepEqual([reply.ioctl_out.result, dataText()], [-3, 'out']);
  assert.throws(() => encoder.data(8192), { code: 'ERR_ASSERTION' });
});

test('INIT is answered in the form of the agreed minor', () => {
  const init = { major: 7, max_readahead: 131072, flags: 0x40000001, flags2: 0x20, max_background: 64, max_write: 1 << 20, max_pages: 256 };
  for (const [minor, length] of [
    [4, 8],
    [22, 24],
    [23, 64],
    [45, 64],
  ] as const) {
    encoder.bytes.fill(0xff);
    assert.equal(encoder.init({ ...init, minor }), 16 + length);
    decode(16 + length, op.FUSE_INIT);
    const { max_write, max_pages, flags2 } = reply.init_out;
    assert.deepEqual(
      [reply.init_out.minor, max_write, max_pages, flags2],
      [minor, length > 8 ? 1 << 20 : 0, ...(length > 24 ? [256, 0x20] : [0, 0])],
    );
  }
  assert.throws(() => decode(encoder.init({ ...init, minor: 45 }) && 16 + 72, op.FUSE_INIT), { code: 'EPROTO' });
});

test('a peer of an old minor gets and sends shorter structs', () => {
  encoder.agree(8);
  reply.agree(8);
  assert.deepEqual([encoder.entry(ENTRY), encoder.attr(ATTR, 0), encoder.create(ENTRY, 0, 5, 0)], [16 + 120, 16 + 96, 16 + 136]);
  decode(16 + 136, op.FUSE_CREATE);
  const into = zeroAttr();
  reply.takeEntryAttr(into);
  assert.deepEqual([into, reply.open_out.fh], [{ ...withoutBirth, blksize: 0 }, 5]);
  encoder.agree(FUSE_KERNEL_MINOR_VERSION);
  reply.agree(FUSE_KERNEL_MINOR_VERSION);
});

test('replies of a hostile server are refused', () => {
  const raw = (text: string) => () => reply.decode(hex(text));
  assert.throws(raw('0f000000 00000000 02000000000000'), { code: 'EPROTO' });
  assert.throws(raw('11000000 00000000 0200000000000000'), { code: 'EPROTO', message: /len 17/ });
  assert.throws(raw('10000000 01000000 0200000000000000'), { code: 'EPROTO', message: /error 1/ });
  assert.throws(raw('10000000 00feffff 0200000000000000'), { code: 'EPROTO', message: /error -512/ });
  assert.throws(raw('14000000 fbffffff 0200000000000000 00000000'), { code: 'EPROTO', message: /4 bytes/ });
  assert.throws(raw('10000000 00000000 02000000000000 40'), { code: 'EPROTO' });
  assert.throws(raw('10000000 00000000 0000000000000000'), { code: 'EPROTO', message: /notification 0/ });
  assert.throws(raw('10000000 0a000000 0000000000000000'), { code: 'EPROTO', message: /notification 10/ });
  assert.throws(() => decode(encoder.empty(), op.FUSE_LOOKUP), { code: 'EPROTO', message: /0 bytes for fuse_entry_out of 128/ });
  assert.throws(() => decode(encoder.create(ENTRY, 0, 1, 0), op.FUSE_LOOKUP), { code: 'EPROTO', message: /16 bytes of data/ });
  assert.throws(() => decode(encoder.entry(ENTRY), op.FUSE_CREATE), { code: 'EPROTO' });
});

test('validity in seconds and nanoseconds, up to for ever', () => {
  for (const ms of [0, 1, 999.5, 1000, 86_400_000]) assert.equal(validMs(validSec(ms), validNsec(ms)), ms);
  assert.deepEqual([validSec(Infinity), validNsec(Infinity), validMs(validSec(Infinity), 0)], [2 ** 32 - 1, 0, Infinity]);
  assert.equal(validSec(1e300), 2 ** 32 - 1);
});

test('names of a directory: packed while there is room, read back', () => {
  const writer = new DirentWriter();
  const reader = new DirentReader();
  const names = ['a', 'eight888', 'ünï', '.', 'x'.repeat(255)];
  for (const plus of [false, true]) {
    encoder.bytes.fill(0xff);
    writer.begin(encoder.bytes, REPLY_BODY, 4096);
    for (const [index, name] of names.entries()) {
      const entry = index % 2 === 0 ? ENTRY : undefined;
      const added = plus
        ? writer.tryAddPlus(entry, 0, index + 2 ** 33, index + 1, 0o040000, bytesOf(name))
        : writer.tryAdd(index + 2 ** 33, index + 1, 0o040000, bytesOf(name));
      assert.ok(added);
    }
    assert.equal(
      writer.length,
      names.reduce((sum, name) => sum + direntSize(bytesOf(name).length, plus), 0),
    );
    decode(encoder.data(writer.length), plus ? op.FUSE_READDIRPLUS : op.FUSE_READDIR, 4096);
    reader.begin(reply.bytes, reply.dataStart, reply.dataEnd, plus, 255);
    for (const [index, name] of names.entries()) {
      assert.ok(reader.step());
      assert.equal(new TextDecoder().decode(reply.bytes.subarray(reader.nameStart, reader.nameEnd)), name);
      assert.deepEqual([reader.ino, reader.next, reader.type], [index + 2 ** 33, index + 1, 0o040000]);
      if (!plus) continue;
      const into = zeroAttr();
      reply.takeEntryAttr(into, reader.entryStart);
      assert.deepEqual([reply.entry_out.nodeid, into], index % 2 === 0 ? [ENTRY.node, withoutBirth] : [0, zeroAttr()]);
    }
    assert.ok(!reader.step());
  }
});

test('a name that does not fit is not packed, and the room is used to the last byte', () => {
  const writer = new DirentWriter();
  const bytes = new Uint8Array(200).fill(0xee);
  writer.begin(bytes, 16, 64);
  assert.ok(writer.tryAdd(1, 1, 0, bytesOf('a')) && writer.tryAdd(2, 2, 0, bytesOf('bbbbbbbb')));
  assert.equal(writer.length, 64);
  assert.ok(!writer.tryAdd(3, 3, 0, bytesOf('c')) && !writer.tryAddPlus(undefined, 0, 3, 3, 0, bytesOf('c')));
  assert.deepEqual(
    bytes.subarray(16, 80),
    hex(
      '0100000000000000 0100000000000000 01000000 00000000 6100000000000000 0200000000000000 0200000000000000 08000000 00000000 6262626262626262',
    ),
  );
  assert.ok([...bytes.subarray(0, 16), ...bytes.subarray(80)].every((byte) => byte === 0xee));
  // The buffer is smaller than what was asked for.
  assert.ok(!writer.begin(bytes, 190, 4096).tryAdd(1, 1, 0, bytesOf('a')));
});

test('records of a hostile server: bad names and positions are refused, an incomplete last one is left', () => {
  const record = (namelen: number, off: number, name: string) => {
    const bytes = new Uint8Array(direntSize(Math.max(namelen < 300 ? namelen : 0, name.length), false));
    const view = new DataView(bytes.buffer);
    view.setBigUint64(8, BigInt(off), true);
    view.setUint32(16, namelen, true);
    bytes.set(bytesOf(name), 24);
    return new DirentReader().begin(bytes, 0, bytes.length, false, 255);
  };
  assert.ok(record(1, 1, 'a').step());
  for (const [namelen, off, name] of [
    [0, 1, ''],
    [256, 1, 'x'.repeat(256)],
    [0xffffffff, 1, 'x'],
    [3, 1, 'a/b'],
    [3, 1, 'a\0b'],
    [1, 0, 'a'],
    [1, 2 ** 60, 'a'],
  ] as const) {
    assert.throws(() => record(namelen, off, name).step(), { code: 'EPROTO' });
  }
  const writer = new DirentWriter();
  const bytes = new Uint8Array(64);
  writer.begin(bytes, 0, 64);
  writer.tryAdd(1, 1, 0, bytesOf('a'));
  writer.tryAdd(2, 2, 0, bytesOf('b'));
  for (const end of [33, 55, 56, 63]) {
    const reader = new DirentReader().begin(bytes, 0, end, false, 255);
    assert.ok(reader.step() && !reader.step());
  }
});

test('notifications arrive as they were given', () => {
  const notify = new NotifyEncoder(new Uint8Array(4096).fill(0xff));
  const send = (length: number) => reply.decode(notify.bytes, length).notification?.name;
  const nameText = () => new TextDecoder().decode(reply.bytes.subarray(reply.nameStart, reply.nameEnd));
  assert.equal(send(notify.poll(9)), 'FUSE_NOTIFY_POLL');
  assert.deepEqual(notify.bytes.subarray(0, 24), hex('18000000 01000000 0000000000000000 0900000000000000'));
  assert.equal(send(notify.invalInode(5, -1, 0)), 'FUSE_NOTIFY_INVAL_INODE');
  assert.deepEqual(fuse_notify_inval_inode_out.read(reply.bytes, REPLY_BODY), { ino: 5, off: -1, len: 0 });
  const inval = notify.invalEntry(1, bytesOf('name'), FUSE_EXPIRE_ONLY);
  assert.deepEqual([inval, send(inval), nameText()], [16 + 16 + 5, 'FUSE_NOTIFY_INVAL_ENTRY', 'name']);
  assert.deepEqual(fuse_notify_inval_entry_out.read(reply.bytes, REPLY_BODY), { parent: 1, namelen: 4, flags: 1 });
  assert.deepEqual([send(notify.delete(1, 2, bytesOf('gone'))), nameText()], ['FUSE_NOTIFY_DELETE', 'gone']);
  assert.deepEqual(fuse_notify_delete_out.read(reply.bytes, REPLY_BODY), { parent: 1, child: 2, namelen: 4 });
  assert.deepEqual([send(notify.store(3, 4096, bytesOf('page'))), dataText()], ['FUSE_NOTIFY_STORE', 'page']);
  assert.equal(send(notify.retrieve(4242, 3, 0, 100)), 'FUSE_NOTIFY_RETRIEVE');
  assert.deepEqual(fuse_notify_retrieve_out.read(reply.bytes, REPLY_BODY), { notify_unique: 4242, nodeid: 3, offset: 0, size: 100 });
  assert.deepEqual([notify.resend(), send(16), notify.incEpoch(), send(16)], [16, 'FUSE_NOTIFY_RESEND', 16, 'FUSE_NOTIFY_INC_EPOCH']);
  const prune = notify.prune([7, 2 ** 40]);
  assert.deepEqual([prune, send(prune), reply.prunedNodeid(0), reply.prunedNodeid(1)], [16 + 16 + 16, 'FUSE_NOTIFY_PRUNE', 7, 2 ** 40]);

  // A length that is not that of the name, a name that ends before, and none.
  const bad = (length: number, at: number, byte: number) => {
    const message = notify.bytes.slice(0, length);
    message[at] = byte;
    assert.throws(() => reply.decode(message), { code: 'EPROTO' });
  };
  for (const [at, byte] of [
    [24, 3],
    [24, 5],
    [34, 0],
    [34, 0x2f],
    [36, 0x41],
    [0, 36],
  ] as const) {
    bad(notify.invalEntry(1, bytesOf('name')), at, byte);
  }
  bad(notify.prune([7]), 16, 2);
  bad(notify.poll(9), 4, 2);
});

test('random and mutated replies are decoded, or refused with EPROTO, and nothing else', () =>
  forEachSeed('fuse replies', 20, (prng) => {
    const notify = new NotifyEncoder(new Uint8Array(4096));
    const writer = new DirentWriter();
    const reader = new DirentReader();
    const makers: [number, () => Uint8Array][] = [
      [op.FUSE_LOOKUP, () => encoder.bytes.slice(0, encoder.entry(ENTRY))],
      [op.FUSE_GETATTR, () => encoder.bytes.slice(0, encoder.attr(ATTR, 1))],
      [op.FUSE_CREATE, () => encoder.bytes.slice(0, encoder.create(ENTRY, 0, 1, 0))],
      [op.FUSE_INIT, () => encoder.bytes.slice(0, encoder.init({ major: 7, minor: 45, max_readahead: 0, flags: 0, max_write: 4096 }))],
      [op.FUSE_GETXATTR, () => encoder.bytes.slice(0, encoder.xattrSize(3))],
      [
        op.FUSE_READDIR,
        () => {
          writer.begin(encoder.bytes, REPLY_BODY, 4096);
          for (let i = 1; i < 5; i++) writer.tryAdd(i, i, 0o100000, bytesOf('n'.repeat(i)));
          return encoder.bytes.slice(0, encoder.data(writer.length));
        },
      ],
      [0, () => notify.bytes.slice(0, notify.invalEntry(1, bytesOf('name')))],
      [0, () => notify.bytes.slice(0, notify.prune([1, 2, 3]))],
    ];
    let decoded = 0;
    for (let step = 0; step < 500; step++) {
      const [opcode, make] = prng.pick(makers);
      let message = make();
      for (let change = prng.below(4); change > 0; change--)
        message[prng.below(message.length)] = prng.pick([0, 0xff, 0x2f, prng.below(256)]);
      if (prng.chance(0.2)) message = message.slice(0, prng.below(message.length + 1));
      if (message.length >= 4 && prng.chance(0.9)) new DataView(message.buffer).setUint32(0, message.length, true);
      try {
        reply.decode(message);
        if (reply.notification === undefined && reply.error === 0 && opcode !== 0) {
          reply.decodeBody(opcode, opcode === op.FUSE_READDIR ? 4096 : 0);
          reader.begin(reply.bytes, reply.dataStart, reply.dataEnd, prng.chance(0.5), 255);
          let records = 0;
          while (opcode === op.FUSE_READDIR && reader.step()) assert.ok(++records <= message.length / 24);
        }
        assert.ok(reply.nameEnd <= message.length && reply.dataEnd <= message.length);
        decoded++;
      } catch (error) {
        assert.ok(error instanceof FsError, String(error));
        assert.equal(error.code, 'EPROTO', error.message);
      }
    }
    assert.ok(decoded > 50, `only ${decoded} were decoded`);
  }));
