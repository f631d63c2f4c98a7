import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hasCode } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { alignedBytes } from './aligned-memory.ts';
import {
  Bio,
  type BioOp,
  emptyBio,
  REQ_FUA,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
  REQ_PREFLUSH,
} from './bio.ts';
import { flushDevice, readDevice, submitAndWait, writeDevice } from './block-device.ts';
import { asyncFileIo, FileDevice, type FileDeviceOptions, type FileIo, syncFileIo } from './file-device.ts';

// TEST_DIR for where the host's temporary directory is a tmpfs without O_DIRECT.
const dir = mkdtempSync(join(process.env['TEST_DIR'] ?? tmpdir(), 'iomap-file-device-'));
after(() => rmSync(dir, { recursive: true }));

let files = 0;
function newPath(): string {
  return join(dir, `${++files}.img`);
}

function directRefusal(): string | false {
  try {
    const device = FileDevice.open(newPath(), { create: true, size: 65536, direct: true });
    void device.close();
    return false;
  } catch (error) {
    if (hasCode(error, 'EINVAL')) return `no O_DIRECT in ${dir}`;
    throw error;
  }
}

const ignore = (): void => {};

function newBio(op: BioOp, addr: number, data: Uint8Array | number, flags = 0): Bio {
  if (typeof data === 'number') return emptyBio(op, addr, data, flags, ignore);
  const bio = new Bio(op, addr, flags, ignore);
  bio.add(data);
  return bio;
}

const MODES: [string, FileDeviceOptions, string | false][] = [
  ['async', {}, false],
  ['sync', { sync: true }, false],
  ['sync but for slow flushes', { sync: 'transfers' }, false],
  ['direct', { direct: true, logicalBlockSize: 4096 }, directRefusal()],
  ['direct and sync', { direct: true, sync: true, logicalBlockSize: 4096 }, directRefusal()],
];

for (const [mode, options, skip] of MODES) {
  test(`${mode}: agrees with a flat byte array`, { skip }, async () => {
    const seed = Number(process.env['SEED'] ?? 1);
    const prng = new Prng(seed);
    const size = 4 * 2 ** 20;
    const path = newPath();
    const device = FileDevice.open(path, { create: true, size, ...options });
    const block = device.logicalBlockSize;
    const model = new Uint8Array(size);
    for (let step = 0; step < 60; step++) {
      const addr = prng.below(size / block) * block;
      const length = block * prng.between(1, Math.min(prng.chance(0.2) ? 600 : 20, (size - addr) / block));
      const op = prng.pick<BioOp>([REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES, REQ_OP_FLUSH]);
      const bio = op === REQ_OP_READ || op === REQ_OP_WRITE ? new Bio(op, addr, 0, ignore) : emptyBio(op, addr, length, 0, ignore);
      const bytes = prng.bytes(length);
      if (op === REQ_OP_WRITE) bio.flags = prng.pick([0, 0, REQ_FUA, REQ_PREFLUSH]);
      if (op === REQ_OP_READ || op === REQ_OP_WRITE) {
        for (let at = 0, count = 0; at < length; at += count) {
          count = Math.min(prng.pick([0, 1, 100, 5000, 100_000]), length - at);
          bio.add(bytes.subarray(at, at + count));
        }
      }
      const status = submitAndWait(device, bio);
      if (options.sync === true) assert.equal(status, 0);
      assert.equal(await status, 0, `seed ${seed}, step ${step}`);
      if (op === REQ_OP_WRITE) model.set(bytes, addr);
      if (op === REQ_OP_WRITE_ZEROES) model.fill(0, addr, addr + length);
      if (op === REQ_OP_READ) assert.deepEqual(bytes, model.slice(addr, addr + length), `seed ${seed}, step ${step}`);
    }
    await device.close();
    assert.ok(Buffer.from(model).equals(readFileSync(path)), `seed ${seed}`);
  });

  test(`${mode}: many requests at once, more than there are bounce slots`, { skip }, async () => {
    const device = FileDevice.open(newPath(), { create: true, size: 2 ** 20, ...options });
    const block = device.logicalBlockSize;
    const count = 100;
    await Promise.all(
      Array.from({ length: count }, (_, i) => writeDevice(device, i * block, new Uint8Array(block).fill(i + 1), i % 10 === 0)),
    );
    await flushDevice(device);
    const into = Array.from({ length: count }, () => new Uint8Array(block));
    await Promise.all(into.map((bytes, i) => readDevice(device, i * block, bytes)));
    for (const [i, bytes] of into.entries()) assert.ok(bytes.every((byte) => byte === i + 1));
    await device.close();
  });

  test(`${mode}: a file shorter than the device reads as zeros and grows by writes`, { skip }, async () => {
    const path = newPath();
    const block = options.logicalBlockSize ?? 512;
    writeFileSync(path, new Uint8Array(block + 100).fill(5));
    const device = FileDevice.open(path, { ...options, size: 8 * block });
    const into = new Uint8Array(4 * block).fill(9);
    const bio = new Bio(REQ_OP_READ, 0, 0, ignore);
    for (const [from, to] of [
      [0, block + 60],
      [block + 60, block + 160],
      [block + 160, 4 * block],
    ] as const)
      bio.add(into.subarray(from, to));
    assert.equal(await submitAndWait(device, bio), 0);
    assert.deepEqual(
      [...into],
      Array.from(into, (_, i) => (i < block + 100 ? 5 : 0)),
    );
    into.fill(9);
    await readDevice(device, 4 * block, into);
    assert.ok(into.every((byte) => byte === 0));
    await writeDevice(device, 6 * block, new Uint8Array(block).fill(6));
    await device.close();
    assert.equal(statSync(path).size, 7 * block);
  });
}

test('direct: page-aligned memory is used as it is', { skip: directRefusal() }, async () => {
  const path = newPath();
  const seen: Uint8Array[] = [];
  const io: FileIo = {
    ...asyncFileIo,
    writev(fd, vec, pos, done) {
      seen.push(...vec);
      asyncFileIo.writev(fd, vec, pos, done);
    },
  };
  const device = FileDevice.open(path, { create: true, size: 2 ** 20, direct: true, logicalBlockSize: 4096 }, io);
  const memory = alignedBytes(65536).fill(3);
  await writeDevice(device, 4096, memory.subarray(4096, 12_288));
  assert.equal(seen[0]?.buffer, memory.buffer);
  await writeDevice(device, 16_384, memory.subarray(512, 4608));
  assert.notEqual(seen[1]?.buffer, memory.buffer);
  await device.close();
  assert.equal(readFileSync(path)[4096], 3);
});

test('the size is that of the whole blocks in the file', async () => {
  const path = newPath();
  writeFileSync(path, new Uint8Array(1000));
  for (const [logicalBlockSize, size] of [
    [512, 512],
    [1024, 0],
  ] as const) {
    const device = FileDevice.open(path, { readOnly: true, logicalBlockSize });
    assert.equal(device.size, size);
    await device.close();
  }
});

test('the size and block size of a block device are its own', async (t) => {
  const path = newPath();
  writeFileSync(path, new Uint8Array(3 * 2 ** 20));
  const losetup = spawnSync('losetup', ['--find', '--show', path], { encoding: 'utf8' });
  if (losetup.status !== 0) {
    t.skip(`no loop device: ${losetup.error?.message ?? losetup.stderr.trim()}`);
    return;
  }
  const loop = losetup.stdout.trim();
  try {
    const device = FileDevice.open(loop);
    assert.deepEqual([device.size, device.logicalBlockSize], [3 * 2 ** 20, 512]);
    await writeDevice(device, device.size - 512, new Uint8Array(512).fill(8), true);
    await device.close();
    assert.throws(() => FileDevice.open(loop, { size: 4 * 2 ** 20 }), { code: 'EINVAL' });
  } finally {
    spawnSync('losetup', ['--detach', loop]);
  }
  assert.equal(readFileSync(path).at(-1), 8);
});

test('create makes a sparse file, and keeps and grows one that is there', async () => {
  const path = newPath();
  await FileDevice.open(path, { create: true, size: 2 ** 30 }).close();
  assert.deepEqual([statSync(path).size, statSync(path).blocks], [2 ** 30, 0]);
  writeFileSync(path, 'here');
  await FileDevice.open(path, { create: true, size: 4096 }).close();
  assert.equal(statSync(path).size, 4096);
  assert.equal(readFileSync(path, 'latin1').slice(0, 4), 'here');
});

test('what cannot be a device is refused', () => {
  const open = (path: string, options?: FileDeviceOptions) => () => FileDevice.open(path, options);
  assert.throws(open(join(dir, 'missing')), { code: 'ENOENT', errno: -2, syscall: 'open', path: join(dir, 'missing') });
  assert.throws(open(dir), { code: 'EISDIR' });
  assert.throws(open('/dev/null'), { code: 'ENOTBLK' });
  assert.throws(open(newPath(), { create: true }), { code: 'EINVAL' });
  assert.throws(open(newPath(), { create: true, size: 4096, readOnly: true }), { code: 'EINVAL' });
  assert.throws(open(newPath(), { create: true, size: 1000 }), { code: 'EINVAL' });
  assert.throws(open(newPath(), { create: true, size: 4096, logicalBlockSize: 100 }), { code: 'EINVAL' });
  assert.throws(open('/proc/self/status', { readOnly: true, direct: true }), { code: 'EINVAL', message: /O_DIRECT/ });
});

test('a read-only device refuses what writes, and flushes', async () => {
  const path = newPath();
  writeFileSync(path, new Uint8Array(4096));
  const device = FileDevice.open(path, { readOnly: true });
  for (const bio of [newBio(REQ_OP_WRITE, 0, new Uint8Array(512)), newBio(REQ_OP_WRITE_ZEROES, 0, 512), newBio(REQ_OP_DISCARD, 0, 512)]) {
    assert.equal(submitAndWait(device, bio), -30);
  }
  assert.equal(await submitAndWait(device, newBio(REQ_OP_FLUSH, 0, 0)), 0);
  await device.close();
});

test('discard leaves the content', async () => {
  const path = newPath();
  writeFileSync(path, new Uint8Array(4096).fill(1));
  const device = FileDevice.open(path);
  assert.equal(await submitAndWait(device, newBio(REQ_OP_DISCARD, 0, 4096)), 0);
  await device.close();
  assert.equal(readFileSync(path)[0], 1);
});

test('close waits for what is in flight; later requests get ENODEV', async () => {
  const path = newPath();
  const device = FileDevice.open(path, { create: true, size: 2 ** 20 });
  const bio = newBio(REQ_OP_WRITE, 0, new Uint8Array(2 ** 20).fill(1), REQ_FUA);
  device.submit(bio);
  const closed = device.close();
  assert.ok(!bio.hasEnded);
  await closed;
  assert.ok(bio.hasEnded && bio.status === 0);
  assert.equal(submitAndWait(device, newBio(REQ_OP_READ, 0, new Uint8Array(512))), -19);
  assert.equal(device.close(), undefined);
});

function error(code: string): Error {
  return Object.assign(new Error(code), { code });
}

test('short, interrupted and refused calls are continued, wherever they stop', async () => {
  const seed = Number(process.env['SEED'] ?? 1);
  const prng = new Prng(seed);
  // Moves a part of what is asked, or says to try again.
  const clipped = (call: FileIo['readv']): FileIo['readv'] => {
    return (fd, vec, pos, done) => {
      if (prng.chance(0.2)) return done(error(prng.pick(['EINTR', 'EAGAIN'])), 0);
      let left = prng.between(1, 700);
      const part: Uint8Array[] = [];
      for (const bytes of vec) {
        if (left > 0) part.push(bytes.subarray(0, left));
        left -= bytes.length;
      }
      call(fd, part, pos, done);
    };
  };
  const io: FileIo = { ...syncFileIo, readv: clipped(syncFileIo.readv), writev: clipped(syncFileIo.writev), retry: (again) => again() };
  const path = newPath();
  const device = FileDevice.open(path, { create: true, size: 65536 }, io);
  for (let round = 0; round < 40; round++) {
    const bytes = prng.bytes(512 * prng.between(1, 10));
    const addr = 512 * prng.below(100);
    const write = new Bio(REQ_OP_WRITE, addr, 0, ignore);
    const read = new Bio(REQ_OP_READ, addr, 0, ignore);
    const into = new Uint8Array(bytes.length);
    for (let at = 0, count = 0; at < bytes.length; at += count) {
      count = Math.min(prng.below(900), bytes.length - at);
      write.add(bytes.subarray(at, at + count));
      read.add(into.subarray(at, at + count));
    }
    assert.equal(submitAndWait(device, write), 0);
    assert.equal(submitAndWait(device, read), 0);
    assert.deepEqual(into, bytes, `seed ${seed}, round ${round}`);
  }
  truncateSync(path, 1000);
  const into = new Uint8Array(4096).fill(1);
  assert.equal(submitAndWait(device, newBio(REQ_OP_READ, 0, into)), 0);
  assert.ok(into.subarray(1000).every((byte) => byte === 0));
  await device.close();
});

test('a call that fails ends the request with its error', async () => {
  const fail = { code: 'ENOSPC' };
  const io: FileIo = {
    ...asyncFileIo,
    readv: (_fd, _vec, _pos, done) => done(error(fail.code), 0),
    writev: (_fd, _vec, _pos, done) => done(error(fail.code), 0),
  };
  const device = FileDevice.open(newPath(), { create: true, size: 65536 }, io);
  assert.equal(submitAndWait(device, newBio(REQ_OP_WRITE, 0, new Uint8Array(512))), -28);
  assert.equal(submitAndWait(device, newBio(REQ_OP_WRITE_ZEROES, 0, 512)), -28);
  fail.code = 'EIO';
  assert.equal(submitAndWait(device, newBio(REQ_OP_READ, 0, new Uint8Array(512))), -5);
  fail.code = 'ENOT_A_LINUX_ERROR';
  assert.equal(submitAndWait(device, newBio(REQ_OP_READ, 0, new Uint8Array(512))), -5);
  await device.close();

  const stuck = FileDevice.open(
    newPath(),
    { create: true, size: 65536 },
    { ...syncFileIo, writev: (_fd, _vec, _pos, done) => done(error('EAGAIN'), 0) },
  );
  assert.equal(submitAndWait(stuck, newBio(REQ_OP_WRITE, 0, new Uint8Array(512))), -11, 'not for ever');
  await stuck.close();
  const full = FileDevice.open(
    newPath(),
    { create: true, size: 65536 },
    { ...syncFileIo, writev: (_fd, _vec, _pos, done) => done(null, 0) },
  );
  assert.equal(submitAndWait(full, newBio(REQ_OP_WRITE, 0, new Uint8Array(512))), -5, 'a write that moves nothing');
  await full.close();
});

test('flushes: one at a time, each covers what ended before it, and failure is for good', async () => {
  const calls: string[] = [];
  const syncs: ((error: unknown) => void)[] = [];
  const io: FileIo = {
    ...syncFileIo,
    writev(fd, vec, pos, done) {
      calls.push(`write ${pos}`);
      syncFileIo.writev(fd, vec, pos, done);
    },
    fdatasync(_fd, done) {
      calls.push('sync');
      syncs.push(done);
    },
  };
  const device = FileDevice.open(newPath(), { create: true, size: 65536 }, io);
  const submit = (bio: Bio): Bio => {
    device.submit(bio);
    return bio;
  };
  const first = submit(newBio(REQ_OP_FLUSH, 0, 0));
  const fua = submit(newBio(REQ_OP_WRITE, 0, new Uint8Array(512), REQ_FUA));
  const commit = submit(newBio(REQ_OP_WRITE, 512, new Uint8Array(512), REQ_PREFLUSH | REQ_FUA));
  assert.deepEqual(calls, ['sync', 'write 0'], 'one fdatasync runs; the write ahead of PREFLUSH has not begun');
  syncs.shift()?.(null);
  assert.ok(first.hasEnded && !fua.hasEnded && !commit.hasEnded);
  assert.deepEqual(calls, ['sync', 'write 0', 'sync']);
  syncs.shift()?.(null);
  assert.ok(fua.hasEnded && !commit.hasEnded);
  assert.deepEqual(calls, ['sync', 'write 0', 'sync', 'write 512', 'sync']);
  const late = submit(newBio(REQ_OP_FLUSH, 0, 0));
  syncs.shift()?.(error('EIO'));
  assert.deepEqual([commit.status, late.status], [-5, -5]);
  assert.equal(submitAndWait(device, newBio(REQ_OP_FLUSH, 0, 0)), -5);
  assert.equal(submitAndWait(device, newBio(REQ_OP_WRITE, 0, new Uint8Array(512), REQ_PREFLUSH)), -5);
  assert.equal(submitAndWait(device, newBio(REQ_OP_WRITE, 0, new Uint8Array(512))), 0);
  assert.equal(syncs.length, 0);
  await device.close();
});

test('a request of more pieces than one call takes', async () => {
  const path = newPath();
  const device = FileDevice.open(path, { create: true, size: 65536 });
  const bio = new Bio(REQ_OP_WRITE, 0, 0, ignore);
  for (let i = 0; i < 4096; i++) bio.add(Uint8Array.of(i, i >> 8));
  assert.equal(await submitAndWait(device, bio), 0);
  await device.close();
  const content = readFileSync(path);
  for (let i = 0; i < 4096; i++) assert.equal(content.readUInt16LE(i * 2), i);
});

test('write-zeroes longer than one round', async () => {
  const path = newPath();
  writeFileSync(path, new Uint8Array(2 ** 25 + 2 ** 20).fill(1));
  const device = FileDevice.open(path);
  assert.equal(await submitAndWait(device, newBio(REQ_OP_WRITE_ZEROES, 512, 2 ** 25 + 512)), 0);
  await device.close();
  const content = readFileSync(path);
  assert.deepEqual([content[511], content[512], content[2 ** 25 + 1023], content[2 ** 25 + 1024]], [1, 0, 0, 1]);
  assert.ok(content.subarray(512, 2 ** 25 + 1024).every((byte) => byte === 0));
});

test('transfers end inside submit where they are to; flushes end, in either thread', async () => {
  const path = newPath();
  const device = FileDevice.open(path, { create: true, size: 8192, sync: 'transfers' });
  for (let i = 0; i < 200; i++) {
    assert.equal(writeDevice(device, 4096, new Uint8Array(4096).fill(i)), undefined, 'nothing to wait for');
    await flushDevice(device);
  }
  assert.equal(readFileSync(path)[8191], 199);
  await device.close();
});
