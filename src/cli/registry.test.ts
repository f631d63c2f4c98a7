import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MountEntry } from './mount-table.ts';
import { isServing, register, registrationOf } from './registry.ts';

const needsProc = process.platform === 'linux' ? false : 'processes are looked up in /proc of Linux';
const entry: MountEntry = { device: '0:7', directory: '/mnt', type: 'fuse.x', fsname: 'mem', words: [] };
let folder = '';

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'iomap-registry-'));
  process.env['IOMAP_RUNTIME_DIR'] = folder;
});
after(() => rmSync(folder, { recursive: true }));

test('a note is found by its mount, says that its process serves, and goes', { skip: needsProc }, () => {
  const forget = register(entry, 'mem:size=1m');
  const note = registrationOf(entry);
  assert.equal(note?.pid, process.pid);
  assert.equal(note.source, 'mem:size=1m');
  assert.ok(isServing(note));
  forget?.();
  assert.equal(registrationOf(entry), undefined);
  assert.deepEqual(readdirSync(folder), []);
});

test('a note about a mount that had the same device number is not about this one', { skip: needsProc }, () => {
  const forget = register(entry, 'mem:');
  assert.equal(registrationOf({ ...entry, directory: '/other' }), undefined);
  assert.equal(registrationOf({ ...entry, type: 'fuse.other' }), undefined);
  forget?.();
});

test('a process that got the number of one that ended does not serve', { skip: needsProc }, () => {
  const note = { device: '0:7', directory: '/mnt', type: 'fuse.x', fsname: 'mem', source: 'mem:', pid: process.pid, startTime: '1' };
  assert.ok(!isServing(note));
});

test('a file that is no note is none', { skip: needsProc }, () => {
  for (const text of ['', 'null', '[]', '{"pid":1}', '{"device":"0:7","pid":"1"}']) {
    writeFileSync(join(folder, '0-7.json'), text);
    assert.equal(registrationOf(entry), undefined, text);
  }
});
