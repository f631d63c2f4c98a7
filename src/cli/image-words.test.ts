import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { IMAGE_SOURCE } from '../image/mount-image.ts';
import { IMAGE_WORDS, imageOptionsOf } from './image-words.ts';
import { MOUNT_WORDS } from './mount-words.ts';
import { parseCommandLine } from './parse.ts';
import { type SourceRequest, sourceRequest } from './source.ts';
import { UsageError } from './usage-error.ts';

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'iomap-words-'));
  for (const name of ['a.img', 'a.img:part7', 'fs.mjs', 'fs.ts']) writeFileSync(join(folder, name), '');
});
after(() => rmSync(folder, { recursive: true }));

const requested = (...words: string[]): SourceRequest => sourceRequest(parseCommandLine(['mount', ...words, '/mnt']));

test('words for images become options of images, and the others are left', () => {
  const words = ['part=2,ro,errors=remount-ro', 'data=journal,commit=3,journal_path=j,grpquota,prjquota,acl,noblock_validity'];
  assert.deepEqual(imageOptionsOf(words, true, 'mount'), {
    image: { partition: 2, errors: 'remount-ro', data: 'journal', commitInterval: 3, journal: 'j', enforceQuota: [1, 2] },
    rest: ['ro'],
  });
  assert.deepEqual(imageOptionsOf(['offset=1048576,sizelimit=4096,noload'], true, 'mount').image, {
    offset: 1048576,
    size: 4096,
    noRecovery: true,
  });
});

test('no word is one for images and one for mounts', () => {
  const names = [...IMAGE_WORDS, ...MOUNT_WORDS].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
});

test('values that mean nothing, and words for images where there is none, are refused with the word', () => {
  const refused = (word: string, isImage: boolean): void => {
    const isIt = (error: unknown) => error instanceof UsageError && error.message.includes(`'${word}'`);
    assert.throws(() => imageOptionsOf([word], isImage, 'mount'), isIt, word);
  };
  for (const word of ['part=0', 'part', 'offset=-1', 'offset=1k', 'sizelimit=0', 'data=none', 'errors=panic', 'commit=0', 'noload=1'])
    refused(word, true);
  for (const { name, value } of IMAGE_WORDS) refused(value === undefined ? name : `${name}=1`, false);
  assert.throws(() => imageOptionsOf(['part=1,offset=0'], true, 'mount'), UsageError);
});

test('a file that is no module is an image, opened as the mount is', () => {
  const image = join(folder, 'a.img');
  const { source, options } = requested(image, '-o', 'ro,commit=2');
  assert.equal(source.url, IMAGE_SOURCE.href);
  assert.deepEqual(source.args, { path: image, options: { commitInterval: 2, readOnly: true } });
  assert.equal(options.readOnly, true);
  assert.equal(requested(image, '-o', 'norecovery').options.readOnly, true);
  for (const name of ['fs.mjs', 'fs.ts']) assert.notEqual(requested(join(folder, name)).source.url, IMAGE_SOURCE.href);
});

test('IMAGE:partN is a partition, unless a file has that name', () => {
  const image = join(folder, 'a.img');
  assert.deepEqual(requested(`${image}:part2`).source.args, { path: image, options: { partition: 2, readOnly: false } });
  assert.deepEqual(requested(`${image}:part7`).source.args, { path: `${image}:part7`, options: { readOnly: false } });
  assert.throws(() => requested(`${image}:part2`, '-o', 'part=1'), UsageError);
});

test('an image that is not there is ENOENT with its path', () => {
  assert.throws(() => requested(join(folder, 'b.img')), { code: 'ENOENT', message: /b\.img/ });
});
