import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { AttrChanges } from './attr.ts';
import { type Caller, callerOf, ROOT } from './caller.ts';
import {
  checkAccess,
  checkCreate,
  checkDelete,
  inheritOwner,
  isOwnerOrCapable,
  killedMode,
  killSetId,
  mayAccess,
  type Owned,
  prepareSetattr,
} from './permission.ts';
import { aclAllows, equivalentMode, parseAclText } from './posix-acl.ts';
import {
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  R_OK,
  S_IFCHR,
  S_IFDIR,
  S_IFREG,
  W_OK,
  X_OK,
} from './uapi.ts';

// Files are of user 1 and group 10, unless told. Expectations marked "measured" are answers of Linux 6.18 on tmpfs.
const file = (mode: number): Owned => ({ mode: S_IFREG | mode, uid: 1, gid: 10 });
const dir = (mode: number): Owned => ({ mode: S_IFDIR | mode, uid: 1, gid: 10 });

const OWNER = callerOf({ uid: 1, gid: 99 });
const OWNER_IN_GROUP = callerOf({ uid: 1, gid: 10 });
const MEMBER = callerOf({ uid: 2, gid: 99, groups: [7, 10] });
const STRANGER = callerOf({ uid: 3, gid: 99 });

/** A caller with these capabilities besides. */
const withCaps = (caller: Caller, caps: number): Caller => ({ ...caller, caps });

test('every mode, class, mask and capability is decided as the manuals say', () => {
  const classes: [caller: Caller, shift: number][] = [
    [OWNER, 6],
    [OWNER_IN_GROUP, 6],
    [MEMBER, 3],
    [STRANGER, 0],
  ];
  for (const type of [S_IFREG, S_IFDIR, S_IFCHR]) {
    for (let mode = 0; mode < 0o1000; mode++) {
      const anyMayExecute = [0o100, 0o010, 0o001].some((bit) => (mode & bit) !== 0);
      for (const [caller, shift] of classes) {
        for (const caps of [0, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH, CAP_FOWNER | CAP_CHOWN]) {
          for (let mask = 0; mask < 8; mask++) {
            const [r, w, x] = [R_OK, W_OK, X_OK].map((bit) => (mask & bit) !== 0);
            const asked = [r && 4, w && 2, x && 1].filter((bit) => bit !== false) as number[];
            const byMode = asked.every((bit) => Math.floor(mode / 2 ** shift / bit) % 2 === 1);
            // capabilities(7): override permission checks for reading, writing, executing; execution needs one execute bit, of a file.
            const byOverride = caps % 4 >= 2 && (!x || type === S_IFDIR || anyMayExecute);
            // Reading of files; reading and searching of directories; nothing of both kinds at once.
            const byReadSearch = caps % 8 >= 4 && !w && (type === S_IFDIR || (r === true && !x));
            const expected = byMode || byOverride || byReadSearch;
            const attr = { mode: type | mode, uid: 1, gid: 10 };
            const got = mayAccess(withCaps(caller, caps), attr, undefined, mask);
            if (got !== expected) assert.fail(`mode ${mode.toString(8)} type ${type} uid ${caller.uid} caps ${caps} mask ${mask}: ${got}`);
          }
        }
      }
    }
  }
});

test('the class decides alone: an owner who may not is not helped by his group or by what others may', () => {
  assert.equal(mayAccess(OWNER_IN_GROUP, file(0o077), undefined, R_OK), false);
  assert.equal(mayAccess(MEMBER, file(0o707), undefined, R_OK), false);
  assert.throws(() => checkAccess(MEMBER, file(0o707), undefined, R_OK, 'open'), { code: 'EACCES', syscall: 'open' });
  checkAccess(STRANGER, file(0o007), undefined, R_OK | W_OK | X_OK, 'open');
});

test('with an ACL the owner has the bits of the mode, and all others what the ACL grants', () =>
  forEachSeed('ACL and mode', 200, (prng) => {
    const perm = () => prng.below(8);
    const acl = parseAclText(`u::${perm()},u:2:${perm()},g::${perm()},g:99:${perm()},m::${perm()},o::${perm()}`);
    const attr = file(equivalentMode(acl).permissions);
    for (const caller of [OWNER, MEMBER, STRANGER, callerOf({ uid: 4, gid: 4 })]) {
      for (let mask = 0; mask < 8; mask++) {
        // Measured: with an empty ACL mask Linux does not read the ACL, and who is named in it is one of the others.
        const isIgnored = Math.floor(attr.mode / 8) % 8 === 0;
        const expected = isIgnored ? mayAccess(caller, attr, undefined, mask) : aclAllows(caller, attr, acl, mask);
        assert.equal(mayAccess(caller, attr, acl, mask), expected);
      }
    }
  }));

test('an ACL whose mask is empty is not looked at', () => {
  const acl = parseAclText('u::---,u:3:rwx,g::rwx,m::---,o::r--');
  const attr = file(0o004);
  assert.equal(aclAllows(STRANGER, attr, acl, R_OK), false);
  assert.equal(mayAccess(STRANGER, attr, acl, R_OK), true);
  assert.equal(mayAccess(MEMBER, attr, acl, R_OK), false);
});

test('capabilities override an ACL as they override a mode', () => {
  const acl = parseAclText('u::---,u:3:-w-,g::---,m::rwx,o::---');
  const attr = file(0o070);
  assert.equal(mayAccess(STRANGER, attr, acl, R_OK), false);
  assert.equal(mayAccess(withCaps(STRANGER, CAP_DAC_READ_SEARCH), attr, acl, R_OK), true);
  assert.equal(mayAccess(withCaps(STRANGER, CAP_DAC_READ_SEARCH), attr, acl, R_OK | W_OK), false);
  assert.equal(mayAccess(ROOT, attr, acl, R_OK | W_OK | X_OK), true);
});

test("what is the owner's to do takes the owner or CAP_FOWNER", () => {
  assert.equal(isOwnerOrCapable(OWNER, file(0)), true);
  assert.equal(isOwnerOrCapable(MEMBER, file(0o777)), false);
  assert.equal(isOwnerOrCapable(withCaps(MEMBER, ~CAP_FOWNER), file(0)), false);
  assert.equal(isOwnerOrCapable(withCaps(MEMBER, CAP_FOWNER), file(0)), true);
});

test('a new name takes write and search permission on the directory', () => {
  checkCreate(MEMBER, dir(0o030), undefined, 'mkdir');
  for (const mode of [0o747, 0o727, 0o717, 0o707]) {
    assert.throws(() => checkCreate(MEMBER, dir(mode), undefined, 'mkdir'), { code: 'EACCES', syscall: 'mkdir' });
  }
  checkCreate(STRANGER, dir(0o070), parseAclText('u::-,u:3:wx,g::-,m::rwx,o::-'), 'mkdir');
  assert.throws(() => checkCreate(withCaps(STRANGER, CAP_DAC_READ_SEARCH), dir(0), undefined, 'mkdir'), { code: 'EACCES' });
  checkCreate(withCaps(STRANGER, CAP_DAC_OVERRIDE), dir(0), undefined, 'mkdir');
});

test('a name is removed with write and search permission; from a sticky directory only by the owner of file or directory, or CAP_FOWNER', () => {
  const mine = { uid: 3 };
  const others = { uid: 5 };
  checkDelete(STRANGER, dir(0o003), undefined, others, 'unlink');
  assert.throws(() => checkDelete(STRANGER, dir(0o1005), undefined, mine, 'unlink'), { code: 'EACCES', syscall: 'unlink' });
  assert.throws(() => checkDelete(STRANGER, dir(0o1777), undefined, others, 'rmdir'), { code: 'EPERM', syscall: 'rmdir' });
  assert.throws(() => checkDelete(withCaps(STRANGER, ~CAP_FOWNER), dir(0o1777), undefined, others, 'rmdir'), { code: 'EPERM' });
  checkDelete(STRANGER, dir(0o1777), undefined, mine, 'unlink');
  checkDelete(OWNER, dir(0o1777), undefined, others, 'unlink');
  checkDelete(withCaps(STRANGER, CAP_FOWNER), dir(0o1777), undefined, others, 'unlink');
});

test('a killed mode has neither S_ISUID nor an S_ISGID that execution would heed', () => {
  const cases: [mode: number, killed: number][] = [
    [0o106755, 0o100755],
    [0o104644, 0o100644],
    [0o102755, 0o100755],
    [0o102745, 0o102745],
    [0o106745, 0o102745],
    [0o101777, 0o101777],
  ];
  for (const [mode, killed] of cases) assert.equal(killedMode(mode), killed, mode.toString(8));
});

/** What the changes come to: the mode afterwards, or the code of the error. */
function setattr(caller: Caller, attr: Owned, changes: AttrChanges, isWriter?: boolean): string {
  try {
    const got = prepareSetattr(caller, attr, undefined, changes, isWriter);
    const mode = got.mode ?? attr.mode;
    return (((got.killSuidgid === true ? killedMode(mode) : mode) & 0o7777) + 0o10000).toString(8).slice(1);
  } catch (error) {
    return (error as { code: string }).code;
  }
}

test('chown takes CAP_CHOWN; an owner may keep himself, and give the file to groups of his', () => {
  const owner = { ...OWNER, groups: [20] };
  const cases: [caller: Caller, changes: AttrChanges, expected: string][] = [
    [owner, { uid: 1 }, '0644'],
    [owner, { uid: 2 }, 'EPERM'],
    [owner, { gid: 10 }, '0644'],
    [owner, { gid: 20 }, '0644'],
    [owner, { gid: 99 }, '0644'],
    [owner, { gid: 21 }, 'EPERM'],
    [owner, { uid: 1, gid: 21 }, 'EPERM'],
    [owner, { uid: 2, gid: 20 }, 'EPERM'],
    [MEMBER, { gid: 10 }, 'EPERM'],
    [MEMBER, { uid: 1 }, 'EPERM'],
    [MEMBER, { uid: 2 }, 'EPERM'],
    [withCaps(MEMBER, ~CAP_CHOWN), { uid: 2 }, 'EPERM'],
    [withCaps(MEMBER, CAP_CHOWN), { uid: 5, gid: 5 }, '0644'],
    [ROOT, { uid: 5, gid: 5 }, '0644'],
  ];
  for (const [caller, changes, expected] of cases) {
    assert.equal(setattr(caller, file(0o644), changes), expected, JSON.stringify({ caller, changes }));
  }
});

// Measured, each with chown to the owner's or group's own number.
const CHOWN_KILLS: [mode: number, caller: Caller, expected: string][] = [
  [0o4755, OWNER, '0755'],
  [0o6755, OWNER, '0755'],
  [0o2755, OWNER_IN_GROUP, '0755'],
  [0o2745, OWNER_IN_GROUP, '2745'],
  [0o2745, OWNER, '0745'], // who is not in the group cannot keep the bit
  [0o6745, OWNER_IN_GROUP, '2745'],
  [0o6755, ROOT, '0755'], // root too
  [0o2745, ROOT, '2745'],
  [0o755, withCaps(STRANGER, CAP_CHOWN), '0755'],
  [0o4755, withCaps(STRANGER, CAP_CHOWN), 'EPERM'], // clearing the bit is a chmod
  [0o2745, withCaps(STRANGER, CAP_CHOWN), 'EPERM'],
  [0o2745, withCaps(STRANGER, CAP_CHOWN | CAP_FSETID), '2745'],
  [0o4755, withCaps(STRANGER, CAP_CHOWN | CAP_FSETID), 'EPERM'],
  [0o6755, withCaps(STRANGER, CAP_CHOWN | CAP_FOWNER), '0755'],
  [0o2745, withCaps(STRANGER, CAP_CHOWN | CAP_FOWNER), '0745'],
];

test('a chown of anything but a directory takes the set-id bits', () => {
  for (const [mode, caller, expected] of CHOWN_KILLS) {
    assert.equal(setattr(caller, file(mode), { gid: 10 }), expected, `${mode.toString(8)} ${JSON.stringify(caller)}`);
    const device = { ...file(mode), mode: S_IFCHR | mode };
    assert.equal(setattr(caller, device, { gid: 10 }), expected, `device ${mode.toString(8)}`);
  }
  assert.equal(setattr(ROOT, dir(0o6755), { uid: 5, gid: 5 }), '6755');
});

test('a chown that clears S_ISUID keeps S_ISGID only for a group of the caller', () => {
  const caller = withCaps(OWNER_IN_GROUP, CAP_CHOWN);
  assert.equal(setattr(caller, file(0o6745), { gid: 10 }), '2745');
  assert.equal(setattr(caller, file(0o6745), { gid: 11 }), '0745');
  assert.equal(setattr(caller, file(0o2745), { gid: 11 }), '2745');
});

test('a filesystem is told to clear what a change of owner clears in any case, so that it can on the mode that it has by then', () => {
  assert.deepEqual(prepareSetattr(ROOT, file(0o755), undefined, { uid: 5 }), { uid: 5, killSuidgid: true });
  assert.deepEqual(prepareSetattr(ROOT, dir(0o755), undefined, { uid: 5 }), { uid: 5 });
  assert.deepEqual(prepareSetattr(OWNER, file(0o2745), undefined, { gid: 99 }), { gid: 99, mode: 0o745 });
  assert.deepEqual(
    prepareSetattr(ROOT, file(0o4755), undefined, { uid: 5, mode: 0o4700 }),
    { uid: 5, mode: 0o4700 },
    'a mode that is told stands',
  );
});

test('chmod takes the owner or CAP_FOWNER; S_ISGID is for groups of the caller, or CAP_FSETID', () => {
  const cases: [caller: Caller, attr: Owned, mode: number, expected: string][] = [
    [OWNER_IN_GROUP, file(0), 0o6755, '6755'],
    [OWNER, file(0), 0o6755, '4755'],
    [OWNER, file(0), 0o2644, '0644'],
    [OWNER, dir(0), 0o3777, '1777'],
    [withCaps(OWNER, CAP_FSETID), dir(0), 0o3777, '3777'],
    [MEMBER, file(0o777), 0o777, 'EPERM'],
    [withCaps(MEMBER, CAP_FOWNER), file(0), 0o2777, '2777'],
    [withCaps(STRANGER, CAP_FOWNER), file(0), 0o2777, '0777'],
    [ROOT, file(0), 0o7777, '7777'],
  ];
  for (const [caller, attr, mode, expected] of cases) {
    assert.equal(setattr(caller, attr, { mode }), expected, JSON.stringify({ caller, attr, mode }));
  }
  assert.equal(setattr(withCaps(OWNER_IN_GROUP, CAP_CHOWN), file(0), { gid: 11, mode: 0o2755 }), '0755', 'the new group counts');
  assert.deepEqual(prepareSetattr(OWNER, file(0), undefined, { mode: 0o755 }), { mode: 0o755 });
});

test('times of now take the owner or write permission: EACCES; other times the owner: EPERM', () => {
  const at = { sec: 5, nsec: 0 };
  const explicit: AttrChanges[] = [
    { atime: at, mtime: at },
    { atime: at, mtime: 'now' },
    { atime: 'now' },
    { mtime: 'now' },
    { mtime: at },
  ];
  for (const changes of [...explicit, { atime: 'now', mtime: 'now' } as const]) {
    assert.equal(setattr(OWNER, file(0), changes), '0000');
    assert.equal(setattr(withCaps(STRANGER, CAP_FOWNER), file(0), changes), '0000');
  }
  for (const changes of explicit) assert.equal(setattr(STRANGER, file(0o666), changes), 'EPERM', JSON.stringify(changes));
  const touch = { atime: 'now', mtime: 'now' } as const;
  assert.equal(setattr(STRANGER, file(0o662), touch), '0662');
  assert.equal(setattr(STRANGER, file(0o664), touch), 'EACCES');
  assert.equal(setattr(withCaps(STRANGER, CAP_DAC_OVERRIDE), file(0), touch), '0000');
  const acl = parseAclText('u::-,u:3:w,g::-,m::rwx,o::-');
  assert.deepEqual(prepareSetattr(STRANGER, file(0o070), acl, touch), touch);
});

test('a size takes write permission or an open file, and set-id bits of a regular file unless the caller has CAP_FSETID', () => {
  assert.equal(setattr(OWNER, file(0o444), { size: 1 }), 'EACCES');
  assert.equal(setattr(OWNER, file(0o444), { size: 1 }, true), '0444');
  assert.equal(setattr(STRANGER, file(0o6757), { size: 1 }), '0757');
  assert.equal(setattr(STRANGER, file(0o6757), { size: 1 }, true), '0757');
  assert.equal(setattr(OWNER, file(0o6755), { size: 1 }), '0755', 'the owner too');
  assert.equal(setattr(MEMBER, file(0o2775), { size: 1 }), '0775');
  assert.equal(setattr(MEMBER, file(0o2726), { size: 1 }), '2726');
  assert.equal(setattr(STRANGER, file(0o2746), { size: 1 }), '0746');
  assert.equal(setattr(ROOT, file(0o6757), { size: 1 }), '6757');
  assert.equal(setattr(withCaps(STRANGER, ~CAP_FSETID), file(0o6700), { size: 1 }), '0700');
  assert.deepEqual(prepareSetattr(ROOT, file(0o6757), undefined, { size: 1 }), { size: 1 });
  assert.deepEqual(prepareSetattr(OWNER, file(0o700), undefined, { size: 1 }), { size: 1, killSuidgid: true });
});

test('content that changes takes the set-id bits that a new size would take', () => {
  for (const caller of [OWNER, OWNER_IN_GROUP, MEMBER, STRANGER, ROOT, withCaps(STRANGER, ~CAP_FSETID)]) {
    for (const mode of [0o777, 0o4777, 0o2777, 0o2767, 0o6777, 0o6767, 0o1777]) {
      const changes = killSetId(caller, file(mode));
      const { killSuidgid, mode: told = mode } = changes ?? {};
      const left = killSuidgid === true ? killedMode(told) : told;
      assert.equal(
        left.toString(8).padStart(4, '0'),
        setattr(caller, file(mode), { size: 1 }, true),
        `${mode.toString(8)} by ${caller.uid}`,
      );
      if (left === mode) assert.equal(changes, undefined);
    }
  }
});

test('changes that need no permission pass as they are', () => {
  const changes = { ctime: { sec: 5, nsec: 0 } };
  assert.equal(prepareSetattr(STRANGER, file(0), undefined, changes), changes);
  assert.deepEqual(prepareSetattr(STRANGER, file(0), undefined, {}), {});
});

test('a new file is of its maker; in a directory with S_ISGID of the group of that, and directories have the bit too', () => {
  assert.deepEqual(inheritOwner(MEMBER, dir(0o777), S_IFREG | 0o2755), { uid: 2, gid: 99, mode: S_IFREG | 0o2755 });
  assert.deepEqual(inheritOwner(MEMBER, dir(0o777), S_IFDIR | 0o755), { uid: 2, gid: 99, mode: S_IFDIR | 0o755 });
  assert.deepEqual(inheritOwner(STRANGER, dir(0o2777), S_IFREG | 0o644), { uid: 3, gid: 10, mode: S_IFREG | 0o644 });
  assert.deepEqual(inheritOwner(STRANGER, dir(0o2777), S_IFDIR | 0o755), { uid: 3, gid: 10, mode: S_IFDIR | 0o2755 });
});

test('a file that runs as the group of its directory is for members of the group to make, or CAP_FSETID', () => {
  const made = (caller: Caller, mode: number) => inheritOwner(caller, dir(0o2777), S_IFREG | mode).mode & 0o7777;
  assert.equal(made(STRANGER, 0o6755), 0o4755);
  assert.equal(made(STRANGER, 0o2745), 0o2745);
  assert.equal(made(MEMBER, 0o2755), 0o2755);
  assert.equal(made(withCaps(STRANGER, CAP_FSETID), 0o2755), 0o2755);
});
