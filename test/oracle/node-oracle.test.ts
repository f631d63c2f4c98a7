import assert from 'node:assert/strict';
import process from 'node:process';
import { before, describe, test } from 'node:test';
import { layOutPermissions, permissionCases, stranger } from './cases-permissions.ts';
import { differences, versionDifferences } from './differs.ts';
import { hostSubject } from './host-subject.ts';
import { type Case, type Form, Scene } from './scene.ts';
import { tables } from './tables.ts';
import { volumeSubject } from './volume-subject.ts';

const major = Number.parseInt(process.versions.node, 10);
const caseMin = 400;

/** What a case comes to on Node itself, and on a Volume; as `user` in a tree with what that user may and may not touch. */
async function both(form: Form, run: Case, user?: number): Promise<{ node: unknown; volume: unknown }> {
  const [node, volume] = [hostSubject(form, user), await volumeSubject(form, user)];
  const more = user === undefined ? undefined : layOutPermissions;
  try {
    return { node: await Scene.run(node, run, more), volume: await Scene.run(volume, run, more) };
  } finally {
    await node.close();
    await volume.close();
  }
}

/** Declares the test of one case: that both agree, or where it is listed that they still do not. */
function declare(form: Form, title: string, run: Case, user?: number): void {
  const name = `${form}: ${title}`;
  const byDesign = differences.find(({ cases }) => cases.test(name));
  const byVersion = versionDifferences.find(({ cases }) => cases.test(name));
  const agree = async () => {
    const { node, volume } = await both(form, run, user);
    assert.deepEqual(volume, node);
  };
  const disagree = async () => {
    const { node, volume } = await both(form, run, user);
    assert.notDeepEqual(volume, node, 'they agree: the case is to be taken off the list');
  };

  if (byDesign !== undefined) test(`${title} (differs: ${byDesign.reason})`, disagree);
  else if (byVersion === undefined || byVersion.follows === major) test(title, agree);
  else if (major === 20 || major === 26) test(`${title} (as Node ${byVersion.follows}: ${byVersion.reason})`, disagree);
  else test(title, { skip: `Node ${byVersion.follows} decides: ${byVersion.reason}` }, () => undefined);
}

const forms = ['promises', 'sync'] as const;
const isRoot = process.getuid?.() === 0;
const asStranger = Object.entries(permissionCases).map(([title, run]) => [`stranger: ${title}`, run] as const);

// Deprecations and experiments of Node are called on purpose.
before(() => process.removeAllListeners('warning'));

for (const form of forms) {
  describe(`a Volume answers as node:fs does: ${form}`, () => {
    const cases = Object.entries(tables[form]);
    test(`there are at least ${caseMin} cases`, () => assert(cases.length >= caseMin, `${cases.length}`));
    for (const [title, run] of cases) declare(form, title, run);
  });

  describe(`a Volume answers a stranger as node:fs does: ${form}`, {
    skip: isRoot ? false : 'only root can be another user for a while',
  }, () => {
    for (const [title, run] of asStranger) declare(form, title, run, stranger);
  });
}

describe('the lists of differences', () => {
  const names = forms.flatMap((form) =>
    [...Object.keys(tables[form]), ...asStranger.map(([title]) => title)].map((title) => `${form}: ${title}`),
  );

  test('name cases that there are', () => {
    for (const { cases } of [...differences, ...versionDifferences])
      assert(
        names.some((name) => cases.test(name)),
        `${cases}`,
      );
  });

  test('are short', () => {
    const listed = names.filter((name) => differences.some(({ cases }) => cases.test(name)));
    assert(listed.length < names.length / 50, `${listed.length} of ${names.length}`);
  });
});
