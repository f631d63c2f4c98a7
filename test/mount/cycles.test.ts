// Mounts that are made and ended again and again. CYCLES=1000 makes more of them than the usual 200.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { mount } from '../../src/fuse/mount/mount.ts';
import { MEM_SOURCE, whyNoMount, withDirectory } from '../support/fuse-mount.ts';

const CYCLES = Number(process.env['CYCLES'] ?? 200);
const LANES = ['a', 'b'];
/** Bytes of heap, and of all memory, that may be more afterwards, however many mounts there were. */
const HEAP_MARGIN = 4 * 2 ** 20;
const RSS_MARGIN = 96 * 2 ** 20;

test(`${CYCLES} mounts leak no descriptor, no thread and no memory`, { skip: whyNoMount(), timeout: 30_000 + CYCLES * 400 }, () =>
  withDirectory(async (directory) => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const lanes = LANES.map((name) => join(directory, name));
    for (const lane of lanes) mkdirSync(lane);
    const cycles = async (lane: string, count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const mounted = await mount(MEM_SOURCE, lane);
        writeFileSync(join(lane, 'file'), 'content');
        await mounted.unmount();
        assert.equal(existsSync(join(lane, 'file')), false);
      }
    };
    const used = () => {
      collect();
      const { heapUsed, rss } = process.memoryUsage();
      return { fds: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length, heapUsed, rss };
    };
    await Promise.all(lanes.map((lane) => cycles(lane, 10)));
    const before = used();
    await Promise.all(lanes.map((lane) => cycles(lane, Math.ceil(CYCLES / lanes.length))));
    const after = used();
    assert.deepEqual([after.fds, after.threads], [before.fds, before.threads]);
    assert.ok(after.heapUsed - before.heapUsed < HEAP_MARGIN, `${after.heapUsed - before.heapUsed} bytes of heap more`);
    assert.ok(after.rss - before.rss < RSS_MARGIN, `${after.rss - before.rss} bytes of memory more`);
  }),
);
