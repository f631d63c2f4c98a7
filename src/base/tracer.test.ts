import assert from 'node:assert/strict';
import { channel } from 'node:diagnostics_channel';
import { test } from 'node:test';
import { bindTracer, TracePoint, traceNames } from './tracer.ts';

test('a point is silent until it is bound, then events reach the channel of its name, for points made later too', () => {
  const early = new TracePoint('iomap.test.early');
  assert.equal(early.channel.hasSubscribers, false);
  early.channel.publish({ lost: true });

  const events: unknown[] = [];
  const listen = (event: unknown, name: unknown): void => void events.push([name, event]);
  channel('iomap.test.early').subscribe(listen);
  channel('iomap.test.late').subscribe(listen);
  bindTracer(channel); // the shape is that of node:diagnostics_channel
  const late = new TracePoint('iomap.test.late');
  for (const point of [early, late]) {
    assert.equal(point.channel.hasSubscribers, true);
    point.channel.publish({ from: point.name });
  }
  assert.deepEqual(events, [
    ['iomap.test.early', { from: 'iomap.test.early' }],
    ['iomap.test.late', { from: 'iomap.test.late' }],
  ]);
  channel('iomap.test.early').unsubscribe(listen);
  assert.equal(early.channel.hasSubscribers, false);
});

test('the names of all points are known, sorted', () => {
  new TracePoint('iomap.test.b');
  new TracePoint('iomap.test.a');
  const names = traceNames();
  assert.deepEqual(names, [...names].sort());
  assert.ok(names.includes('iomap.test.a') && names.includes('iomap.test.b'));
});
