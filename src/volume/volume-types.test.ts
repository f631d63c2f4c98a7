import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as fsp from 'node:fs/promises';
import { test } from 'node:test';
import { MemFs } from '../../test/support/mem-fs.ts';
import type { FileHandle } from './file-handle.ts';
import { Volume } from './volume.ts';
import type { VolumeSync } from './volume-sync.ts';

// The compiler checks this file: what node:fs takes, a volume takes. What they answer differs by Buffer and Uint8Array, and is compared by
// the oracle tests.

/** Names of functions in a type. */
type Functions<T> = { [K in keyof T]: T[K] extends (...args: never[]) => unknown ? K : never }[keyof T];

/** The parameters of each overload, up to six. */
type Overloads<T> = T extends {
  (...args: infer A): unknown;
  (...args: infer B): unknown;
  (...args: infer C): unknown;
  (...args: infer D): unknown;
  (...args: infer E): unknown;
  (...args: infer F): unknown;
}
  ? A | B | C | D | E | F
  : never;

/** Names K of Theirs that Ours lacks, or does not take the same arguments for. */
type Lacking<Theirs, Ours, Excepted> = {
  [K in Exclude<Functions<Theirs>, Excepted>]: K extends keyof Ours ? (Overloads<Theirs[K]> extends Overloads<Ours[K]> ? never : K) : K;
}[Exclude<Functions<Theirs>, Excepted>];

/** Fails to compile with the names in the message. */
function none<_Names extends never>(): void {}

/** They take a FileHandle of the volume, not one of the host. */
type PromisesExcepted = 'readFile' | 'writeFile' | 'appendFile';
none<Lacking<typeof fsp, Volume, PromisesExcepted>>();

none<Lacking<fsp.FileHandle, FileHandle, never>>();

/** Synchronous functions of node:fs. */
type SyncNames = Extract<Functions<typeof fs>, `${string}Sync`>;
none<Lacking<Pick<typeof fs, SyncNames>, VolumeSync, never>>();

test('every function of node:fs/promises of this Node is a method of Volume', async () => {
  await using volume = Volume.create(new MemFs());
  const names = Object.keys(fsp).filter((name) => typeof (fsp as Record<string, unknown>)[name] === 'function');
  assert.ok(names.length >= 28);
  assert.deepEqual(
    names.filter((name) => typeof (volume as unknown as Record<string, unknown>)[name] !== 'function'),
    [],
  );
});

test('every method of a FileHandle of this Node is a method of ours', async () => {
  await using volume = Volume.create(new MemFs());
  await using ours = await volume.open('/file', 'w');
  const theirs = await fsp.open('/dev/null');
  try {
    const names = new Set<string>();
    for (let at: object = theirs; at !== Object.prototype; at = Object.getPrototypeOf(at) as object) {
      for (const name of Object.getOwnPropertyNames(at)) names.add(name);
    }
    // getAsyncId is of async_hooks, for native resources.
    const lacking = [...names].filter((name) => !(name in ours) && name !== 'getAsyncId');
    assert.deepEqual(lacking, []);
  } finally {
    await theirs.close();
  }
});

test('every synchronous function of node:fs of this Node is a method of VolumeSync', async () => {
  await using volume = Volume.create(new MemFs());
  const names = Object.keys(fs).filter((name) => name.endsWith('Sync'));
  assert.ok(names.length > 40);
  // openAsBlobSync reads a file of the host when the Blob is read.
  const lacking = names.filter((name) => !(name in volume.sync) && name !== 'openAsBlobSync');
  assert.deepEqual(lacking, []);
});

test('the constants are those of node:fs on Linux, and more', async () => {
  await using volume = Volume.create(new MemFs());
  const ours = volume.constants as Record<string, number>;
  // Numbers for module formats and Windows, which are of no use here.
  const ignored = /^EXTENSIONLESS_|^UV_FS_O_(?:TEMPORARY|SHORT_LIVED|SEQUENTIAL|RANDOM)$/;
  for (const [name, value] of Object.entries(fs.constants)) if (!ignored.test(name)) assert.equal(ours[name], value, name);
});
