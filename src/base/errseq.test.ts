import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import { ErrseqRecord } from './errseq.ts';

const EIO = -5;
const ENOSPC = -28;

class Opener {
  readonly record: ErrseqRecord;
  since: number;

  constructor(record: ErrseqRecord) {
    this.record = record;
    this.since = record.sample();
  }

  fsync(): number {
    const { errno, since } = this.record.checkAndAdvance(this.since);
    this.since = since;
    return errno;
  }
}

test('invariant 55: each opener gets an error once, and the last of several that nobody saw', () => {
  const record = new ErrseqRecord();
  const a = new Opener(record);
  const b = new Opener(record);
  assert.equal(a.fsync(), 0);
  record.set(EIO);
  record.set(ENOSPC);
  assert.equal(a.fsync(), ENOSPC);
  assert.equal(a.fsync(), 0);
  assert.equal(b.fsync(), ENOSPC);
  assert.equal(b.fsync(), 0);
});

test('invariant 55: who opens after an error that nobody saw gets it, who opens after it was seen does not', () => {
  const record = new ErrseqRecord();
  record.set(EIO);
  const early = new Opener(record);
  const twin = new Opener(record);
  assert.equal(early.fsync(), EIO);
  const late = new Opener(record);
  assert.equal(late.fsync(), 0);
  assert.equal(twin.fsync(), EIO);
  record.set(EIO); // the same number again is news all the same
  for (const opener of [early, twin, late]) assert.equal(opener.fsync(), EIO);
  for (const opener of [early, twin, late]) assert.equal(opener.fsync(), 0);
});

test('a look does not consume', () => {
  const record = new ErrseqRecord();
  const opener = new Opener(record);
  record.set(EIO);
  assert.equal(record.check(opener.since), EIO);
  assert.equal(record.check(opener.since), EIO);
  assert.equal(new Opener(record).fsync(), EIO); // still unseen when this one opened
  assert.equal(opener.fsync(), EIO);
  assert.equal(record.check(opener.since), 0);
});

test('no error, and a number that is none, are not recorded', () => {
  const record = new ErrseqRecord();
  const opener = new Opener(record);
  record.set(0);
  assert.equal(opener.fsync(), 0);
});

test('the counter moves only after a look, and wraps without losing the next error', () => {
  const record = new ErrseqRecord();
  const opener = new Opener(record);
  for (let i = 0; i < 2 ** 19 + 10; i++) {
    record.set(EIO);
    record.set(EIO);
    assert.equal(opener.fsync(), EIO, `error ${i}`);
  }
  assert.equal(opener.fsync(), 0);
  assert.ok(opener.since >= 0 && opener.since < 2 ** 32);
});

test('agrees with a list of errors and of who has seen how many', () =>
  forEachSeed('errseq', 200, (prng) => {
    const record = new ErrseqRecord();
    const errors: { errno: number; seen: boolean }[] = [];
    const openers: { opener: Opener; from: number }[] = [];
    for (let step = 0; step < 100; step++) {
      const op = prng.pick(['open', 'error', 'fsync', 'fsync']);
      if (op === 'open') {
        const last = errors[errors.length - 1];
        // An error that somebody saw is history for a new opener; one that nobody saw is his to report.
        openers.push({ opener: new Opener(record), from: last === undefined || last.seen ? errors.length : 0 });
      } else if (op === 'error') {
        const errno = -prng.between(1, 4095);
        errors.push({ errno, seen: false });
        record.set(errno);
      } else if (openers.length > 0) {
        const each = prng.pick(openers);
        const last = errors[errors.length - 1];
        const expected = last !== undefined && each.from < errors.length ? last.errno : 0;
        assert.equal(each.opener.fsync(), expected, `step ${step}`);
        each.from = errors.length;
        if (expected !== 0 && last !== undefined) last.seen = true;
      }
    }
  }));
