// Shows the engine at work on a file of this machine: which requests a write makes, what sparse files cost, that unwritten blocks never
// show what the disk held before, that the memory budget holds, that an error is reported once; then
// two filesystems by the calls of node:fs. Checks every answer; exits 1 if one is wrong.

import { subscribe } from 'node:diagnostics_channel';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  FaultyDevice,
  FileDevice,
  fiemap,
  MemFs,
  OpenFile,
  PageCache,
  Prng,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  seekData,
  seekHole,
  Volume,
} from '../src/node.ts';
import { ExtentFs } from './extent-fs.ts';
import { TableFs } from './table-fs.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
let failed = 0;

function show(what: string, ok: boolean, detail: string): void {
  console.log(`${ok ? 'ok  ' : 'FAIL'}  ${what}\n        ${detail}`);
  if (!ok) failed++;
}

const directory = mkdtempSync(join(tmpdir(), 'iomap-demo-'));
const image = join(directory, 'image');
// A disk with a past: every byte of it is garbage.
writeFileSync(image, new Uint8Array(96 * MIB).fill(0xdd));
const device = await FileDevice.open(image);
const onDisk = (addr: number, length: number): Uint8Array => {
  const fd = openSync(image, 'r');
  const bytes = new Uint8Array(length);
  readSync(fd, bytes, 0, length, addr);
  closeSync(fd);
  return bytes;
};
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

try {
  console.log(`iomap: a demonstration of the engine on ${image}, ${statSync(image).size / MIB} MiB\n`);
  const faulty = new FaultyDevice(device, new Prng(1));
  const cache = new PageCache({ budget: 8 * MIB });
  const fs = new ExtentFs(faulty, cache);

  const requests: string[] = [];
  const submit = faulty.submit.bind(faulty);
  faulty.submit = (bio) => {
    requests.push(bio.op === REQ_OP_FLUSH ? 'flush' : `${bio.op === REQ_OP_READ ? 'read' : 'write'} ${bio.length} bytes at ${bio.addr}`);
    submit(bio);
  };

  // 1. A write that covers all but two bytes of 1 MiB of an existing file reads two blocks, not a mebibyte.
  const existing = fs.file(2 * MIB, [{ offset: 0, length: 2 * MIB, addr: fs.allocate(2 * MIB), unwritten: false }]);
  await existing.write(1, new Uint8Array(MIB - 2).fill(1));
  const reads = requests.splice(0);
  show('1 MiB less two bytes written into a file that is not cached', reads.length === 2, reads.join('; '));
  await existing.fsync();
  const writes = requests.splice(0);
  show('fsync writes what is dirty', writes.length === 2 && writes[1] === 'flush', writes.join('; '));
  await existing.write(5 * 4096 + 7, Uint8Array.of(2));
  await existing.fsync();
  const one = requests.splice(0);
  show('one more byte, fsync: one block goes out', one.length === 2 && one[0]?.startsWith('write 4096') === true, one.join('; '));
  const expected = new Uint8Array(MIB).fill(1);
  expected[0] = expected[MIB - 1] = 0xdd;
  expected[5 * 4096 + 7] = 2;
  show('node:fs reads the same bytes from the image', same(onDisk(0, MIB), expected), 'first MiB compared');

  // 2. A sparse file: terabytes of nothing cost nothing, and nothing of the disk's past shows.
  const sparse = fs.file();
  const ends: string[] = [];
  subscribe('iomap:ioend', (event) => ends.push(JSON.stringify(event)));
  await sparse.write(8 * 2 ** 40 + 100, new TextEncoder().encode('far away'));
  const around = await sparse.read(8 * 2 ** 40, 4096);
  const clean = around.every((byte, i) => (i < 100 || i >= 108 ? byte === 0 : byte !== 0));
  show(
    '8 bytes written at 8 TiB: the rest of the block reads as zeros',
    clean,
    `size ${sparse.inode.size}, cached ${sparse.inode.mapping.cachedBytes} bytes`,
  );
  await sparse.fsync();
  const data = await seekData(sparse.inode, 0, sparse);
  const hole = await seekHole(sparse.inode, 0, sparse);
  show('SEEK_DATA and SEEK_HOLE know', data === 8 * 2 ** 40 && hole === 0, `data at ${data}, hole at ${hole}`);
  const { extents } = await fiemap(sparse.inode, { start: 0, length: Number.MAX_SAFE_INTEGER, flags: 0, max: 10 }, sparse);
  show('fiemap: one extent, written', extents.length === 1, JSON.stringify(extents[0]));
  show('a trace subscriber saw the write complete', ends.length === 1, ends[0] ?? 'nothing');

  // 3. Ten times the memory budget through the cache.
  const big = fs.file();
  const piece = new Uint8Array(MIB);
  let most = 0;
  for (let i = 0; i < 80; i++) {
    await big.write(i * MIB, piece.fill(i));
    most = Math.max(most, cache.memory.used);
  }
  await big.fsync();
  let right = true;
  for (let i = 0; i < 80; i++) right &&= same(await big.read(i * MIB, MIB), new Uint8Array(MIB).fill(i));
  show(
    '80 MiB written and read back through 8 MiB of cache',
    right && most <= 8 * MIB,
    `at most ${most / MIB} MiB held; writers waited ${cache.throttledWriters} times`,
  );

  // 4. An error after the answer reaches each opener once.
  const file = fs.file(4096, [{ offset: 0, length: 4096, addr: fs.allocate(4096), unwritten: false }]);
  const other = new OpenFile(file.inode);
  await file.write(0, new Uint8Array(4096));
  faulty.inject({ ops: ['write'], errno: 'EIO', times: 1 });
  const told: string[] = [];
  await file.fsync().catch((error: Error) => told.push(`fsync: ${error.message}`));
  for (const open of [file.open, other, other, file.open]) {
    try {
      open.checkWritebackErrors();
      told.push('fine');
    } catch (error) {
      told.push((error as Error).message);
    }
  }
  show(
    'a failed write is reported to each opener once',
    told.filter((each) => each.includes('EIO')).length === 2 && told.slice(3).every((each) => each === 'fine'),
    told.join(' | '),
  );

  // 5. A filesystem in memory, with the calls of node:fs, and those that node:fs lacks.
  {
    await using volume = Volume.create(new MemFs({ bytes: 64 * MIB }));
    await volume.mkdir('/etc/app', { recursive: true });
    await volume.writeFile('/etc/app/config.json', '{ "answer": 42 }\n');
    await volume.symlink('app/config.json', '/etc/config');
    const text = await volume.readFile('/etc/config', 'utf8');
    const nobody = volume.as({ uid: 65534, gid: 65534 });
    const refused = await nobody.writeFile('/etc/config', '').then(
      () => 'nothing',
      (error: Error) => error.message,
    );
    const isRefused = refused === "EACCES: permission denied, open '/etc/config'";
    show('a volume in memory: written, linked, read; refused to another user', text.includes('42') && isRefused, refused);

    const handle = await volume.open('/disk.img', 'w+');
    await handle.write('at the end', 10 * MIB);
    await handle.fallocate(0, MIB);
    const from = await handle.seekData(MIB);
    const { blocks, size } = await handle.stat();
    await handle.close();
    const isSparse = from === 10 * MIB && blocks * 512 === MIB + 4096;
    show('a sparse file of it, preallocated at its start', isSparse, `${size} bytes long, ${blocks * 512} taken, data from ${from} on`);
    const full = await volume.writeFile('/full', new Uint8Array(64 * MIB)).then(
      () => 'nothing',
      (error: Error) => error.message,
    );
    show('a full one says so when it is written', full.startsWith('ENOSPC'), full);
  }

  // 6. A filesystem of one's own in 80 lines (examples/table-fs.ts), by the same calls.
  {
    await using volume = Volume.create(new TableFs({ users: [1, 2, 3], posts: { count: 7 } }));
    const names = await volume.readdir('/');
    const posts = await volume.readFile('/posts.json', 'utf8');
    show(
      'rows of a table as files',
      names.join() === 'posts.json,users.json' && posts === '{"count":7}\n',
      `${names.join(', ')}: ${posts.trim()}`,
    );
  }
} finally {
  await device.close();
  rmSync(directory, { recursive: true, force: true });
}
console.log(failed === 0 ? '\nall answers were right' : `\n${failed} wrong`);
process.exitCode = failed === 0 ? 0 : 1;
