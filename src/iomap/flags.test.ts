import assert from 'node:assert/strict';
import test from 'node:test';
import { LinearFile } from '../../test/support/linear-file.ts';
import * as bio from '../block/bio.ts';
import * as falloc from '../vfs/uapi.ts';
import * as fiemap from './fiemap.ts';
import * as iocb from './iocb.ts';
import * as ioend from './ioend.ts';
import * as iomap from './iomap.ts';
import { seekData } from './seek.ts';

/** Constants of a module whose name begins with one of the prefixes. */
function flagsOf(module: object, ...prefixes: string[]): [string, number][] {
  return Object.entries(module).filter(
    ([name, value]) => typeof value === 'number' && prefixes.some((prefix) => name.startsWith(prefix)),
  ) as never;
}

const TYPES = ['IOMAP_HOLE', 'IOMAP_DELALLOC', 'IOMAP_MAPPED', 'IOMAP_UNWRITTEN', 'IOMAP_INLINE'];
const notFlags = [...TYPES, 'IOMAP_NULL_ADDR', 'IOMAP_F_FS_MASK', 'FALLOC_FL_ALLOCATE_RANGE', 'IOEND_BATCH_MAX'];

test('invariant 68, bug 26: every flag of a set is one bit, and no two are the same', () => {
  const sets = {
    'of mappings': flagsOf(iomap, 'IOMAP_F_'),
    'of operations': flagsOf(iomap, 'IOMAP_').filter(([name]) => !name.startsWith('IOMAP_F_')),
    'of ioends': flagsOf(ioend, 'IOEND_'),
    'of calls': flagsOf(iocb, 'IOCB_'),
    'of bios': flagsOf(bio, 'REQ_').filter(([name]) => !name.startsWith('REQ_OP_')),
    'of fiemap requests': flagsOf(fiemap, 'FIEMAP_FLAG_'),
    'of fiemap extents': flagsOf(fiemap, 'FIEMAP_EXTENT_'),
    'of fallocate': flagsOf(falloc, 'FALLOC_FL_'),
  };
  for (const [what, all] of Object.entries(sets)) {
    const flags = all.filter(([name]) => !notFlags.includes(name));
    assert.ok(flags.length > 1, what);
    let seen = 0;
    for (const [name, value] of flags) {
      assert.ok(value > 0 && (value & (value - 1)) === 0, `${name} is not one bit`);
      assert.equal(seen & value, 0, `${name} shares its bit with another flag ${what}`);
      seen |= value;
    }
  }
  const { IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_INLINE } = iomap;
  assert.deepEqual([IOMAP_HOLE, IOMAP_DELALLOC, IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_INLINE], [0, 1, 2, 3, 4]);
});

test('invariant 68: a filesystem sets flags of its own half only', () => {
  const core = ['IOMAP_F_FOLIO_BATCH', 'IOMAP_F_SIZE_CHANGED', 'IOMAP_F_STALE'];
  const refused = [...core, 'IOMAP_F_BUFFER_HEAD'];
  for (const [name, flag] of flagsOf(iomap, 'IOMAP_F_')) {
    if (name === 'IOMAP_F_FS_MASK') continue;
    assert.equal((flag & iomap.IOMAP_F_FS_MASK) === 0, core.includes(name), name);
    const file: LinearFile = new LinearFile({
      size: 4096,
      map: (_pos, _length, _flags, map) => {
        map.type = iomap.IOMAP_MAPPED;
        map.flags = flag;
        map.length = 4096;
        map.bdev = file.device;
        if (flag !== iomap.IOMAP_F_ANON_WRITE) map.addr = 0;
      },
    });
    const ask = () => seekData(file.inode, 0, file.io.ops);
    if (refused.includes(name)) assert.throws(ask, { code: 'EUCLEAN' }, name);
    else assert.equal(ask(), 0, name);
    assert.equal(file.inode.isBad, refused.includes(name), name);
  }
});

test('N7: a file that does not serve DONTCACHE refuses it, before anything happens', async () => {
  const file = new LinearFile({ size: 8192, allowsDontcache: false });
  await assert.rejects(file.write(0, new Uint8Array(10), iocb.IOCB_DONTCACHE), { code: 'EOPNOTSUPP', syscall: 'write' });
  await assert.rejects(file.read(0, 10, iocb.IOCB_DONTCACHE), { code: 'EOPNOTSUPP', syscall: 'read' });
  assert.equal(file.begins, 0);
  assert.equal(file.cache.folioCount, 0);
});
