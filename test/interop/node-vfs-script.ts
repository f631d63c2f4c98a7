// Reaches a volume through node:fs, by a provider for node:vfs. Started with --experimental-vfs by node-vfs.test.ts; exits 0 if all is right.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { nodeVfsProvider } from '../../src/volume/node-vfs.ts';
import { Volume } from '../../src/volume/volume.ts';
import { MemFs } from '../support/mem-fs.ts';

interface Mountable {
  mount(): string;
  unmount(): void;
}
const vfs = process.getBuiltinModule('node:vfs' as never) as unknown as { create(provider: object): Mountable };

const volume = Volume.create(new MemFs());
const mounted = vfs.create(nodeVfsProvider(volume));
const root = mounted.mount();

// What one side writes, the other reads.
fs.writeFileSync(`${root}/by-fs`, 'through node:fs');
assert.equal(await volume.readFile('/by-fs', 'utf8'), 'through node:fs');
await volume.writeFile('/by-volume', 'from the volume');
assert.equal(fs.readFileSync(`${root}/by-volume`, 'utf8'), 'from the volume');
assert.equal(await fs.promises.readFile(`${root}/by-volume`, 'utf8'), 'from the volume');
fs.appendFileSync(`${root}/by-volume`, '!');
assert.equal(volume.sync.statSync('/by-volume').size, 16);

// Names.
fs.mkdirSync(`${root}/a/b/c`, { recursive: true });
fs.symlinkSync('../by-fs', `${root}/a/link`);
fs.renameSync(`${root}/by-fs`, `${root}/a/moved`);
assert.deepEqual(fs.readdirSync(`${root}/a`).sort(), ['b', 'link', 'moved']);
assert.equal(fs.lstatSync(`${root}/a/link`).isSymbolicLink(), true);
assert.equal(volume.sync.readlinkSync('/a/link'), '../by-fs');
await fs.promises.unlink(`${root}/a/moved`);
fs.copyFileSync(`${root}/by-volume`, `${root}/a/copy`);
assert.equal(fs.existsSync(`${root}/a/copy`), true);
assert.equal(fs.existsSync(`${root}/a/moved`), false);
for (const entry of fs.readdirSync(`${root}/a`, { withFileTypes: true })) assert.equal(entry.isDirectory(), entry.name === 'b');

// Descriptors and handles.
const fd = fs.openSync(`${root}/a/copy`, 'r+');
fs.writeSync(fd, 'FROM', 0);
const bytes = Buffer.alloc(8);
assert.equal(fs.readSync(fd, bytes, 0, 8, 0), 8);
assert.equal(bytes.toString(), 'FROM the');
fs.ftruncateSync(fd, 4);
assert.equal(fs.fstatSync(fd).size, 4);
fs.closeSync(fd);
assert.throws(() => fs.fstatSync(fd), { code: 'EBADF' });
const handle = await fs.promises.open(`${root}/a/copy`, 'a+');
await handle.write('!');
assert.equal((await handle.read(bytes, 0, 8, 0)).bytesRead, 5);
assert.equal(bytes.toString('utf8', 0, 5), 'FROM!');
await handle.close();

// Errors.
assert.throws(() => fs.readFileSync(`${root}/none`), { code: 'ENOENT', syscall: 'open' });
assert.throws(() => fs.mkdirSync(`${root}/a`), { code: 'EEXIST', syscall: 'mkdir' });
assert.throws(() => fs.rmdirSync(`${root}/a`), { code: 'ENOTEMPTY', syscall: 'rmdir' });
await assert.rejects(fs.promises.stat(`${root}/none`), { code: 'ENOENT', syscall: 'stat' });

// What is built on node:fs: modules, streams.
fs.writeFileSync(`${root}/answer.cjs`, 'module.exports = 42');
assert.equal(createRequire(import.meta.url)(`${root}/answer.cjs`), 42);
let streamed = '';
for await (const piece of fs.createReadStream(`${root}/by-volume`, 'utf8')) streamed += piece;
assert.equal(streamed, 'from the volume!');
fs.rmSync(`${root}/a`, { recursive: true });
assert.deepEqual(await volume.readdir('/'), ['answer.cjs', 'by-volume']);

mounted.unmount();
assert.equal(fs.existsSync(`${root}/by-volume`), false);
await volume.close();
console.log('all is right');
