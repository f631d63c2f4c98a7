import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AT_REMOVEDIR, F_SETLK, flock, Libc, linux_dirent64, RLIMIT_NOFILE, statfs, statx, UTIME_OMIT } from './libc.ts';

const O_RDWR = 2;
const O_CREAT = 0o100;
const O_NOFOLLOW = 0o400000;
const O_PATH = 0o10000000;

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

  test('names are found, made and taken away below an open directory', () => {
    libc.mkdir(at('below'), 0o700);
    const fd = libc.open(at('below'), O_PATH, 0);
    const name = (text: string) => Buffer.from(text);
    libc.mkdirat(fd, name('dir'), 0o700);
    libc.mknodat(fd, name('file'), 0o100600, 0);
    libc.symlinkat(name('target'), fd, name('link'));
    libc.linkat(fd, name('file'), name('second'), 0, fd);
    libc.renameat2(name('second'), name('renamed'), 0, fd, fd);
    const link = libc.openat(fd, name('link'), O_PATH | O_NOFOLLOW, 0);
    assert.equal(Buffer.from(libc.readlinkat(link, new Uint8Array(0))).toString(), 'target');
    assert.deepEqual(readdirSync(join(dir, 'below')).sort(), ['dir', 'file', 'link', 'renamed']);
    libc.unlinkat(fd, name('dir'), AT_REMOVEDIR);
    libc.unlinkat(fd, name('file'), 0);
    assert.throws(() => libc.unlinkat(fd, name('dir'), AT_REMOVEDIR), { code: 'ENOENT', syscall: 'unlinkat' });
    assert.deepEqual(readdirSync(join(dir, 'below')).sort(), ['link', 'renamed']);
    libc.close(link);
    libc.close(fd);
  });

  test('a listing takes as many names as fit', () => {
    libc.mkdir(at('many'), 0o700);
    for (let i = 0; i < 20; i++) writeFileSync(join(dir, 'many', `${i}`), '');
    const fd = libc.open(at('many'), 0, 0);
    assert.equal(libc.getdents64(fd, 64).length, 2);
    assert.equal(libc.getdents64(fd).length, 20);
    libc.close(fd);
  });

  test('mask, limits and ids are told and set', () => {
    const mask = libc.umask(0o027);
    assert.equal(libc.umask(mask), 0o027);
    const [soft, hard] = libc.getrlimit(RLIMIT_NOFILE);
    libc.setrlimit(RLIMIT_NOFILE, soft - 1n, hard);
    assert.deepEqual(libc.getrlimit(RLIMIT_NOFILE), [soft - 1n, hard]);
    libc.setrlimit(RLIMIT_NOFILE, soft, hard);
    assert.equal(libc.setfsuid(-1), process.geteuid?.());
    assert.equal(libc.setfsgid(-1), process.getegid?.());
    const groups = libc.getgroups();
    assert.deepEqual(
      process.getgroups?.().filter((gid) => !groups.includes(gid) && gid !== process.getegid?.()),
      [],
    );
  });

  test('capabilities are those that the kernel shows, and stay when they are set to what they are', () => {
    const shown = (name: string): bigint => {
      const status = readFileSync('/proc/thread-self/status', 'utf8');
      return BigInt(`0x${new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1]}`);
    };
    const capabilities = libc.capget();
    assert.deepEqual([capabilities.effective, capabilities.permitted, capabilities.inheritable], ['CapEff', 'CapPrm', 'CapInh'].map(shown));
    libc.capset(capabilities);
    assert.deepEqual(libc.capget(), capabilities);
  });

  test('statfs tells the block size', () => {
    assert.ok(libc.statfs(Buffer.from(dir)).f_bsize >= 512);
  });
});
