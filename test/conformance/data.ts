import assert from 'node:assert/strict';
import {
  O_APPEND,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  RWF_APPEND,
  RWF_DSYNC,
  S_IFIFO,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from '../../src/vfs/uapi.ts';
import type { PosixFace, PosixFile } from '../support/posix-face.ts';
import { all, type Behaviour, type Behaviours, bytesIn, fails, needs, pattern, put, text, textIn, withFile } from './behaviour.ts';

/** Runs on a new open file with this content. */
const on =
  (content: Uint8Array | string, use: (file: PosixFile, fs: PosixFace) => unknown): Behaviour =>
  async (fs) => {
    await put(fs, 'f', content);
    await withFile(fs, 'f', O_RDWR, (file) => use(file, fs) as Promise<void>);
  };

const zeros = (length: number) => new Uint8Array(length);

/** Equality of large arrays, told by its first difference. */
function same(got: Uint8Array, expected: Uint8Array): void {
  const at = expected.findIndex((byte, i) => got[i] !== byte);
  assert.ok(at < 0, `byte ${at} is ${got[at]}, not ${expected[at]}`);
  assert.equal(got.length, expected.length);
}

/** `into` with `piece` at `at`. */
function overlaid(into: Uint8Array, piece: Uint8Array, at: number): Uint8Array {
  const out = zeros(Math.max(into.length, at + piece.length));
  out.set(into);
  out.set(piece, at);
  return out;
}

const GIB = 2 ** 30;

/** Bytes of files: read, write, seek, truncate. */
export const data: Behaviours = {
  'what is written is read': on('', async (file) => {
    assert.equal(await file.write('content'), 7);
    assert.equal(text(await file.pread(100, 0)), 'content');
    assert.equal((await file.fstat()).size, 7);
  }),
  'read and write move one position': on('abcdef', async (file) => {
    assert.equal(text(await file.read(2)), 'ab');
    await file.write('XY');
    assert.equal(text(await file.read(2)), 'ef');
    assert.equal(await file.lseek(0, SEEK_CUR), 6);
    assert.equal(text(await all(file)), 'abXYef');
  }),
  'pread and pwrite leave the position': on('abcdef', async (file) => {
    await file.pwrite('X', 3);
    assert.equal(text(await file.pread(2, 3)), 'Xe');
    assert.equal(await file.lseek(0, SEEK_CUR), 0);
  }),
  'a read is short at the end and empty past it': on('abc', async (file) => {
    assert.equal(text(await file.pread(10, 1)), 'bc');
    assert.equal((await file.pread(10, 3)).length, 0);
    assert.equal((await file.pread(10, 1000)).length, 0);
    assert.equal((await file.pread(10, 2 ** 40)).length, 0);
  }),
  'a read of nothing is nothing': on('abc', async (file) => {
    assert.equal((await file.read(0)).length, 0);
    assert.equal((await file.pread(0, 100)).length, 0);
  }),
  'a write of nothing past the end leaves the size': on('abc', async (file) => {
    assert.equal(await file.pwrite('', 100), 0);
    assert.equal((await file.fstat()).size, 3);
  }),
  'a negative position is EINVAL': on('abc', async (file) => {
    await fails('EINVAL', () => file.pread(1, -1));
    await fails('EINVAL', () => file.pwrite('x', -1));
  }),
  'a write past the end leaves zeros between': on('abc', async (file) => {
    await file.pwrite('x', 10_000);
    same(await all(file), overlaid(overlaid(zeros(10_001), Buffer.from('abc'), 0), Buffer.from('x'), 10_000));
  }),
  'a write within leaves the rest': on(pattern(20_000), async (file) => {
    await file.pwrite(pattern(100, 7), 4090);
    same(await all(file), overlaid(pattern(20_000), pattern(100, 7), 4090));
  }),
  'writes that overlap leave the last one': on('', async (file) => {
    await file.pwrite(pattern(9000, 1), 0);
    await file.pwrite(pattern(9000, 2), 5000);
    await file.pwrite(pattern(3000, 3), 4000);
    same(await all(file), overlaid(overlaid(pattern(9000, 1), pattern(9000, 2), 5000), pattern(3000, 3), 4000));
  }),
  'a write over the end extends': on(pattern(5000), async (file) => {
    await file.pwrite(pattern(5000, 2), 4000);
    assert.equal((await file.fstat()).size, 9000);
  }),
  'a write of a mebibyte and its read are whole': on('', async (file) => {
    const content = pattern(1024 * 1024);
    assert.equal(await file.write(content), content.length);
    same(await all(file), content);
  }),
  'bytes written one by one are a file': on('', async (file) => {
    const content = pattern(5000);
    for (let i = 0; i < content.length; i += 7) await file.write(content.subarray(i, i + 7));
    same(await all(file), content);
  }),
  'a file written backwards is whole': on('', async (file) => {
    const content = pattern(50_000);
    for (let at = 49_000; at >= 0; at -= 1000) await file.pwrite(content.subarray(at, at + 1000), at);
    same(await all(file), content);
  }),
  'what is written by one is read by another at once': on('abc', async (file, fs) => {
    await withFile(fs, 'f', O_RDONLY, async (other) => {
      assert.equal(text(await other.read(3)), 'abc');
      await file.pwrite('XYZ!', 0);
      assert.equal(text(await other.read(3)), '!');
      assert.equal(text(await other.pread(10, 0)), 'XYZ!');
      assert.equal((await other.fstat()).size, 4);
    });
  }),
  'content survives close and sync': async (fs) => {
    await put(fs, 'f', pattern(100_000));
    await withFile(fs, 'f', O_RDWR, (file) => file.fsync());
    same(await bytesIn(fs, 'f'), pattern(100_000));
  },
  'fsync, fdatasync and syncfs succeed, also of a file opened for reading': on('content', async (file, fs) => {
    await file.write('C');
    await file.fdatasync();
    await file.fsync();
    await file.syncfs();
    await withFile(fs, 'f', O_RDONLY, async (other) => {
      await other.fsync();
      await other.fdatasync();
    });
  }),
  'readv fills buffer after buffer': on('abcdefgh', async (file) => {
    assert.deepEqual((await file.readv([3, 0, 2])).map(text), ['abc', '', 'de']);
    assert.deepEqual((await file.readv([2, 5])).map(text), ['fg', 'h']);
    assert.deepEqual((await file.readv([2, 2], 1)).map(text), ['bc', 'de']);
  }),
  'writev writes buffer after buffer': on('', async (file) => {
    assert.equal(await file.writev(['abc', '', 'de']), 5);
    assert.equal(await file.writev(['X', 'Y'], 1), 2);
    assert.equal(text(await all(file)), 'aXYde');
    assert.equal(await file.lseek(0, SEEK_CUR), 5);
  }),
  'writev of nothing writes nothing': on('abc', async (file) => {
    assert.equal(await file.writev([]), 0);
    assert.equal(await file.writev(['', '']), 0);
    assert.equal(text(await all(file)), 'abc');
  }),
  'RWF_APPEND appends whatever the position': on('abc', async (file) => {
    assert.equal(await file.writev(['def'], 0, RWF_APPEND), 3);
    assert.equal(text(await all(file)), 'abcdef');
  }),
  'RWF_DSYNC writes like any other': on('abc', async (file) => {
    assert.equal(await file.writev(['X'], 1, RWF_DSYNC), 1);
    assert.equal(text(await all(file)), 'aXc');
  }),
  'lseek sets, adds, and counts from the end': on('abcdef', async (file) => {
    assert.equal(await file.lseek(2, SEEK_SET), 2);
    assert.equal(await file.lseek(3, SEEK_CUR), 5);
    assert.equal(await file.lseek(-4, SEEK_CUR), 1);
    assert.equal(await file.lseek(-1, SEEK_END), 5);
    assert.equal(text(await file.read(9)), 'f');
  }),
  'lseek past the end is allowed, and a write there extends': on('ab', async (file) => {
    assert.equal(await file.lseek(3, SEEK_END), 5);
    assert.equal((await file.fstat()).size, 2);
    assert.equal((await file.read(1)).length, 0);
    await file.write('x');
    assert.equal(text(await all(file)), 'ab\0\0\0x');
  }),
  'lseek before the beginning is EINVAL, and the position stays': on('abc', async (file) => {
    await file.lseek(2, SEEK_SET);
    await fails('EINVAL', () => file.lseek(-1, SEEK_SET));
    await fails('EINVAL', () => file.lseek(-3, SEEK_CUR));
    await fails('EINVAL', () => file.lseek(-4, SEEK_END));
    assert.equal(await file.lseek(0, SEEK_CUR), 2);
  }),
  'lseek of an unknown kind is EINVAL': on('abc', (file) => fails('EINVAL', () => file.lseek(0, 17))),
  'a FIFO has no position': async (fs) => {
    await fs.mknod('p', S_IFIFO | 0o600);
    await fails('ENXIO', () => fs.open('p', O_WRONLY | 0o4000));
  },
  'SEEK_DATA and SEEK_HOLE of a file without holes': on('abcdef', async (file) => {
    assert.equal(await file.lseek(2, SEEK_DATA), 2);
    assert.equal(await file.lseek(2, SEEK_HOLE), 6);
    assert.equal(await file.lseek(0, SEEK_CUR), 6);
  }),
  'SEEK_DATA and SEEK_HOLE at and past the end are ENXIO': on('abcdef', async (file) => {
    await fails('ENXIO', () => file.lseek(6, SEEK_DATA));
    await fails('ENXIO', () => file.lseek(6, SEEK_HOLE));
    await fails('ENXIO', () => file.lseek(100, SEEK_HOLE));
    await fails('ENXIO', () => file.lseek(-1, SEEK_DATA));
  }),
  'SEEK_DATA finds data behind a hole': needs(
    'sparse',
    on('', async (file) => {
      await file.pwrite(pattern(4096), 1024 * 1024);
      await file.ftruncate(3 * 1024 * 1024);
      const start = await file.lseek(0, SEEK_DATA);
      assert.ok(start > 0 && start <= 1024 * 1024, `data at ${start}`);
      assert.equal(await file.lseek(0, SEEK_HOLE), 0);
      const end = await file.lseek(1024 * 1024, SEEK_HOLE);
      assert.ok(end >= 1024 * 1024 + 4096 && end < 3 * 1024 * 1024, `hole at ${end}`);
      await fails('ENXIO', () => file.lseek(end, SEEK_DATA));
    }),
  ),
  'a file of nothing but a hole has no data and no blocks': needs(
    'sparse',
    on('', async (file) => {
      await file.ftruncate(1024 * 1024);
      await fails('ENXIO', () => file.lseek(0, SEEK_DATA));
      assert.equal(await file.lseek(5, SEEK_HOLE), 5);
      assert.equal((await file.fstat()).blocks, 0);
      same(await all(file), zeros(1024 * 1024));
    }),
  ),
  'blocks count what is written, not holes': needs(
    'sparse',
    on('', async (file) => {
      await file.pwrite(pattern(65_536), 2 ** 30);
      await file.fsync();
      const { blocks, size } = await file.fstat();
      assert.equal(size, 2 ** 30 + 65_536);
      assert.ok(blocks >= 128 && blocks <= 4096, `${blocks} blocks`);
    }),
  ),
  'a position of many gibibytes is a position': needs(
    'sparse',
    on('', async (file) => {
      for (const pos of [2 * GIB - 2, 4 * GIB - 2, 2 ** 42 + 1]) {
        await file.pwrite('edge', pos);
        assert.equal(text(await file.pread(10, pos)), 'edge');
        assert.equal((await file.fstat()).size, pos + 4);
      }
      same(await file.pread(4, 3 * GIB), zeros(4));
      await file.ftruncate(4 * GIB + 1);
      assert.equal(text(await file.pread(10, 4 * GIB - 2)), 'edg');
    }),
  ),
  'a file that would be too large is EFBIG': on('', async (file) => {
    await fails('EFBIG', () => file.ftruncate(2 ** 63 - 1024));
    await fails('EFBIG', () => file.pwrite('x', 2 ** 63 - 1024));
    assert.equal((await file.fstat()).size, 0);
  }),
  'truncate cuts': async (fs) => {
    await put(fs, 'f', 'content');
    await fs.truncate('f', 3);
    assert.equal(await textIn(fs, 'f'), 'con');
    await fs.truncate('f', 0);
    assert.equal((await fs.stat('f')).size, 0);
  },
  'truncate extends with zeros': async (fs) => {
    await put(fs, 'f', 'abc');
    await fs.truncate('f', 10_000);
    same(await bytesIn(fs, 'f'), overlaid(zeros(10_000), Buffer.from('abc'), 0));
  },
  'truncate to a negative size is EINVAL': async (fs) => {
    await put(fs, 'f', 'abc');
    await fails('EINVAL', () => fs.truncate('f', -1));
    await withFile(fs, 'f', O_WRONLY, (file) => fails('EINVAL', () => file.ftruncate(-1)));
  },
  'truncate follows links': async (fs) => {
    await put(fs, 'f', 'abc');
    await fs.symlink('f', 'l');
    await fs.truncate('l', 1);
    assert.equal(await textIn(fs, 'f'), 'a');
  },
  'ftruncate leaves the position': on('abcdef', async (file) => {
    await file.lseek(4, SEEK_SET);
    await file.ftruncate(2);
    assert.equal(await file.lseek(0, SEEK_CUR), 4);
    assert.equal((await file.read(1)).length, 0);
  }),
  'what was cut off is zeros when the file grows again': on(pattern(20_000), async (file) => {
    for (const size of [12_345, 8192, 4097, 100, 1]) {
      await file.ftruncate(size);
      await file.ftruncate(20_000);
      same(await all(file), overlaid(zeros(20_000), pattern(size), 0));
    }
  }),
  'what was cut off is zeros under a later write': on(pattern(8000), async (file) => {
    await file.ftruncate(10);
    await file.pwrite('end', 5000);
    same(await all(file), overlaid(overlaid(zeros(5003), pattern(10), 0), Buffer.from('end'), 5000));
  }),
  'what was cut off and synced is zeros as well': on(pattern(8000), async (file) => {
    await file.fsync();
    await file.ftruncate(5);
    await file.fsync();
    await file.ftruncate(8000);
    same(await all(file), overlaid(zeros(8000), pattern(5), 0));
  }),
  'truncation to the same size leaves the bytes': on(pattern(5000), async (file) => {
    await file.ftruncate(5000);
    same(await all(file), pattern(5000));
  }),
  'truncation frees blocks': needs(
    'sparse',
    on(pattern(500_000), async (file) => {
      await file.fsync();
      await file.ftruncate(0);
      assert.equal((await file.fstat()).blocks, 0);
    }),
  ),
  'copy_file_range copies within the bounds of the source': needs(
    'copyRange',
    on(pattern(10_000), async (file, fs) => {
      await put(fs, 'g', pattern(10, 9));
      await withFile(fs, 'g', O_RDWR, async (to) => {
        assert.equal(await file.copyFileRange(1000, to, 5, 3000), 3000);
        same(await all(to), overlaid(pattern(10, 9), pattern(10_000).subarray(1000, 4000), 5));
        assert.equal(await file.copyFileRange(9990, to, 0, 100), 10);
        assert.equal(await file.copyFileRange(10_000, to, 0, 100), 0);
        assert.equal(await file.copyFileRange(20_000, to, 0, 100), 0);
        assert.equal(await file.copyFileRange(0, to, 0, 0), 0);
        assert.equal((await to.fstat()).size, 3005);
      });
    }),
  ),
  'copy_file_range leaves both positions when it is given some': needs(
    'copyRange',
    on('abcdef', async (file, fs) => {
      await put(fs, 'g');
      await withFile(fs, 'g', O_RDWR, async (to) => {
        await file.copyFileRange(0, to, 0, 6);
        assert.deepEqual([await file.lseek(0, SEEK_CUR), await to.lseek(0, SEEK_CUR)], [0, 0]);
      });
    }),
  ),
  'copy_file_range within a file': needs(
    'copyRange',
    on(pattern(20_000), async (file) => {
      assert.equal(await file.copyFileRange(0, file, 10_000, 5000), 5000);
      same(await all(file), overlaid(pattern(20_000), pattern(20_000).subarray(0, 5000), 10_000));
      assert.equal(await file.copyFileRange(1000, file, 0, 1000), 1000);
      assert.equal(await file.copyFileRange(0, file, 1000, 1000), 1000);
      assert.deepEqual(await file.pread(1000, 0), await file.pread(1000, 1000));
    }),
  ),
  'copy_file_range onto itself, overlapping, is EINVAL': needs(
    'copyRange',
    on(pattern(10_000), async (file) => {
      await fails('EINVAL', () => file.copyFileRange(0, file, 100, 5000));
      await fails('EINVAL', () => file.copyFileRange(100, file, 0, 5000));
    }),
  ),
  'copy_file_range wants a source that is read and a target that is written': needs(
    'copyRange',
    on('abc', async (file, fs) => {
      await put(fs, 'g');
      await withFile(fs, 'g', O_RDONLY, (to) => fails('EBADF', () => file.copyFileRange(0, to, 0, 3)));
      await withFile(fs, 'g', O_WRONLY, (from) => fails('EBADF', () => from.copyFileRange(0, file, 0, 3)));
      await withFile(fs, 'g', O_WRONLY | O_APPEND, (to) => fails('EBADF', () => file.copyFileRange(0, to, 0, 3)));
    }),
  ),
  'copy_file_range of directories is EISDIR': needs(
    'copyRange',
    on('abc', async (file, fs) => {
      await fs.mkdir('d');
      await withFile(fs, 'd', O_RDONLY, (dir) => fails('EISDIR', () => dir.copyFileRange(0, file, 0, 3)));
    }),
  ),
  'a file of 1000 pieces is whole': async (fs) => {
    const file = await fs.open('f', O_RDWR | O_CREAT);
    let expected: Uint8Array = zeros(0);
    for (let i = 0; i < 1000; i++) {
      const [at, piece] = [(i * 7919) % 60_000, pattern(1 + ((i * 13) % 300), i)];
      await file.pwrite(piece, at);
      expected = overlaid(expected, piece, at);
    }
    same(await all(file), expected);
    await file.close();
  },
};
