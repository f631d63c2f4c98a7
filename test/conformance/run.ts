// Runs the conformance map on one file system: a subtest for each behaviour, in a fresh directory.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MaybePromise } from '../../src/base/task.ts';
import { Inexpressible, type PosixFace } from '../support/posix-face.ts';
import { FEATURES } from './behaviour.ts';
import { CONFORMANCE } from './map.ts';

/** What waits for ever is a failure of one behaviour, not of all. */
const TIMEOUT_MS = 60_000;

/** Behaviours that every file system and every face has; fewer would be no test of one. */
const AT_LEAST = 300;

export interface ConformanceTarget {
  /** A face over a fresh directory; ended after one behaviour. */
  open(): MaybePromise<PosixFace>;
  /** Features (behaviour.ts) and single behaviours, by name, that this one does not have, each with the reason. */
  readonly lacks: Readonly<Record<string, string>>;
}

/** One test with all behaviours below it. `target` is asked when the test runs; text instead is why it cannot run. */
export function runConformance(
  title: string,
  target: () => MaybePromise<(ConformanceTarget & { end?(): MaybePromise<void> }) | string>,
): void {
  void test(title, async (t) => {
    const found = await target();
    if (typeof found === 'string') return t.skip(found);
    let said = CONFORMANCE.size;
    try {
      for (const name of Object.keys(found.lacks)) assert.ok(name in FEATURES || CONFORMANCE.has(name), `nothing is called '${name}'`);
      for (const [name, behaviour] of CONFORMANCE) {
        const why = [name, ...(behaviour.needs ?? [])].map((each) => found.lacks[each]).find((reason) => reason !== undefined);
        if (why !== undefined) said--;
        await t.test(name, { skip: why ?? false, timeout: TIMEOUT_MS }, async (t) => {
          const face = await found.open();
          try {
            await behaviour(face);
          } catch (error) {
            if (!(error instanceof Inexpressible)) throw error;
            said--;
            t.skip(error.message);
          } finally {
            await face.end();
          }
        });
      }
      assert.ok(said >= AT_LEAST, `only ${said} behaviours can be said here`);
    } finally {
      await found.end?.();
    }
  });
}
