// Attributes, inline data and orphans between the kernel's ext4, e2fsck and us.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { errnoCodeOf } from '../../src/base/fs-error.ts';
import type { Prng } from '../../src/base/prng.ts';
import type { Ext4Inode } from '../../src/fs/ext4/ext4-inode.ts';
import { clearInline, inlineCapacity, readInline, startInline, writeInline } from '../../src/fs/ext4/inline-data.ts';
import { getInode } from '../../src/fs/ext4/inode-table.ts';
import { loadOrphans } from '../../src/fs/ext4/orphan.ts';
import { getXattr, listXattrs, releaseXattrs, setXattr } from '../../src/fs/ext4/xattr.ts';
import { formatAcl, parseAclText } from '../../src/vfs/posix-acl.ts';
import { ImageFile, noE2fsprogs, type OpenImage } from '../support/ext4-image.ts';
import { forEachSeed } from '../support/seeds.ts';

const MIB = 2 ** 20;
const ALL = 'inline_data,ea_inode';
const ACL = formatAcl(parseAclText('u::rw,u:1000:rwx,g::r,g:2000:r-x,m::rwx,o::r'));

/** Python, which can set attributes; node and the shell cannot. Its directory is that of the mount. */
function python(program: string): string {
  return `cd "$0"; python3 -c '${program}'`;
}

function inodeAt(image: ImageFile, open: OpenImage, path: string): Ext4Inode {
  return open.now(getInode(open.sb, image.inoOf(path)));
}

test('attributes and inline data that the kernel has written are read', { skip: noE2fsprogs }, (t) => {
  const image = new ImageFile(32 * MIB, ['-b', '4096', '-O', ALL]);
  try {
    const why = image.withMount(
      python(`
import os
names = "none inline block shared1 shared2 big acl content dir".split()
for name in names[:-1]: open(name, "w").close()
os.mkdir("dir")
os.setxattr("inline", "user.a", b"hello")
os.setxattr("inline", "trusted.t", b"")
os.setxattr("block", "user.small", b"in the inode")
os.setxattr("block", "user.mid", b"m" * 1900)
os.setxattr("block", b"user.\\xff", b"n" * 300)
for name in ("shared1", "shared2"): os.setxattr(name, "user.same", b"s" * 500)
os.setxattr("big", "user.big", b"B" * 5120)
os.setxattr("acl", "system.posix_acl_access", bytes.fromhex("${Buffer.from(ACL).toString('hex')}"))
os.setxattr("dir", "system.posix_acl_default", bytes.fromhex("${Buffer.from(ACL).toString('hex')}"))
with open("content", "w") as f: f.write("x" * 100)
os.setxattr("content", "user.mid", b"m" * 1900)
`),
    );
    if (why !== undefined) return t.skip(why);
    const open = image.open();
    const read = (path: string): Record<string, string> => {
      const inode = inodeAt(image, open, path);
      const names = open.now(listXattrs(inode)).filter((name) => name !== 'security.selinux');
      return Object.fromEntries(names.map((name) => [name, Buffer.from(open.now(getXattr(inode, name)) ?? '').toString('latin1')]));
    };
    assert.deepEqual(read('/none'), {});
    assert.deepEqual(read('/inline'), { 'user.a': 'hello', 'trusted.t': '' });
    assert.deepEqual(read('/block'), { 'user.small': 'in the inode', 'user.mid': 'm'.repeat(1900), 'user.\udcff': 'n'.repeat(300) });
    assert.deepEqual(read('/shared1'), { 'user.same': 's'.repeat(500) });
    assert.equal(inodeAt(image, open, '/shared1').fileAcl, inodeAt(image, open, '/shared2').fileAcl);
    assert.deepEqual(read('/big'), { 'user.big': 'B'.repeat(5120) });
    assert.deepEqual(open.now(getXattr(inodeAt(image, open, '/acl'), 'system.posix_acl_access')), ACL);
    assert.deepEqual(open.now(getXattr(inodeAt(image, open, '/dir'), 'system.posix_acl_default')), ACL);
    const content = inodeAt(image, open, '/content');
    assert.ok(content.hasInlineData);
    assert.equal(Buffer.from(readInline(content)).toString(), 'x'.repeat(100));
    assert.deepEqual(read('/content'), { 'user.mid': 'm'.repeat(1900) });
  } finally {
    image.end();
  }
});

test('values and blocks that the kernel shares keep their counts when we change and remove them', { skip: noE2fsprogs }, (t) => {
  const image = new ImageFile(32 * MIB, ['-b', '4096', '-O', `${ALL},^has_journal`]);
  try {
    const why = image.withMount(
      python(`
import os
for name in ("a", "b", "c", "d", "e"):
  open(name, "w").close()
  if name in "cde": os.setxattr(name, "user.fill", b"f" * 48)
  os.setxattr(name, "user.x", b"V" * 5120)
  os.setxattr(name, "user.y", b"V" * 5120)
`),
    );
    if (why !== undefined) return t.skip(why);
    image.repair(); // Linux 6.18 counts a value once too often when it finds a block to share
    assert.equal(image.fsck(), '');
    const open = image.open();
    const [a, b, c, d, e] = ['a', 'b', 'c', 'd', 'e'].map((name) => inodeAt(image, open, `/${name}`)) as [
      Ext4Inode,
      Ext4Inode,
      Ext4Inode,
      Ext4Inode,
      Ext4Inode,
    ];
    assert.equal(c.fileAcl, d.fileAcl);
    const big = new Uint8Array(5120).fill(0x56);
    open.update((h) => setXattr(h, a, 'user.x', undefined));
    assert.deepEqual(open.now(getXattr(a, 'user.y')), big);
    open.update((h) => releaseXattrs(h, b));
    open.update((h) => setXattr(h, c, 'user.z', new Uint8Array(300)));
    open.update((h) => setXattr(h, d, 'user.y', undefined));
    open.save();
    assert.equal(image.fsck(), '');
    open.update((h) => releaseXattrs(h, e));
    assert.deepEqual(open.now(getXattr(c, 'user.y')), big);
    for (const inode of [a, c, d, e])
      for (const name of open.now(listXattrs(inode))) open.update((h) => setXattr(h, inode, name, undefined));
    for (const inode of [a, b, c, d, e]) assert.equal(inode.blocks, 0);
    open.save();
    assert.equal(image.fsck(), '');
  } finally {
    image.end();
  }
});

function randomValue(prng: Prng, blockSize: number): Uint8Array {
  const size = prng.below(prng.pick([5, 40, 200, blockSize - 100, blockSize + 100, 3 * blockSize]));
  return prng.chance(0.5) ? new Uint8Array(size).fill(65 + prng.below(3)) : prng.bytes(size);
}

const FILES = ['a', 'b', 'c', 'd'];
const NAMES = ['user.a', 'user.bb', 'security.ccc', 'trusted.a-long-name', 'user.\udcff'];

for (const { title, options } of [
  { title: 'blocks of 1 KiB', options: ['-b', '1024', '-O', `${ALL},^has_journal`] },
  { title: 'blocks of 4 KiB', options: ['-b', '4096', '-O', `${ALL},^has_journal`] },
  { title: 'large inodes', options: ['-b', '4096', '-I', '1024', '-O', `${ALL},^has_journal`] },
  { title: 'no ea_inode, no checksums, small inodes', options: ['-b', '1024', '-I', '128', '-O', '^metadata_csum,^has_journal'] },
  { title: 'bigalloc', options: ['-b', '1024', '-O', `${ALL},bigalloc,^has_journal`, '-C', '8192'] },
  { title: 'no ext_attr', options: ['-b', '1024', '-O', '^ext_attr,^has_journal'] },
  { title: 'no extents', options: ['-b', '1024', '-O', 'ea_inode,^extent,^64bit,^has_journal'] },
]) {
  test(`e2fsck and the kernel agree with what we have written: ${title}`, { skip: noE2fsprogs }, (t) =>
    forEachSeed(`xattr image, ${title}`, 3, (prng) => {
      const image = new ImageFile(16 * MIB, options);
      try {
        for (const name of FILES) image.debugfs(`write /dev/null ${name}`, '-w');
        image.repair();
        const open = image.open();
        const { sb } = open;
        const inos = new Map(FILES.map((name) => [name, image.inoOf(name)]));
        const inodeOf = (on: OpenImage, name: string): Ext4Inode => on.now(getInode(on.sb, inos.get(name) as number));
        const model = new Map(FILES.map((name) => [name, new Map<string, Uint8Array>()]));
        const contents = new Map<string, Uint8Array>();
        const attempt = (body: () => void): boolean => {
          try {
            body();
            return true;
          } catch (error) {
            assert.equal(errnoCodeOf(error), 'ENOSPC', String((error as Error).stack));
            return false;
          }
        };
        for (let step = 0; step < 80; step++) {
          const name = prng.pick(FILES);
          const inode = inodeOf(open, name);
          const attributes = model.get(name) as Map<string, Uint8Array>;
          const attribute = prng.pick(NAMES);
          if (prng.chance(0.15) && title.startsWith('blocks')) {
            const content = prng.bytes(prng.below(140));
            open.update(function* (h) {
              if (!inode.hasInlineData && !(yield* startInline(h, inode))) return;
              if (content.length <= inlineCapacity(inode)) {
                yield* writeInline(h, inode, content);
                contents.set(name, content);
              } else {
                inode.size = 0;
                yield* clearInline(h, inode);
                contents.delete(name);
              }
            });
          } else if (prng.chance(0.25)) {
            open.update((h) => setXattr(h, inode, attribute, undefined));
            attributes.delete(attribute);
          } else {
            const value = randomValue(prng, sb.blockSize);
            if (attempt(() => open.update((h) => setXattr(h, inode, attribute, value)))) attributes.set(attribute, value);
          }
        }
        open.save();
        assert.equal(image.fsck(), '');

        const again = image.open();
        for (const [name, attributes] of model) {
          const inode = inodeOf(again, name);
          assert.deepEqual(new Set(again.now(listXattrs(inode))), new Set(attributes.keys()));
          for (const [attribute, value] of attributes) assert.deepEqual(again.now(getXattr(inode, attribute)), value);
        }
        const expected = Object.fromEntries(
          [...model].map(([name, attributes]) => [
            name,
            Object.fromEntries(
              [...attributes].map(([key, value]) => [key.replace('\udcff', '\u00ff'), Buffer.from(value).toString('hex')]),
            ),
          ]),
        );
        const list = `${image.path}.json`;
        writeFileSync(
          list,
          JSON.stringify({ attributes: expected, contents: [...contents].map(([k, v]) => [k, Buffer.from(v).toString('hex')]) }),
        );
        const why = image.withMount(
          python(`
import json, os
wanted = json.load(open("${list}"))
for name, attributes in wanted["attributes"].items():
  keys = [k.encode("latin1") for k in attributes]
  found = [os.fsencode(k) for k in os.listxattr(name)]
  assert sorted(k for k in found if k != b"security.selinux") == sorted(keys), (name, found, keys)
  for key, value in attributes.items():
    assert os.getxattr(name, key.encode("latin1")).hex() == value, (name, key)
for name, content in wanted["contents"]:
  assert open(name, "rb").read().hex() == content, name
`),
        );
        if (why !== undefined) t.diagnostic(why);
      } finally {
        image.end();
      }
    }),
  );
}

for (const { title, options } of [
  { title: 'on the list', options: ['-O', '^orphan_file'] },
  { title: 'in the file', options: ['-O', 'orphan_file'] },
]) {
  test(`orphans that a crash of the kernel has left are found ${title}`, { skip: noE2fsprogs }, (t) => {
    const image = new ImageFile(32 * MIB, ['-b', '4096', ...options]);
    try {
      const copy = `${image.path}.copy`;
      const why = image.withMount(
        python(`
import os, shutil
files = []
for name in ("a", "b", "c", "kept"):
  files.append(open(name, "w"))
  files[-1].write("x" * 10000)
for name in ("a", "b", "c"): os.unlink(name)
os.sync()
shutil.copyfile("${image.path}", "${copy}")
`),
      );
      if (why !== undefined) return t.skip(why);
      execFileSync('cp', [copy, image.path]);
      image.debugfs('journal_run', '-w');
      const open = image.open();
      const orphans = open.now(loadOrphans(open.sb, (ino) => getInode(open.sb, ino)));
      assert.equal(orphans.length, 3);
      for (const ino of orphans) {
        const inode = open.now(getInode(open.sb, ino));
        assert.equal(inode.nlink, 0);
        assert.equal(inode.size, 10000);
      }
    } finally {
      image.end();
    }
  });
}
