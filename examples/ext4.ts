// An ext4 image from nothing to full and back, without the kernel's ext4 driver: makes it with this machine's mke2fs (or unpacks an empty
// one), mounts it where that is possible (or works in this process), copies a directory tree in, lets e2fsck judge, and reads all of it
// back. Checks every answer; exits 1 if one is wrong.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as host from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { ErrnoCode } from '../src/base/errno.ts';
import { hasCode } from '../src/base/fs-error.ts';
import { mountImage, openExt4 } from '../src/node.ts';

const MIB = 2 ** 20;
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const directory = host.mkdtempSync(join(tmpdir(), 'iomap-ext4-'));
const image = join(directory, 'disk.img');
const mountpoint = join(directory, 'mnt');
/** A real tree: the sources of this project. */
const tree = resolve('src');
let failed = 0;

function show(what: string, ok: boolean, detail: string): void {
  console.log(`${ok ? 'ok  ' : 'FAIL'}  ${what}\n        ${detail}`);
  if (!ok) failed++;
}

function makeImage(): string {
  const { error, status } = spawnSync('mke2fs', ['-q', '-F', '-t', 'ext4', image, '64M'], { env });
  if (error === undefined && status === 0) return 'made by the mke2fs of this machine';
  host.writeFileSync(image, gunzipSync(host.readFileSync(resolve('examples/empty-ext4.img.gz'))));
  return 'unpacked from examples/empty-ext4.img.gz, as there is no mke2fs here';
}

/** Files below a directory of the host, as paths relative to it. */
function filesOf(root: string): string[] {
  return host
    .readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Copies the tree in through a kernel mount, with node:fs, in this very process. Answers why not, as text, where it cannot be mounted. */
async function copyMounted(): Promise<string | undefined> {
  host.mkdirSync(mountpoint);
  try {
    await using mounted = await mountImage(image, mountpoint);
    host.cpSync(tree, join(mountpoint, 'src'), { recursive: true });
    host.symlinkSync('src/index.ts', join(mountpoint, 'main'));
    execFileSync('sync', ['-f', mountpoint]);
    console.log(`        ${execFileSync('df', ['-h', mountpoint], { encoding: 'utf8' }).trim().split('\n').at(-1)}`);
    void mounted;
    return undefined;
  } catch (error) {
    if (!['EPERM', 'EACCES', 'ENOENT', 'ENODEV', 'ENOSYS'].some((code) => hasCode(error, code as ErrnoCode))) throw error;
    return (error as Error).message;
  }
}

/** Copies it in within this process, by the same calls on a Volume. */
async function copyInProcess(): Promise<void> {
  await using volume = await openExt4(image);
  for (const file of filesOf(tree)) {
    const path = `/src/${file}`;
    await volume.mkdir(path.slice(0, path.lastIndexOf('/')), { recursive: true });
    await volume.writeFile(path, host.readFileSync(join(tree, file)));
  }
  await volume.symlink('src/index.ts', '/main');
}

try {
  console.log(`iomap: an ext4 image in ${directory}\n`);
  show('an empty image', true, `${makeImage()}, ${host.statSync(image).size / MIB} MiB`);

  const whyNot = process.platform === 'linux' ? await copyMounted() : 'mounts are Linux mounts';
  if (whyNot !== undefined) await copyInProcess();
  const files = filesOf(tree);
  const how = whyNot === undefined ? 'through a mount by this process' : `within this process, as it cannot be mounted: ${whyNot}`;
  show(`${files.length} files copied in`, true, how);

  const { status, stdout, error } = spawnSync('e2fsck', ['-fn', image], { env, encoding: 'utf8' });
  if (error === undefined) show('e2fsck -fn finds nothing to complain of', status === 0, stdout.trim().split('\n').at(-1) ?? '');
  else show('e2fsck is not on this machine', true, 'nothing was checked by it');

  const before = digest(host.readFileSync(image));
  {
    await using volume = await openExt4(image, { readOnly: true });
    let right = (await volume.readlink('/main')) === 'src/index.ts';
    for (const file of files) {
      const copy = await volume.readFile(`/src/${file}`);
      right &&= digest(copy) === digest(host.readFileSync(join(tree, file)));
    }
    const { bfree, blocks, bsize } = await volume.statfs('/');
    const detail = `${Math.round(((Number(blocks) - Number(bfree)) * Number(bsize)) / MIB)} MiB in use`;
    show('all of it reads back, byte for byte, in this process', right, detail);
  }
  show('reading changed not one byte of the image', digest(host.readFileSync(image)) === before, `sha256 ${before.slice(0, 16)}...`);
} finally {
  host.rmSync(directory, { recursive: true, force: true });
}
console.log(failed === 0 ? '\nall answers were right; yours: npx iomap mount your.img dir' : `\n${failed} wrong`);
process.exitCode = failed === 0 ? 0 : 1;
