import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asOurs, type MountEntry, mountAt, parseMountInfo } from './mount-table.ts';

const TEXT = `21 26 0:20 / /proc rw,nosuid,nodev shared:12 master:1 - proc proc rw
43 27 0:40 / /mnt/a\\040b\\134c rw,noexec,relatime - fuse.iomap mem ro,user_id=0,group_id=0
44 27 0:41 / /mnt/two rw - tmpfs tmpfs rw
45 27 0:42 / /mnt/two rw - fuse.sshfs host:/dir rw
odd line
`;

function entry(type: string): MountEntry {
  return { device: '0:999999', directory: '/none', type, fsname: 'x', words: [] };
}

test('lines of the mount table are read with optional fields, escapes and words of both kinds', () => {
  const table = parseMountInfo(TEXT);
  assert.equal(table.length, 4);
  assert.deepEqual(table[1], {
    device: '0:40',
    directory: '/mnt/a b\\c',
    type: 'fuse.iomap',
    fsname: 'mem',
    words: ['rw', 'noexec', 'relatime', 'ro', 'user_id=0', 'group_id=0'],
  });
  assert.equal(table[0]?.type, 'proc');
});

test('of several mounts on a directory the last one is in sight', () => {
  assert.equal(mountAt('/mnt/two', parseMountInfo(TEXT))?.type, 'fuse.sshfs');
  assert.equal(mountAt('/mnt/two/', parseMountInfo(TEXT))?.type, 'fuse.sshfs');
  assert.equal(mountAt('/mnt', parseMountInfo(TEXT)), undefined);
});

test('mounts of others are not ours', () => {
  assert.ok(asOurs(entry('fuse.iomap')));
  for (const type of ['fuse', 'fuse.sshfs', 'fuse.iomap2', 'iomap', 'ext4', 'fuseblk']) assert.equal(asOurs(entry(type)), undefined, type);
});
