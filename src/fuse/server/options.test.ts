import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemFs } from '../../../test/support/mem-fs.ts';
import { SharedFileSystem } from '../../vfs/shared-file-system.ts';
import { FUSE_KERNEL_MINOR_VERSION } from '../abi/flags.ts';
import * as init from '../abi/init-flags.ts';
import { agree, bufferSize, type InitOffer, maxWriteOf, optionsFor, type ServerOptions } from './options.ts';

/** A kernel that has everything. */
const OFFER: InitOffer = { major: 7, minor: 45, max_readahead: 131072, flags: 0x73fffffb, flags2: 0x7fd };

const agreed = (options: ServerOptions, mask: number): boolean => init.hasInitFlag(agree(OFFER, options).agreement.flags, mask);

test('the older of both versions holds, from 7.23 on', () => {
  assert.equal(agree({ ...OFFER, minor: 31 }, {}).reply.minor, 31);
  assert.equal(agree({ ...OFFER, minor: 23 }, {}).agreement.minor, 23);
  assert.equal(agree({ ...OFFER, minor: 99 }, {}).reply.minor, FUSE_KERNEL_MINOR_VERSION);
  for (const old of [{ minor: 22 }, { minor: 0 }, { major: 6, minor: 99 }]) {
    assert.throws(() => agree({ ...OFFER, ...old }, {}), { code: 'EPROTO' });
  }
  const { reply } = agree({ ...OFFER, major: 8, minor: 1 }, {});
  assert.deepEqual([reply.major, reply.minor], [7, FUSE_KERNEL_MINOR_VERSION]);
});

test('nothing is agreed on that the kernel does not offer', () => {
  for (let bit = 0; bit < 43; bit++) {
    const mask = 2 ** bit;
    const { flags, flags2 } = init.initFlagsOf(mask);
    const { agreement, reply } = agree({ ...OFFER, flags, flags2 }, { flags: [mask], requestTimeout: 60, exportSupport: true });
    assert.deepEqual([reply.flags, reply.flags2], [agreement.flags.flags, agreement.flags.flags2]);
    assert.equal((agreement.flags.flags & ~flags) >>> 0, 0, `bit ${bit}`);
    assert.equal((agreement.flags.flags2 & ~flags2) >>> 0, 0, `bit ${bit}`);
  }
});

test('each option asks for its flags, and leaves them out', () => {
  const rows: [ServerOptions, ServerOptions, number][] = [
    [{}, { writebackCache: false }, init.FUSE_WRITEBACK_CACHE],
    [{}, { posixAcl: false }, init.FUSE_POSIX_ACL],
    [{}, { locks: false }, init.FUSE_POSIX_LOCKS],
    [{}, { locks: false }, init.FUSE_FLOCK_LOCKS],
    [{ readdirplus: 'always' }, { readdirplus: 'never' }, init.FUSE_DO_READDIRPLUS],
    [{}, { readdirplus: 'always' }, init.FUSE_READDIRPLUS_AUTO],
    [{}, { readdirplus: 'never' }, init.FUSE_READDIRPLUS_AUTO],
    [{}, { cacheSymlinks: false }, init.FUSE_CACHE_SYMLINKS],
    [{}, { parallelDirops: false }, init.FUSE_PARALLEL_DIROPS],
    [{}, { asyncRead: false }, init.FUSE_ASYNC_READ],
    [{}, { asyncDirectIo: false }, init.FUSE_ASYNC_DIO],
    [{}, { directMmap: false }, init.FUSE_DIRECT_IO_ALLOW_MMAP],
    [{}, { invalidation: 'explicit' }, init.FUSE_AUTO_INVAL_DATA],
    [{}, { invalidation: 'none' }, init.FUSE_AUTO_INVAL_DATA],
    [{ invalidation: 'explicit' }, { invalidation: 'none' }, init.FUSE_EXPLICIT_INVAL_DATA],
    [{}, { atomicTruncate: false }, init.FUSE_ATOMIC_O_TRUNC],
    [{}, { noOpen: true }, init.FUSE_ATOMIC_O_TRUNC],
    [{}, { killSetId: false }, init.FUSE_HANDLE_KILLPRIV_V2],
    [{}, { supplementaryGroups: false }, init.FUSE_CREATE_SUPP_GROUP],
    [{ passthrough: true }, {}, init.FUSE_PASSTHROUGH],
    [{ exportSupport: true }, {}, init.FUSE_EXPORT_SUPPORT],
    [{}, { exportSupport: true }, init.FUSE_NO_EXPORT_SUPPORT],
    [{ requestTimeout: 30 }, {}, init.FUSE_REQUEST_TIMEOUT],
    [{ flags: [init.FUSE_SECURITY_CTX] }, {}, init.FUSE_SECURITY_CTX],
    [{ securityContext: true }, {}, init.FUSE_SECURITY_CTX],
    [{}, { withoutFlags: [init.FUSE_MAX_PAGES] }, init.FUSE_MAX_PAGES],
    [{}, { flags: [init.FUSE_ASYNC_READ], withoutFlags: [init.FUSE_ASYNC_READ] }, init.FUSE_ASYNC_READ],
  ];
  for (const [yes, no, mask] of rows) {
    const name = init.initFlagNames(init.initFlagsOf(mask)).join();
    assert.equal(agreed(yes, mask), true, `${name} with ${JSON.stringify(yes)}`);
    assert.equal(agreed(no, mask), false, `${name} with ${JSON.stringify(no)}`);
  }
});

test('numbers are passed on, within what the kernel offers and its fields hold', () => {
  const { reply, agreement } = agree(OFFER, {
    maxWrite: 65536,
    maxReadahead: 2 ** 20,
    maxBackground: 10,
    timeGran: 1000,
    requestTimeout: 7,
  });
  assert.equal(reply.max_write, 65536);
  assert.equal(reply.max_pages, 16);
  assert.equal(reply.max_readahead, OFFER.max_readahead);
  assert.deepEqual([reply.max_background, reply.congestion_threshold], [10, 7]);
  // The kernel waits for our own answer, and some.
  assert.deepEqual([reply.time_gran, reply.request_timeout], [1000, 22]);
  assert.equal(agreement.maxWrite, 65536);
  assert.equal(agree(OFFER, { maxReadahead: 4096 }).reply.max_readahead, 4096);
  assert.equal(agree(OFFER, { maxBackground: 8, congestionThreshold: 2 }).reply.congestion_threshold, 2);
  assert.equal(agree(OFFER, { maxWrite: 5000 }).reply.max_pages, 2);
});

test('passthrough is asked for with a depth of stack, and without a writeback cache', () => {
  const options = optionsFor(new MemFs(), { passthrough: true, maxStackDepth: 2 });
  const { reply, agreement } = agree(OFFER, options);
  assert.equal(init.hasInitFlag(agreement.flags, init.FUSE_PASSTHROUGH), true);
  assert.equal(init.hasInitFlag(agreement.flags, init.FUSE_WRITEBACK_CACHE), false);
  assert.equal(reply.max_stack_depth, 2);
  assert.equal(agree(OFFER, {}).reply.max_stack_depth, 0);
});

test('defaults follow the filesystem: nothing is held back where it changes elsewhere, handles are told where numbers last', () => {
  const fs = new MemFs();
  const own = optionsFor(fs, {});
  assert.deepEqual([own.writebackCache, own.exportSupport], [true, true]);
  const shared = optionsFor(new SharedFileSystem(fs).face(), {});
  assert.deepEqual([shared.writebackCache, shared.exportSupport], [false, true]);
  assert.equal(optionsFor(fs, { writebackCache: false, exportSupport: false }).exportSupport, false);
});

test('options that do not go together are refused', () => {
  const refused: ServerOptions[] = [
    { noOpen: true },
    { noOpendir: true },
    { passthrough: true, writebackCache: true },
    { maxStackDepth: 3 },
    { requestTimeout: -1 },
    { requestTimeout: 70_000 },
    { maxWrite: 1 },
  ];
  for (const options of refused) assert.throws(() => optionsFor(new MemFs(), options), { code: 'EINVAL' }, JSON.stringify(options));
  const stateless = new (class extends MemFs {
    override readonly isStateless = true;
  })();
  assert.throws(() => optionsFor(stateless, { noOpen: true, atomicTruncate: true }), { code: 'EINVAL' });
  const options = optionsFor(stateless, { noOpen: true });
  assert.equal(agreed(options, init.FUSE_ATOMIC_O_TRUNC), false);
});

test('the largest WRITE is from 4096 bytes to 65535 pages, and the buffer holds it and the largest attribute', () => {
  for (const maxWrite of [0, 4095, 4096.5, 65535 * 4096 + 1, Number.NaN]) assert.throws(() => maxWriteOf({ maxWrite }), { code: 'EINVAL' });
  assert.equal(maxWriteOf({}), 2 ** 20);
  for (const maxWrite of [4096, 65536, 2 ** 20, 65535 * 4096]) {
    assert.ok(bufferSize(maxWriteOf({ maxWrite })) >= Math.max(8192, 80 + maxWrite, 80 + 65536 + 256), `${maxWrite}`);
  }
});
