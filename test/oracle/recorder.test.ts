import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import fs from 'node:fs';
import process from 'node:process';
import { describe, test } from 'node:test';
import { hostSubject } from './host-subject.ts';
import { Recorder } from './recorder.ts';
import { type Case, Scene } from './scene.ts';

const recorder = new Recorder('/some/root');

/** What a case comes to on the host. */
async function runOnHost(run: Case): Promise<unknown> {
  const subject = hostSubject('promises');
  try {
    return await Scene.run(subject, run);
  } finally {
    await subject.close();
  }
}

describe('Recorder', () => {
  test('the root is taken out of text, of bytes, and of what errors carry', () => {
    assert.equal(recorder.record('/some/root/a /some/root/b'), '<root>/a <root>/b');
    assert.deepEqual(recorder.record(Buffer.from('/some/root/a')), { class: 'Buffer', latin1: '<root>/a' });
    const error = Object.assign(new Error("ENOENT, open '/some/root/a'"), { code: 'ENOENT', path: '/some/root/a' });
    assert.deepEqual(recorder.record(error), {
      kind: 'Error',
      name: 'Error',
      message: "ENOENT, open '<root>/a'",
      code: 'ENOENT',
      path: '<root>/a',
    });
  });

  test('errors differ by class, name, code, number, call, paths and message', () => {
    const make = (members: object, base: Error = new Error('text')) => recorder.record(Object.assign(base, members));
    const plain = make({});
    const others = [
      make({}, new TypeError('text')),
      make({}, new Error('other text')),
      ...['name', 'code', 'errno', 'syscall', 'path', 'dest'].map((member) => make({ [member]: 'x' })),
    ];
    for (const other of others) assert.notDeepEqual(other, plain);
  });

  test('kinds of memory differ, and what they hold', () => {
    const records = [Buffer.from('a'), new Uint8Array([97]), Buffer.from('b'), 'a', new Uint16Array([97])].map((value) =>
      recorder.record(value),
    );
    for (const [i, one] of records.entries()) for (const two of records.slice(i + 1)) assert.notDeepEqual(one, two);
  });

  test('attributes differ by mode, size, owner, link count and width', () => {
    const stats = fs.lstatSync(process.execPath);
    const record = (members: object) => recorder.record(Object.assign(Object.create(fs.Stats.prototype), stats, members));
    for (const member of ['mode', 'size', 'uid', 'gid', 'nlink']) assert.notDeepEqual(record({ [member]: 12345 }), record({}));
    for (const member of ['ino', 'dev', 'mtimeMs']) assert.deepEqual(record({ [member]: 12345 }), record({}));
    assert.notDeepEqual(recorder.record(fs.lstatSync(process.execPath, { bigint: true })), record({}));
  });
});

describe('Scene', () => {
  test('the same case on two fresh trees comes to the same', async () => {
    const run: Case = (t) => t.each(['file', 'missing'], (name) => t.fs.stat(t.at(name)));
    assert.deepEqual(await runOnHost(run), await runOnHost(run));
  });

  test('what a case leaves in the tree is part of what it comes to', async () => {
    const untouched = await runOnHost(() => undefined);
    const changes: Case[] = [
      (t) => t.fs.writeFile(t.at('file'), 'hello World\n'),
      (t) => t.fs.chmod(t.at('file'), 0o600),
      (t) => t.fs.chmod(t.at('hollow'), 0o700),
      (t) => t.fs.rename(t.at('dir/sub/c'), t.at('dir/sub/d')).then(() => undefined),
      async (t) => {
        await t.fs.unlink(t.at('link'));
        await t.fs.symlink('other', t.at('link'));
      },
    ];
    const tree = (result: unknown) => (result as { tree: unknown }).tree;
    for (const change of changes) assert.notDeepEqual(tree(await runOnHost(change)), tree(untouched));
  });

  test('what a case opens is closed when it is over', async () => {
    const handles: { fd: number }[] = [];
    await runOnHost(async (t) => {
      handles.push(await t.fs.open(t.at('file')));
    });
    assert.deepEqual(
      handles.map(({ fd }) => fd),
      [-1],
    );
  });

  test('an error that a call throws in place of a rejection is told apart', async () => {
    const rejected = await runOnHost((t) => t.fs.stat(t.at('missing')));
    const thrown = await runOnHost((t) => t.fs.createReadStream(null));
    assert.equal((rejected as { outcome: { threw?: boolean } }).outcome.threw, undefined);
    assert.equal((thrown as { outcome: { threw?: boolean } }).outcome.threw, true);
  });
});
