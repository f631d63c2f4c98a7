import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Bio,
  type BioOp,
  emptyBio,
  REQ_ATOMIC,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
} from './bio.ts';
import { checkBio } from './block-device.ts';
import { MemoryDevice } from './memory-device.ts';

const bdev = new MemoryDevice({ size: 1 << 20, logicalBlockSize: 1024, bioSizeMax: 65536, atomicWriteMax: 4096 });

function judge(op: BioOp, addr: number, length: number, flags = 0, hasData = op === REQ_OP_READ || op === REQ_OP_WRITE): number {
  const bio = hasData ? new Bio(op, addr, flags, () => {}) : emptyBio(op, addr, length, flags, () => {});
  if (hasData) bio.add(new Uint8Array(length));
  return checkBio(bdev, bio);
}

test('requests are judged before they touch the medium', () => {
  assert.equal(judge(REQ_OP_READ, 0, 1024), 0);
  assert.equal(judge(REQ_OP_READ, 512, 1024), -22);
  assert.equal(judge(REQ_OP_WRITE, 0, 512), -22);
  assert.equal(judge(REQ_OP_WRITE, Number.NaN, 1024), -22);
  assert.equal(judge(REQ_OP_READ, 1 << 20, 1024), -5);
  assert.equal(judge(REQ_OP_WRITE, (1 << 20) - 1024, 2048), -5);
  assert.equal(judge(REQ_OP_READ, -1024, 1024), -5);
  assert.equal(judge(REQ_OP_READ, 0, 66560), -22);
  assert.equal(judge(REQ_OP_READ, 0, 1024, 0, false), -22, 'a read without memory');
  assert.equal(judge(REQ_OP_WRITE, 0, 1024, 0, false), -22, 'a write without memory');
  assert.equal(judge(REQ_OP_FLUSH, 0, 0), 0);
  assert.equal(judge(REQ_OP_DISCARD, 0, 1 << 20), 0, 'no data, so no limit');
  assert.equal(judge(REQ_OP_WRITE_ZEROES, 0, 1536), -22);
});

test('an atomic write has to be one that the device keeps whole', () => {
  assert.equal(judge(REQ_OP_WRITE, 0, 4096, REQ_ATOMIC), 0);
  assert.equal(judge(REQ_OP_WRITE, 0, 8192, REQ_ATOMIC), -22);
  const bio = new Bio(REQ_OP_WRITE, 0, REQ_ATOMIC, () => {});
  bio.add(new Uint8Array(512));
  assert.equal(checkBio(new MemoryDevice({ size: 4096 }), bio), -22, 'a device without atomic writes');
});
