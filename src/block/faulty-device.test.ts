import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../base/clock.ts';
import { Prng } from '../base/prng.ts';
import { Bio, type BioOp, emptyBio, REQ_ATOMIC, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, REQ_OP_WRITE_ZEROES } from './bio.ts';
import { type FaultRule, FaultyDevice } from './faulty-device.ts';
import { MemoryDevice } from './memory-device.ts';

class ManualClock implements Clock {
  time = 0;
  timers: { at: number; fire: () => void }[] = [];
  now(): number {
    return this.time;
  }
  async yield(): Promise<void> {}
  timer(delayMs: number, fire: () => void): () => void {
    const timer = { at: this.time + delayMs, fire };
    this.timers.push(timer);
    return () => void this.timers.splice(this.timers.indexOf(timer), 1);
  }
  advance(byMs: number): void {
    this.time += byMs;
    const due = this.timers.filter(({ at }) => at <= this.time);
    this.timers = this.timers.filter(({ at }) => at > this.time);
    for (const { fire } of due) fire();
  }
}

function setUp(seed = 1) {
  const memory = new MemoryDevice({ size: 65536, atomicWriteMax: 8192 });
  const clock = new ManualClock();
  const device = new FaultyDevice(memory, new Prng(seed), clock);
  const send = (op: BioOp, addr = 0, data: Uint8Array | number = 512, flags = 0): Bio => {
    const bio =
      typeof data === 'number' && op !== REQ_OP_READ && op !== REQ_OP_WRITE
        ? emptyBio(op, addr, data, flags, () => {})
        : new Bio(op, addr, flags, () => {});
    if (op === REQ_OP_READ || op === REQ_OP_WRITE) bio.add(typeof data === 'number' ? new Uint8Array(data) : data);
    device.submit(bio);
    return bio;
  };
  return { memory, clock, device, send };
}

test('without rules a request passes untouched', () => {
  const { memory, send } = setUp();
  assert.equal(send(REQ_OP_WRITE, 512, new Uint8Array(512).fill(3)).status, 0);
  assert.equal(memory.read(512, 1)[0], 3);
});

test('a rule hits its operations and range, after some and for some times', () => {
  const { memory, device, send } = setUp();
  const fault = device.inject({ ops: ['write'], addr: 1024, length: 512, errno: 'ENOSPC', skip: 1, times: 2 });
  const write = (addr: number): number => send(REQ_OP_WRITE, addr, new Uint8Array(512).fill(9)).status;
  assert.equal(write(512), 0);
  assert.equal(write(1536), 0);
  assert.equal(send(REQ_OP_READ, 1024).status, 0);
  assert.deepEqual([write(1024), write(1024), write(1024), write(1024)], [0, -28, -28, 0]);
  assert.equal(fault.hits, 2);

  device.heal();
  memory.fill(0);
  device.inject({ ops: ['write', 'write-zeroes'], errno: 'EIO' });
  const flush = device.inject({ ops: ['flush'], errno: 'EIO', addr: 4096, length: 1 });
  assert.equal(write(0), -5);
  assert.equal(send(REQ_OP_WRITE_ZEROES, 0, 1024).status, -5);
  assert.equal(memory.read(0, 1)[0], 0, 'a failed write that is not torn leaves nothing');
  assert.equal(send(REQ_OP_FLUSH, 0, 0).status, -5);
  flush.remove();
  assert.equal(send(REQ_OP_FLUSH, 0, 0).status, 0);
  assert.equal(send(REQ_OP_WRITE, 65536).status, -5, 'outside');
  assert.equal(send(REQ_OP_WRITE, 1).status, -22, 'what the device refuses is refused as before');
});

test('a torn write leaves a prefix of whole blocks, an atomic one nothing', () => {
  const prefixes = new Set<number>();
  for (let seed = 1; seed <= 60; seed++) {
    const { memory, device, send } = setUp(seed);
    device.inject({ ops: ['write'], errno: 'EIO', isTorn: true });
    assert.equal(send(REQ_OP_WRITE, 1024, new Uint8Array(2048).fill(1)).status, -5);
    const written = memory.read(0, 65536).reduce((sum, byte) => sum + byte, 0);
    assert.ok(memory.read(1024, written).every((byte) => byte === 1));
    prefixes.add(written);
    assert.equal(send(REQ_OP_WRITE, 8192, new Uint8Array(2048).fill(1), REQ_ATOMIC).status, -5);
    assert.ok(memory.read(8192, 2048).every((byte) => byte === 0));
  }
  assert.deepEqual(
    [...prefixes].sort((a, b) => a - b),
    [0, 512, 1024, 1536, 2048],
  );
});

test('a read is corrupted in as many bits as asked, the medium is not', () => {
  const { memory, device, send } = setUp();
  device.inject({ ops: ['read'], corruptBits: 5, times: 1 });
  const into = new Uint8Array(4096);
  assert.equal(send(REQ_OP_READ, 0, into).status, 0);
  const bits = into.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
  assert.equal(bits, 5);
  assert.ok(memory.read(0, 4096).every((byte) => byte === 0));
});

test('the same seed gives the same faults', () => {
  const run = (seed: number): number[] => {
    const { device, send } = setUp(seed);
    device.inject({ probability: 0.3, errno: 'EIO' });
    return Array.from({ length: 100 }, () => send(REQ_OP_READ).status);
  };
  assert.deepEqual(run(7), run(7));
  assert.notDeepEqual(run(7), run(8));
  const failed = run(7).filter((status) => status < 0).length;
  assert.ok(failed > 15 && failed < 50);
});

test('latency and hanging hold the completion', () => {
  const { clock, device, send, memory } = setUp();
  device.inject({ latencyMs: 10 });
  device.inject({ ops: ['write'], latencyMs: 5, errno: 'EIO', times: 1 });
  const read = send(REQ_OP_READ);
  const write = send(REQ_OP_WRITE);
  assert.ok(!read.hasEnded && !write.hasEnded);
  clock.advance(10);
  assert.ok(read.hasEnded && !write.hasEnded);
  clock.advance(5);
  assert.equal(write.status, -5);

  device.heal();
  const rule: FaultRule = { hangs: true, times: 2 };
  device.inject(rule);
  const first = send(REQ_OP_WRITE, 0, new Uint8Array(512).fill(4));
  const second = send(REQ_OP_FLUSH, 0, 0);
  assert.equal(device.hungCount, 2);
  assert.equal(memory.read(0, 1)[0], 4);
  device.release(1);
  assert.ok(first.hasEnded && !second.hasEnded);
  device.release();
  assert.ok(second.hasEnded);
  assert.equal(device.hungCount, 0);
});

test('close releases what hangs and waits for what is late', async () => {
  const { clock, device, send } = setUp();
  device.inject({ ops: ['read'], hangs: true });
  device.inject({ ops: ['write'], hangs: true, latencyMs: 50 });
  const read = send(REQ_OP_READ);
  const write = send(REQ_OP_WRITE);
  const closed = device.close();
  assert.ok(read.hasEnded && !write.hasEnded);
  clock.advance(50);
  await closed;
  assert.ok(write.hasEnded);
});
