import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needsAtimeUpdate } from './atime.ts';
import { S_IFDIR, S_IFREG } from './uapi.ts';

const DAY = 24 * 60 * 60;

/** Times as [seconds, nanoseconds]. */
function times(atime: [number, number], mtime: [number, number], ctime = mtime) {
  return { atime: atime[0], atimeNsec: atime[1], mtime: mtime[0], mtimeNsec: mtime[1], ctime: ctime[0], ctimeNsec: ctime[1] };
}

const NOW = { sec: 1000, nsec: 500 };

test('relatime updates an atime that is not after mtime and ctime, to the nanosecond', () => {
  const cases: [atime: [number, number], mtime: [number, number], ctime: [number, number], expected: boolean][] = [
    [[900, 10], [800, 0], [800, 0], false],
    [[900, 10], [900, 9], [900, 9], false],
    [[900, 10], [900, 10], [800, 0], true],
    [[900, 10], [800, 0], [900, 10], true],
    [[900, 10], [900, 11], [800, 0], true],
    [[900, 10], [800, 99], [901, 0], true],
    [[-5, 10], [-5, 9], [-6, 99], false],
    [[-5, 10], [-4, 0], [-6, 99], true],
  ];
  for (const [atime, mtime, ctime, expected] of cases) {
    for (const mode of [S_IFREG, S_IFDIR]) {
      assert.equal(needsAtimeUpdate('relatime', times(atime, mtime, ctime), mode, NOW), expected, JSON.stringify({ atime, mtime, ctime }));
    }
  }
});

test('relatime updates an atime that is a day old, and not one from the future', () => {
  const old = times([0, 999], [-1, 0]);
  assert.equal(needsAtimeUpdate('relatime', old, S_IFREG, { sec: DAY - 1, nsec: 999_999_999 }), false);
  assert.equal(needsAtimeUpdate('relatime', old, S_IFREG, { sec: DAY, nsec: 0 }), true);
  assert.equal(needsAtimeUpdate('relatime', times([NOW.sec + 10 * DAY, 0], [0, 0]), S_IFREG, NOW), false);
});

test('noatime never updates, strictatime always, nodiratime is relatime for all but directories', () => {
  const fresh = times([900, 0], [800, 0]);
  const stale = times([800, 0], [900, 0]);
  const answers = (policy: Parameters<typeof needsAtimeUpdate>[0]) =>
    [fresh, stale].flatMap((each) => [S_IFREG, S_IFDIR].map((mode) => needsAtimeUpdate(policy, each, mode, NOW)));
  assert.deepEqual(answers('noatime'), [false, false, false, false]);
  assert.deepEqual(answers('strictatime'), [true, true, true, true]);
  assert.deepEqual(answers('relatime'), [false, false, true, true]);
  assert.deepEqual(answers('nodiratime'), [false, false, true, false]);
});

test('an atime that is now already is not updated', () => {
  const same = times([NOW.sec, NOW.nsec], [NOW.sec, NOW.nsec]);
  assert.equal(needsAtimeUpdate('strictatime', same, S_IFREG, NOW), false);
  assert.equal(needsAtimeUpdate('relatime', same, S_IFREG, NOW), false);
  assert.equal(needsAtimeUpdate('strictatime', same, S_IFREG, { sec: NOW.sec, nsec: NOW.nsec + 1 }), true);
});
