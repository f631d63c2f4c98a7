import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../base/fs-error.ts';
import { Prng } from '../base/prng.ts';
import { Bio, emptyBio, REQ_FUA, REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { DeviceLog, log_header, log_record } from './device-log.ts';
import { MemoryDevice } from './memory-device.ts';

function sampleLog(): DeviceLog {
  const log = new DeviceLog({ size: 1 << 20, logicalBlockSize: 512, hasVolatileCache: true });
  const bio = new Bio(REQ_OP_WRITE, 1024, REQ_FUA, () => {});
  bio.add(new Uint8Array(100).fill(1));
  bio.add(new Uint8Array(412).fill(2));
  const write = log.submit(bio);
  const zeroes = log.submit(emptyBio(REQ_OP_WRITE_ZEROES, 0, 1024, 0, () => {}));
  log.complete(zeroes, 0);
  log.mark('zeroed, äöü');
  log.complete(write, -5);
  log.complete(log.submit(emptyBio(REQ_OP_DISCARD, 4096, 512, 0, () => {})), 0);
  log.complete(log.submit(emptyBio(REQ_OP_FLUSH, 0, 0, 0, () => {})), 0);
  log.submit(bio);
  return log;
}

test('a log survives encoding', () => {
  const log = sampleLog();
  const again = DeviceLog.decode(log.encode());
  assert.deepEqual(again.entries, log.entries);
  assert.equal(again.time, log.time);
  assert.deepEqual([again.deviceSize, again.logicalBlockSize, again.hasVolatileCache], [1 << 20, 512, true]);
  assert.deepEqual(again.marks(), ['zeroed, äöü']);
  assert.deepEqual(again.marks(3), []);
  assert.deepEqual(
    log.events().map(({ id }) => id),
    [0, 1, 1, 2, 0, 3, 3, 4, 4, 5],
  );
  const empty = new DeviceLog({ size: 512, logicalBlockSize: 512, hasVolatileCache: false });
  assert.equal(DeviceLog.decode(empty.encode()).entries.length, 0);
});

test('a log that encode() cannot have made is refused', () => {
  const good = sampleLog().encode();
  const refuse = (what: string, spoil: (bytes: Uint8Array) => unknown): void => {
    const bytes = good.slice();
    const result = spoil(bytes);
    const spoilt = result instanceof Uint8Array ? result : bytes;
    assert.throws(() => DeviceLog.decode(spoilt), { code: 'EUCLEAN' }, what);
  };
  const header = (bytes: Uint8Array) => log_header.view().at(bytes);
  const first = (bytes: Uint8Array) => log_record.view().at(bytes, log_header.size);
  refuse('empty', () => new Uint8Array(0));
  refuse('cut', (bytes) => bytes.subarray(0, bytes.length - 1));
  refuse('left over', (bytes) => Uint8Array.from([...bytes, 0]));
  refuse('magic', (bytes) => void (bytes[0] = 0));
  refuse('version', (bytes) => void (header(bytes).version = 2));
  refuse('flags', (bytes) => void (header(bytes).flags = 2));
  refuse('block size', (bytes) => void (header(bytes).block_size = 0));
  refuse('device size', (bytes) => void (header(bytes).device_size = 1000));
  refuse('many records', (bytes) => void (header(bytes).record_count = 0xffffffff));
  refuse('one record less', (bytes) => void header(bytes).record_count--);
  refuse('op', (bytes) => void (first(bytes).op = 7));
  refuse('outside', (bytes) => void (first(bytes).addr = 1 << 20));
  refuse('misaligned', (bytes) => void (first(bytes).addr = 1));
  refuse('past 2^53', (bytes) => void bytes.fill(0xff, log_header.size + 8, log_header.size + 16));
  refuse('length without data', (bytes) => void (first(bytes).length = 1024));
  refuse('data beyond the end', (bytes) => void (first(bytes).data_length = 0x7fffffff));
  refuse('positive status', (bytes) => void (first(bytes).status = 5));
  refuse('completed before submitted', (bytes) => void (first(bytes).completed = 1));
  refuse('event twice', (bytes) => void (first(bytes).completed = 3));
  refuse('event past the last', (bytes) => void (first(bytes).completed = 1000));
  refuse('submission out of order', (bytes) => void (first(bytes).submitted = 4));
});

test('any bytes decode or are refused', () => {
  const seed = Number(process.env['SEED'] ?? 1);
  const prng = new Prng(seed);
  const good = sampleLog().encode();
  for (let round = 0; round < 5000; round++) {
    const bytes = good.slice(0, prng.chance(0.2) ? prng.below(good.length) : good.length);
    for (let n = prng.between(1, 4); n > 0 && bytes.length > 0; n--) bytes[prng.below(bytes.length)] = prng.below(256);
    try {
      const log = DeviceLog.decode(bytes);
      assert.deepEqual(log.encode().length, bytes.length);
    } catch (error) {
      assert.ok(error instanceof FsError && error.code === 'EUCLEAN', `seed ${seed}, round ${round}: ${error}`);
    }
  }
});

test('replay does what succeeded by then, in order of completion and in requests that the device takes', async () => {
  const log = new DeviceLog({ size: 65536, logicalBlockSize: 512, hasVolatileCache: false });
  const submit = (addr: number, length: number, value: number) => {
    const bio = new Bio(REQ_OP_WRITE, addr, 0, () => {});
    bio.add(new Uint8Array(length).fill(value));
    return log.submit(bio);
  };
  const a = submit(0, 4096, 1);
  const b = submit(0, 2048, 2);
  const c = submit(8192, 512, 3);
  submit(8704, 512, 4);
  log.complete(b, 0);
  log.complete(c, -5);
  log.complete(a, 0);
  log.complete(log.submit(emptyBio(REQ_OP_FLUSH, 0, 0, 0, () => {})), 0);
  const device = new MemoryDevice({ size: 65536, bioSizeMax: 1024 });
  assert.equal(log.replay(device, 5), undefined);
  assert.deepEqual([device.read(0, 1)[0], device.read(2048, 1)[0]], [2, 0]);
  await log.replay(device);
  assert.deepEqual([device.read(0, 1)[0], device.read(4095, 1)[0], device.read(8192, 1)[0], device.read(8704, 1)[0]], [1, 1, 0, 0]);
  assert.throws(() => log.replay(new MemoryDevice({ size: 2048 })), { code: 'EIO' });
});
