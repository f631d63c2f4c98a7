import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeSb } from '../../../test/support/ext4-world.ts';
import { crc32c } from '../../base/crc.ts';
import { type FsError, hasCode } from '../../base/fs-error.ts';
import { Prng } from '../../base/prng.ts';
import { run } from '../../base/task.ts';
import { readDevice, writeDevice } from '../../block/block-device.ts';
import { MemoryDevice } from '../../block/memory-device.ts';
import type { Ext4Sb } from './ext4-sb.ts';
import { EXT4_MMP_SEQ_CLEAN, EXT4_MMP_SEQ_FSCK, Mmp, type MmpHost, mmp_struct } from './mmp.ts';

const S = 0xb720167d;
const BLOCK = 40;

/** A host whose time is the test's. `meanwhile` happens in each sleep. */
class TestHost implements MmpHost {
  readonly nodename = 'a host with a name that is very much longer than the sixty-four bytes which it gets';
  readonly prng = new Prng(7);
  readonly sleeps: number[] = [];
  meanwhile: (nth: number) => void = () => {};
  fire: (() => void) | undefined = undefined;

  now() {
    return { sec: 1_700_000_000, nsec: 0 };
  }

  async sleep(ms: number): Promise<void> {
    this.sleeps.push(ms);
    this.meanwhile(this.sleeps.length);
  }

  timer(_delayMs: number, fire: () => void): () => void {
    this.fire = fire;
    return () => {
      this.fire = undefined;
    };
  }
}

function world(seq: number): { sb: Ext4Sb; host: TestHost } {
  const sb = fakeSb({
    csumSeed: S,
    es: { fields: { s_mmp_block_lo: BLOCK, s_mmp_block_hi: 0, s_mmp_update_interval: 5 } },
  });
  write(sb, seq);
  return { sb, host: new TestHost() };
}

function write(sb: Ext4Sb, seq: number, node = ''): void {
  const data = new Uint8Array(1024);
  mmp_struct.write(data, 0, {
    mmp_magic: 0x004d4d50,
    mmp_seq: seq,
    mmp_time: 1_700_000_000n,
    mmp_check_interval: 5,
    mmp_nodename: node,
  });
  mmp_struct.view().at(data).mmp_checksum = crc32c(S, data, 0, 0x3fc);
  void writeDevice(sb.bdev, BLOCK * 1024, data);
}

function read(sb: Ext4Sb) {
  assert.ok(sb.bdev instanceof MemoryDevice);
  const data = new Uint8Array(1024);
  void readDevice(sb.bdev, BLOCK * 1024, data);
  return mmp_struct.read(data);
}

const start = async (sb: Ext4Sb, host: TestHost, onLost: (why: FsError) => void = () => {}): Promise<Mmp> =>
  await run(Mmp.start(sb, host, onLost));
const isBusy = (error: unknown): boolean => hasCode(error, 'EBUSY');

/** Lets what a timer began come to its end. */
async function settle(host: TestHost): Promise<void> {
  const fire = host.fire;
  host.fire = undefined;
  fire?.();
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

test('the checksum is that of mke2fs', () => {
  const { sb } = world(EXT4_MMP_SEQ_CLEAN);
  assert.equal(read(sb).mmp_checksum, 0x73e426c7);
});

test('a clean volume is taken after one watch, renewed, and given back', async () => {
  const { sb, host } = world(EXT4_MMP_SEQ_CLEAN);
  const mmp = await start(sb, host);
  assert.deepEqual(host.sleeps, [11_000]);
  const first = read(sb);
  assert.ok(first.mmp_seq > 0 && first.mmp_seq < EXT4_MMP_SEQ_FSCK);
  assert.equal(first.mmp_nodename, host.nodename.slice(0, 64));
  assert.equal(first.mmp_check_interval, 10);
  await settle(host);
  assert.equal(read(sb).mmp_seq, first.mmp_seq + 1);
  await settle(host);
  assert.equal(read(sb).mmp_seq, first.mmp_seq + 2);
  await mmp.close();
  assert.equal(read(sb).mmp_seq, EXT4_MMP_SEQ_CLEAN);
  assert.equal(host.fire, undefined);
});

test('a volume that somebody holds or checks is busy', async () => {
  const held = world(1000);
  held.host.meanwhile = () => write(held.sb, 1001, 'other');
  await assert.rejects(start(held.sb, held.host), (error) => isBusy(error) && String(error).includes('other'));
  const checked = world(EXT4_MMP_SEQ_FSCK);
  await assert.rejects(start(checked.sb, checked.host), isBusy);
  const raced = world(EXT4_MMP_SEQ_CLEAN);
  raced.host.meanwhile = () => write(raced.sb, 77, 'quick');
  await assert.rejects(start(raced.sb, raced.host), isBusy);
  assert.equal(read(raced.sb).mmp_seq, 77, 'the winner is left alone');
});

test('a volume that was left by a crash is taken after two watches', async () => {
  const { sb, host } = world(1000);
  const mmp = await start(sb, host);
  assert.equal(host.sleeps.length, 2);
  await mmp.close();
});

test('who loses the volume is told, and does not touch the block again', async () => {
  const { sb, host } = world(EXT4_MMP_SEQ_CLEAN);
  const lost: FsError[] = [];
  const mmp = await start(sb, host, (why) => lost.push(why));
  write(sb, 4711, 'thief');
  await settle(host);
  assert.deepEqual(
    lost.map(({ code }) => code),
    ['EBUSY'],
  );
  assert.equal(host.fire, undefined);
  await mmp.close();
  assert.equal(read(sb).mmp_seq, 4711);
});

test('a block that is none is refused', async () => {
  const { sb, host } = world(EXT4_MMP_SEQ_CLEAN);
  void writeDevice(sb.bdev, BLOCK * 1024, new Uint8Array(1024).fill(1));
  await assert.rejects(start(sb, host), (error) => hasCode(error, 'EUCLEAN'));
  write(sb, EXT4_MMP_SEQ_CLEAN);
  const bad = new Uint8Array(1024);
  void readDevice(sb.bdev, BLOCK * 1024, bad);
  bad[5] = 0;
  void writeDevice(sb.bdev, BLOCK * 1024, bad);
  await assert.rejects(start(sb, host), (error) => hasCode(error, 'EBADMSG'));
});
