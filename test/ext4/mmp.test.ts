// Multiple mount protection of an image that mke2fs has made.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Prng } from '../../src/base/prng.ts';
import { run } from '../../src/base/task.ts';
import { Mmp } from '../../src/fs/ext4/mmp.ts';
import { ImageFile, noE2fsprogs } from '../support/ext4-image.ts';

test('e2fsprogs see who has an image, and that it was given back', { skip: noE2fsprogs }, async () => {
  const image = new ImageFile(8 * 2 ** 20, ['-b', '1024', '-O', 'mmp,^has_journal']);
  try {
    const open = image.open();
    const host = {
      nodename: 'test-host',
      prng: new Prng(3),
      now: () => ({ sec: 1_700_000_000, nsec: 0 }),
      sleep: async () => {},
      timer: () => () => {},
    };
    const mmp = await run(Mmp.start(open.sb, host, () => assert.fail('nobody takes it')));
    open.save();
    const held = image.debugfs('dump_mmp');
    assert.match(held, /node_name: test-host/);
    assert.doesNotMatch(held, /sequence: ff4d4d50/);
    await assert.rejects(
      run(Mmp.start(image.open().sb, { ...host, sleep: () => Promise.reject(new Error('waits')) }, () => {})) as Promise<Mmp>,
      /waits/,
    );
    await mmp.close();
    open.save();
    assert.match(image.debugfs('dump_mmp'), /sequence: ff4d4d50/);
    assert.equal(image.fsck(), '');
  } finally {
    image.end();
  }
});
