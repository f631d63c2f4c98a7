import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../../test/support/seeds.ts';
import {
  allocatorOf,
  type FakeHandle,
  type FakeLog,
  inodesOf,
  inodeWorld,
  newInode,
  now,
  useInodeFakes,
} from '../../../test/support/xattr-world.ts';
import { errnoCodeOf, hasCode } from '../../base/fs-error.ts';
import type { Prng } from '../../base/prng.ts';
import type { Task } from '../../base/task.ts';
import { formatAcl, parseAclText } from '../../vfs/posix-acl.ts';
import { S_IFLNK, XATTR_CREATE, XATTR_REPLACE } from '../../vfs/uapi.ts';
import type { Ext4Inode } from './ext4-inode.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { INCOMPAT_EXTENTS } from './features.ts';
import { EXT4_EA_INODE_FL, EXT4_INLINE_DATA_FL } from './format.ts';

useInodeFakes();
const { getXattr, listXattrs, releaseXattrs, setXattr } = await import('./xattr.ts');
const { clearInline, inlineCapacity, readInline, setInlineValue, startInline, writeInline } = await import('./inline-data.ts');

const CREDITS = 300;
const bytes = (value: string): Uint8Array => Uint8Array.from(Buffer.from(value, 'latin1'));
const text = (value: Uint8Array | undefined): string | undefined => value && Buffer.from(value).toString('latin1');

/** One change: whole, or not at all by an error. */
function update<T>(sb: Ext4Sb, body: (h: FakeHandle) => Task<T>): T {
  const h = (sb.log as FakeLog).start(CREDITS);
  try {
    const answer = now(body(h));
    h.stop();
    return answer;
  } catch (error) {
    h.rollback();
    throw error;
  }
}

/** Everything to the device, and nothing in core: what is read next has passed all checks. */
function reread(sb: Ext4Sb): void {
  (sb.log as FakeLog).commit();
  sb.buffers.dropClean();
}

const set = (inode: Ext4Inode, name: string, value: Uint8Array | undefined, flags = 0): void =>
  update(inode.sb, (h) => setXattr(h, inode, name, value, flags));
const get = (inode: Ext4Inode, name: string): Uint8Array | undefined => now(getXattr(inode, name));
const refuses = (body: () => unknown, code: Parameters<typeof hasCode>[1]): void =>
  assert.throws(body, (error) => hasCode(error, code), code);

test('an attribute is set, replaced and removed as flags allow', () => {
  const inode = newInode(inodeWorld(), 20);
  set(inode, 'user.a', bytes('hello'), XATTR_CREATE);
  assert.equal(text(get(inode, 'user.a')), 'hello');
  refuses(() => set(inode, 'user.a', bytes('x'), XATTR_CREATE), 'EEXIST');
  refuses(() => set(inode, 'user.b', bytes('x'), XATTR_REPLACE), 'ENODATA');
  refuses(() => set(inode, 'user.b', undefined, XATTR_REPLACE), 'ENODATA');
  set(inode, 'user.b', undefined);
  set(inode, 'user.a', bytes('y'), XATTR_REPLACE);
  assert.equal(text(get(inode, 'user.a')), 'y');
  set(inode, 'user.a', new Uint8Array(0));
  assert.equal(get(inode, 'user.a')?.length, 0);
  set(inode, 'user.a', undefined);
  assert.equal(get(inode, 'user.a'), undefined);
  assert.deepEqual(now(listXattrs(inode)), []);
  assert.ok(
    inode.ea.every((byte) => byte === 0),
    'an empty area has no magic',
  );
  refuses(() => set(inode, 'user.a', new Uint8Array(65537)), 'E2BIG');
  refuses(() => set(inode, 'system.data', bytes('x')), 'EOPNOTSUPP');
  refuses(() => get(inode, 'system.data'), 'EOPNOTSUPP');
});

test('an inode without extra fields has its attributes in the block', () => {
  const inode = newInode(inodeWorld(), 20);
  inode.extraIsize = 0;
  set(inode, 'user.a', bytes('hello'));
  assert.notEqual(inode.fileAcl, 0);
  assert.equal(text(get(inode, 'user.a')), 'hello');
});

test('an ACL crosses over in the form of userspace, and has its own on disk', () => {
  const inode = newInode(inodeWorld(), 20);
  const acl = formatAcl(parseAclText('u::rw,u:1000:rwx,g::r,g:2000:r-x,m::rwx,o::r'));
  set(inode, 'system.posix_acl_access', acl);
  assert.deepEqual(get(inode, 'system.posix_acl_access'), acl);
  assert.deepEqual(now(listXattrs(inode)), ['system.posix_acl_access']);
  const disk = Buffer.from(inode.ea).toString('hex');
  assert.ok(disk.includes('010000000100060002000700e80300000400040008000500d00700001000070020000400'));
  refuses(() => set(inode, 'system.posix_acl_access', bytes('x')), 'EINVAL');
  set(inode, 'system.posix_acl_access', formatAcl([]));
  assert.equal(get(inode, 'system.posix_acl_access'), undefined);
});

test('without ea_inode a value that no place holds is ENOSPC, and nothing changes', () => {
  const inode = newInode(inodeWorld({ incompat: INCOMPAT_EXTENTS }), 20);
  set(inode, 'user.a', new Uint8Array(900).fill(1));
  const before = Buffer.from(inode.ea);
  refuses(() => set(inode, 'user.big', new Uint8Array(1000)), 'ENOSPC');
  set(inode, 'user.exact', new Uint8Array(60).fill(2));
  refuses(() => set(inode, 'user.c', new Uint8Array(80)), 'ENOSPC');
  assert.notDeepEqual(Buffer.from(inode.ea), before);
  assert.equal(get(inode, 'user.a')?.length, 900);
});

test('inodes with equal blocks share one, and a change takes a copy', () => {
  const sb = inodeWorld();
  const [a, b, c] = [newInode(sb, 20), newInode(sb, 21), newInode(sb, 22)] as const;
  const value = new Uint8Array(300).fill(7);
  for (const inode of [a, b, c]) set(inode, 'user.same', value);
  assert.equal(b.fileAcl, a.fileAcl);
  assert.equal(c.fileAcl, a.fileAcl);
  reread(sb);
  set(b, 'user.more', new Uint8Array(100));
  assert.notEqual(b.fileAcl, a.fileAcl);
  assert.deepEqual(get(b, 'user.same'), value);
  assert.equal(get(a, 'user.more'), undefined);
  update(sb, (h) => releaseXattrs(h, a));
  assert.deepEqual(get(c, 'user.same'), value);
  update(sb, (h) => releaseXattrs(h, b));
  update(sb, (h) => releaseXattrs(h, c));
  (sb.log as FakeLog).commit();
  assert.deepEqual(allocatorOf(sb).usedFrom(16), []);
  for (const inode of [a, b, c]) assert.equal(inode.blocks, 0);
});

test('a large value lies in an inode of its own, which goes with it', () => {
  const sb = inodeWorld();
  const inode = newInode(sb, 20);
  const value = Uint8Array.from({ length: 5120 }, (_, i) => i);
  set(inode, 'user.big', value);
  const [own] = [...inodesOf(sb).values()].filter(({ flags }) => (flags & EXT4_EA_INODE_FL) !== 0);
  assert.equal(own?.size, 5120);
  assert.equal(inode.blocks, 10, 'the owner pays for it');
  reread(sb);
  assert.deepEqual(get(inode, 'user.big'), value);
  (own as Ext4Inode).size = 5000;
  refuses(() => get(inode, 'user.big'), 'EUCLEAN');
  (own as Ext4Inode).size = 5120;
  (own as Ext4Inode).atime = { sec: 1, nsec: 0 };
  refuses(() => get(inode, 'user.big'), 'EUCLEAN');
  set(inode, 'user.big', undefined);
  (sb.log as FakeLog).commit();
  assert.equal(inodesOf(sb).size, 1);
  assert.equal(inode.blocks, 0);
  assert.deepEqual(allocatorOf(sb).usedFrom(16), []);
});

test('a link refers to values in inodes from its block only', () => {
  const link = newInode(inodeWorld(), 20, S_IFLNK | 0o777);
  set(link, 'security.big', new Uint8Array(3000));
  assert.notEqual(link.fileAcl, 0);
  assert.ok(
    link.ea.every((byte) => byte === 0),
    'e2fsck takes the text of a link without a block, but with blocks counted, for pointers',
  );
});

test('an inode with many values gives them up in as many handles as it takes', () => {
  const sb = inodeWorld();
  const inode = newInode(sb, 20);
  const names = Array.from({ length: 20 }, (_, i) => `user.${i}`);
  for (const [i, name] of names.entries()) set(inode, name, new Uint8Array(2000).fill(i));
  const h = (sb.log as FakeLog).start(20);
  h.extensible = 0;
  let restarts = 0;
  const restart = h.restart.bind(h);
  h.restart = () => {
    restarts++;
    // What is there now is whole: the values that are listed can be read.
    for (const name of now(listXattrs(inode))) assert.equal(get(inode, name)?.length, 2000);
    restart(20); // never as much as was asked for
  };
  now(releaseXattrs(h, inode));
  h.stop();
  assert.ok(restarts > 1);
  reread(sb);
  assert.equal(inodesOf(sb).size, 1);
  assert.equal(inode.blocks, 0);
  assert.deepEqual(allocatorOf(sb).usedFrom(16), []);
});

test('a value that the transaction has no room for is refused whole', () => {
  const sb = inodeWorld();
  const inode = newInode(sb, 20);
  const h = (sb.log as FakeLog).start(40);
  h.extensible = 10;
  refuses(() => now(setXattr(h, inode, 'user.big', new Uint8Array(65536))), 'ENOSPC');
  h.rollback();
  assert.equal(inodesOf(sb).size, 1);
});

test('content of 128 bytes is inline in an inode of 256 bytes, and of 129 is not', () => {
  const sb = inodeWorld();
  const inode = newInode(sb, 20);
  assert.ok(update(sb, (h) => startInline(h, inode)));
  assert.equal(inlineCapacity(inode), 128);
  assert.ok(update(sb, (h) => writeInline(h, inode, new Uint8Array(128).fill(5))));
  assert.deepEqual(readInline(inode), new Uint8Array(128).fill(5));
  assert.equal(
    update(sb, (h) => writeInline(h, inode, new Uint8Array(129))),
    false,
  );
  assert.equal(inode.size, 128);
  set(inode, 'user.a', bytes('x'));
  assert.notEqual(inode.fileAcl, 0, 'an attribute has no room beside it');
  update(sb, (h) => clearInline(h, inode));
  assert.equal(inode.hasInlineData, false);
  assert.equal(inode.hasExtents, true);
  refuses(() => update(sb, (h) => setInlineValue(h, inode, new Uint8Array(69))), 'ENOSPC');
});

/** A file of the model: attributes by name, and inline content if any. */
interface Model {
  readonly inode: Ext4Inode;
  attributes: Map<string, Uint8Array>;
  content: Uint8Array | undefined;
}

const NAMES = ['user.a', 'user.bb', 'trusted.c', 'security.selinux', 'user.long-name-of-an-attribute', 'user.\udcff'];

function randomValue(prng: Prng, blockSize: number): Uint8Array {
  const kinds = [0, 4, 30, 70, 200, blockSize / 2 + 10, blockSize - 80, blockSize + 1, 3 * blockSize];
  const size = prng.below(prng.pick(kinds) + 1);
  // Few different values, so that blocks are alike.
  return prng.chance(0.5) ? new Uint8Array(size).fill(prng.below(3)) : prng.bytes(size);
}

function checkFile({ inode, attributes, content }: Model): void {
  assert.deepEqual(new Set(now(listXattrs(inode))), new Set(attributes.keys()));
  for (const [name, value] of attributes) assert.deepEqual(get(inode, name), value, name);
  if (content !== undefined) assert.deepEqual(readInline(inode), content);
}

for (const { title, incompat } of [
  { title: 'with values in inodes', incompat: undefined },
  { title: 'without', incompat: INCOMPAT_EXTENTS },
]) {
  test(`attributes and inline data agree with a map, ${title}; what is rolled back did not happen`, () =>
    forEachSeed(`xattr model ${title}`, 25, (prng) => {
      const blockSize = prng.pick([1024, 4096]);
      const eaSize = prng.pick([0, 96, 352]);
      const sb = inodeWorld({ blockSize, blocks: 4096, eaSize, ...(incompat === undefined ? {} : { incompat }) });
      const files: Model[] = Array.from({ length: 4 }, (_, i) => ({
        inode: newInode(sb, 900 + i),
        attributes: new Map(),
        content: undefined,
      }));

      const change = (file: Model, next: Model, body: (h: FakeHandle) => Task<unknown>): void => {
        const h = (sb.log as FakeLog).start(CREDITS);
        try {
          now(body(h));
        } catch (error) {
          h.rollback();
          assert.ok(['ENOSPC', 'EEXIST', 'ENODATA'].includes(errnoCodeOf(error) ?? ''), String(error));
          return;
        }
        if (prng.chance(0.2)) {
          h.rollback();
          return;
        }
        h.stop();
        file.attributes = next.attributes;
        file.content = next.content;
      };

      const ops = {
        set(file: Model): void {
          const name = prng.pick(NAMES);
          const value = randomValue(prng, blockSize);
          const flags = prng.pick([0, 0, 0, XATTR_CREATE, XATTR_REPLACE]);
          change(file, { ...file, attributes: new Map(file.attributes).set(name, value) }, (h) =>
            setXattr(h, file.inode, name, value, flags),
          );
        },
        remove(file: Model): void {
          const name = prng.pick(NAMES);
          const attributes = new Map(file.attributes);
          attributes.delete(name);
          change(file, { ...file, attributes }, (h) => setXattr(h, file.inode, name, undefined));
        },
        inline(file: Model): void {
          const content = prng.bytes(prng.below(200));
          const fits = content.length <= inlineCapacity(file.inode) && inlineCapacity(file.inode) > 0;
          change(file, { ...file, content: fits ? content : file.content }, function* (h) {
            if (file.content === undefined && !(yield* startInline(h, file.inode))) return;
            const done = yield* writeInline(h, file.inode, content);
            assert.equal(done, fits);
            if (!done && file.content === undefined) yield* clearInline(h, file.inode);
          });
        },
        block(file: Model): void {
          if (file.content !== undefined) change(file, { ...file, content: undefined }, (h) => clearInline(h, file.inode));
        },
        release(file: Model): void {
          change(file, { ...file, attributes: new Map() }, function* (h) {
            yield* releaseXattrs(h, file.inode);
            for (const name of file.attributes.keys()) yield* setXattr(h, file.inode, name, undefined);
          });
        },
        reread(): void {
          reread(sb);
        },
      };

      for (let step = 0; step < 120; step++) {
        const file = prng.pick(files);
        const name = prng.pick(['set', 'set', 'set', 'remove', 'inline', 'block', 'release', 'reread'] as const);
        ops[name](file);
        for (const each of files) checkFile(each);
        assert.equal((file.inode.flags & EXT4_INLINE_DATA_FL) !== 0, file.content !== undefined);
        const values = [...inodesOf(sb).values()].filter(({ flags }) => (flags & EXT4_EA_INODE_FL) !== 0);
        const blocks = allocatorOf(sb).usedFrom(16).length;
        assert.ok(values.length <= files.length * NAMES.length && blocks >= values.length, `step ${step}: ${name}`);
      }
      for (const file of files) update(sb, (h) => releaseXattrs(h, file.inode));
      reread(sb);
      for (const { inode } of files) assert.equal(inode.blocks, 0, 'nothing is charged for nothing');
      assert.equal(inodesOf(sb).size, files.length);
      assert.deepEqual(allocatorOf(sb).usedFrom(16), []);
    }));
}

test('damaged blocks and areas give an error or an answer', () =>
  forEachSeed('mutated attributes', 150, (prng) => {
    const sb = inodeWorld({ hasCsum: prng.chance(0.1) });
    const files = [newInode(sb, 20), newInode(sb, 21)] as const;
    for (const inode of files) {
      for (const name of NAMES) {
        try {
          set(inode, name, randomValue(prng, 1024));
        } catch (error) {
          assert.ok(hasCode(error, 'ENOSPC'), String(error));
        }
      }
    }
    reread(sb);
    const [inode] = files;
    const target = prng.chance(0.5) && inode.fileAcl !== 0 ? now(readForChange(sb, inode.fileAcl)) : inode.ea;
    for (let i = 0; i < 1 + prng.below(4); i++) target[prng.below(Math.min(target.length, 120))] = prng.pick([0, 1, 255, prng.below(256)]);
    const attempts: (() => unknown)[] = [
      () => now(listXattrs(inode)),
      ...NAMES.map((name) => () => get(inode, name)),
      () => set(inode, 'user.a', randomValue(prng, 1024)),
      () => set(inode, 'trusted.c', undefined),
      () => update(sb, (h) => releaseXattrs(h, inode)),
    ];
    for (const attempt of attempts) {
      try {
        attempt();
      } catch (error) {
        assert.notEqual(errnoCodeOf(error), undefined, String((error as Error).stack));
      }
    }
  }));

function* readForChange(sb: Ext4Sb, blocknr: number): Task<Uint8Array> {
  const bh = sb.buffers.read(blocknr) as { data: Uint8Array };
  return bh.data;
}
