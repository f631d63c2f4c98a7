import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { F_SETLK, flock, Libc, linux_dirent64, statfs, statx, UTIME_OMIT } from './libc.ts';

const O_RDWR = 2;
const O_CREAT = 0o100;

function unavailable(): string | undefined {
  if (process.platform !== 'linux') return 'the calls are those of Linux';
  try {
    new Libc();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

test('the structs have the sizes of the C library', () => {
  assert.deepEqual([statx.size, statfs.size, flock.size, linux_dirent64.size], [256, 120, 32, 19]);
});

describe('system calls', { skip: unavailable() ?? false }, () => {
  let dir = '';
  let libc: Libc;
  const at = (name: string) => Buffer.from(join(dir, name));

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'iomap-libc-'));
    libc = new Libc();
  });
  after(() => rmSync(dir, { recursive: true }));

  test('an error is that of node:fs, with the name of the call', () => {
    assert.throws(() => libc.open(at('missing'), 0, 0), { code: 'ENOENT', errno: -2, syscall: 'open' });
    assert.throws(() => libc.close(-1), { code: 'EBADF', syscall: 'close' });
  });

  test('statx says what node:fs says', () => {
    writeFileSync(join(dir, 'stat'), 'content');
    const [ours, theirs] = [libc.statx(-100, at('stat'), 0), statSync(join(dir, 'stat'), { bigint: true })];
    assert.equal(ours.stx_size, 7);
    assert.equal(ours.stx_ino, Number(theirs.ino));
    assert.equal(ours.stx_mode, Number(theirs.mode));
    assert.equal(BigInt(ours.stx_mtime_sec) * 1_000_000_000n + BigInt(ours.stx_mtime_nsec), theirs.mtimeNs);
  });

  test('bytes go and come, at positions and through vectors', () => {
    const fd = libc.open(at('data'), O_RDWR | O_CREAT, 0o600);
    assert.equal(libc.pwritev2(fd, [Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cdef')], -1, 0), 6);
    const [one, two] = [new Uint8Array(3), new Uint8Array(8)];
    assert.equal(libc.preadv2(fd, [one, two], 1, 0), 5);
    assert.equal(Buffer.from(one).toString() + Buffer.from(two.subarray(0, 2)).toString(), 'bcdef');
    assert.equal(libc.pwrite(fd, Buffer.from('X'), 0), 1);
    assert.equal(libc.lseek(fd, 0, 1), 6);
    libc.close(fd);
    assert.equal(readFileSync(join(dir, 'data'), 'utf8'), 'Xbcdef');
  });

  test('positions beyond 32 bits arrive whole', () => {
    const fd = libc.open(at('large'), O_RDWR | O_CREAT, 0o600);
    libc.ftruncate(fd, 2 ** 33 + 5);
    assert.equal(libc.lseek(fd, 0, 2), 2 ** 33 + 5);
    libc.close(fd);
  });

  test('a directory is listed with bytes that are no text', () => {
    const name = Buffer.from([0x61, 0xff, 0x0a]);
    libc.mkdir(at('list'), 0o700);
    libc.symlink(Buffer.from('target'), Buffer.concat([at('list/'), name]));
    const fd = libc.open(at('list'), 0, 0);
    const found = libc.getdents64(fd).find((each) => each.name[0] === 0x61);
    assert.deepEqual(Buffer.from(found?.name ?? []), name);
    assert.deepEqual(libc.getdents64(fd), []);
    libc.close(fd);
  });

  test('times before 1970 and omitted ones', () => {
    writeFileSync(join(dir, 'times'), '');
    libc.utimensat(at('times'), { sec: -5, nsec: 7 }, { sec: 9, nsec: 0 }, 0);
    libc.utimensat(at('times'), { sec: 0, nsec: UTIME_OMIT }, { sec: 10, nsec: 3 }, 0);
    const stat = libc.statx(-100, at('times'), 0);
    assert.deepEqual([stat.stx_atime_sec, stat.stx_atime_nsec, stat.stx_mtime_sec, stat.stx_mtime_nsec], [-5, 7, 10, 3]);
  });

  test('readlink gives the target', () => {
    symlinkSync('some/target', join(dir, 'link'));
    assert.equal(Buffer.from(libc.readlink(at('link'))).toString(), 'some/target');
  });

  test('a record lock is set, and none is in its way', () => {
    const fd = libc.open(at('lock'), O_RDWR | O_CREAT, 0o600);
    libc.fcntlLock(fd, F_SETLK, { l_type: 1, l_start: 5, l_len: 2 });
    assert.throws(() => libc.fcntlLock(fd, F_SETLK, { l_type: 9 }), { code: 'EINVAL', syscall: 'fcntl' });
    libc.close(fd);
  });

  test('statfs tells the block size', () => {
    assert.ok(libc.statfs(Buffer.from(dir)).f_bsize >= 512);
  });
});
