import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forEachSeed } from '../../test/support/seeds.ts';
import type { Prng } from '../base/prng.ts';
import { callerOf } from './caller.ts';
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_UNDEFINED_ID,
  ACL_USER,
  ACL_USER_OBJ,
  type AclEntry,
  aclAllows,
  aclFromMode,
  chmodAcl,
  createAcl,
  equivalentMode,
  formatAcl,
  formatAclText,
  type PosixAcl,
  parseAcl,
  parseAclText,
} from './posix-acl.ts';

/** Bytes of the attribute, by hand: version, and tag, permissions and id of each entry, all little-endian. */
function value(version: number, ...entries: [tag: number, perm: number, id: number][]): Uint8Array {
  const bytes = [version & 0xff, version >>> 8, 0, 0];
  for (const [tag, perm, id] of entries) {
    bytes.push(tag & 0xff, tag >>> 8, perm & 0xff, perm >>> 8, id & 0xff, (id >>> 8) & 0xff, (id >>> 16) & 0xff, id >>> 24);
  }
  return Uint8Array.from(bytes);
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const U = ACL_UNDEFINED_ID;

test('the bytes are those that Linux keeps', () => {
  // As getxattr answers on Linux 6.18.
  const kept = '0200000001000700ffffffff0200070009000000020006000500000004000500ffffffff10000100ffffffff20000100ffffffff';
  const bytes = value(2, [1, 7, U], [2, 7, 9], [2, 6, 5], [4, 5, U], [16, 1, U], [32, 1, U]);
  assert.equal(hex(bytes), kept);
  const acl = parseAcl(bytes);
  assert.deepEqual(acl, [
    { tag: ACL_USER_OBJ, perm: 7, id: ACL_UNDEFINED_ID },
    { tag: ACL_USER, perm: 7, id: 9 },
    { tag: ACL_USER, perm: 6, id: 5 },
    { tag: ACL_GROUP_OBJ, perm: 5, id: ACL_UNDEFINED_ID },
    { tag: ACL_MASK, perm: 1, id: ACL_UNDEFINED_ID },
    { tag: ACL_OTHER, perm: 1, id: ACL_UNDEFINED_ID },
  ]);
  assert.equal(hex(formatAcl(acl)), kept);
});

test('ids where none are needed are dropped, large ones elsewhere are kept', () => {
  const acl = parseAcl(value(2, [1, 7, 7], [2, 7, 9], [4, 5, 7], [8, 1, 0xfffffffe], [16, 1, 7], [32, 1, 7])) as PosixAcl;
  assert.deepEqual(
    acl.map(({ id }) => id),
    [U, 9, U, 0xfffffffe, U, U],
  );
});

// Each as setxattr answers on Linux 6.18.
const REFUSED: [why: string, bytes: Uint8Array, code?: string][] = [
  ['another version', value(1), 'EOPNOTSUPP'],
  ['another version with entries', value(3, [1, 7, U], [4, 5, U], [32, 1, U]), 'EOPNOTSUPP'],
  ['a header cut short', Uint8Array.of(2, 0, 0)],
  ['an entry cut short', value(2, [1, 7, U], [4, 5, U], [32, 1, U]).subarray(0, -1)],
  ['a named user without a mask', value(2, [1, 7, U], [2, 7, 9], [4, 5, U], [32, 1, U])],
  ['a named group without a mask', value(2, [1, 7, U], [4, 5, U], [8, 7, 9], [32, 1, U])],
  ['a permission that is none', value(2, [1, 8, U], [4, 5, U], [32, 1, U])],
  ['a high permission', value(2, [1, 7, U], [4, 0x100, U], [32, 1, U])],
  ['an order that is none', value(2, [4, 5, U], [1, 7, U], [32, 1, U])],
  ['a user that is none', value(2, [1, 7, U], [2, 7, U], [4, 5, U], [16, 1, U], [32, 1, U])],
  ['a group that is none', value(2, [1, 7, U], [4, 5, U], [8, 7, U], [16, 1, U], [32, 1, U])],
  ['a tag that is none', value(2, [1, 7, U], [3, 7, U], [4, 5, U], [16, 1, U], [32, 1, U])],
  ['a tag of 0', value(2, [0, 7, U], [1, 7, U], [4, 5, U], [32, 1, U])],
  ['two others', value(2, [1, 7, U], [4, 5, U], [32, 1, U], [32, 1, U])],
  ['two masks', value(2, [1, 7, U], [4, 5, U], [16, 1, U], [16, 1, U], [32, 1, U])],
  ['no other', value(2, [1, 7, U], [4, 5, U])],
  ['no owning group', value(2, [1, 7, U], [32, 5, U])],
  ['no owner', value(2, [4, 7, U], [32, 5, U])],
  ['a named group before the owning one', value(2, [1, 7, U], [8, 5, 1], [4, 5, U], [16, 1, U], [32, 1, U])],
  ['a named user after the owning group', value(2, [1, 7, U], [4, 5, U], [2, 5, 1], [16, 1, U], [32, 1, U])],
  ['a mask after other', value(2, [1, 7, U], [4, 5, U], [32, 1, U], [16, 1, U])],
];
for (const [why, bytes, code = 'EINVAL'] of REFUSED) {
  test(`${why} is ${code}`, () => {
    assert.throws(() => parseAcl(bytes), { code, syscall: 'setxattr' });
    assert.throws(() => parseAcl(bytes, 'getxattr'), { code, syscall: 'getxattr' });
  });
}

test('a value without entries is no ACL', () => {
  assert.equal(parseAcl(new Uint8Array(0)), undefined);
  assert.equal(parseAcl(value(2)), undefined);
});

test('two entries for one user are valid, as in Linux, and the first counts', () => {
  const acl = parseAcl(value(2, [1, 7, U], [2, 4, 5], [2, 2, 5], [4, 5, U], [16, 7, U], [32, 1, U])) as PosixAcl;
  const caller = callerOf({ uid: 5 });
  assert.equal(aclAllows(caller, { uid: 0, gid: 0 }, acl, 4), true);
  assert.equal(aclAllows(caller, { uid: 0, gid: 0 }, acl, 2), false);
});

/** A valid ACL over users and groups 1 to 4. */
function randomAcl(prng: Prng): PosixAcl {
  const perm = () => prng.below(8);
  const named = (tag: number) => [1, 2, 3, 4].filter(() => prng.below(3) === 0).map((id): AclEntry => ({ tag, perm: perm(), id }));
  const [users, groups] = [named(ACL_USER), named(ACL_GROUP)];
  const needsMask = users.length + groups.length > 0 || prng.below(2) === 0;
  return [
    { tag: ACL_USER_OBJ, perm: perm(), id: U },
    ...users,
    { tag: ACL_GROUP_OBJ, perm: perm(), id: U },
    ...groups,
    ...(needsMask ? [{ tag: ACL_MASK, perm: perm(), id: U }] : []),
    { tag: ACL_OTHER, perm: perm(), id: U },
  ];
}

test('bytes and text both turn back into the same ACL', () =>
  forEachSeed('ACL forms', 200, (prng) => {
    const acl = randomAcl(prng);
    assert.deepEqual(parseAcl(formatAcl(acl)), acl);
    assert.deepEqual(parseAclText(formatAclText(acl)), acl);
    assert.deepEqual(parseAclText(formatAclText(acl).split(',').reverse().join('\n')), acl, 'order and separators do not matter');
  }));

test('bytes that are changed anywhere parse to something valid or fail with an errno', () =>
  forEachSeed('ACL bytes', 300, (prng) => {
    const bytes = formatAcl(randomAcl(prng));
    for (let i = 0; i < 3; i++) bytes[prng.below(bytes.length)] = prng.below(256);
    try {
      const acl = parseAcl(bytes.subarray(0, bytes.length - (prng.below(2) === 0 ? prng.below(12) : 0)));
      if (acl !== undefined) assert.deepEqual(parseAcl(formatAcl(acl)), acl);
    } catch (error) {
      assert.ok(['EINVAL', 'EOPNOTSUPP'].includes((error as { code: string }).code), String(error));
    }
  }));

test('an ACL grants what the entries say that apply to the caller', () =>
  forEachSeed('ACL access', 300, (prng) => {
    const acl = randomAcl(prng);
    const attr = { uid: 1 + prng.below(4), gid: 1 + prng.below(4) };
    const caller = callerOf({ uid: 1 + prng.below(5), gid: 1 + prng.below(5), groups: [1 + prng.below(5), 1 + prng.below(5)] });
    const gids = [caller.gid, ...caller.groups];
    const perms = (match: (entry: AclEntry) => boolean) => acl.filter(match).map(({ perm }) => perm);
    const mask = perms(({ tag }) => tag === ACL_MASK)[0] ?? 7;

    const users = perms(({ tag, id }) => tag === ACL_USER && id === caller.uid);
    const groups = perms((entry) => gids.includes(entry.tag === ACL_GROUP_OBJ ? attr.gid : entry.tag === ACL_GROUP ? entry.id : -1));
    let granted: number[]; // what any one of these holds in full
    if (caller.uid === attr.uid) granted = perms(({ tag }) => tag === ACL_USER_OBJ);
    else if (users.length > 0) granted = users.map((perm) => perm & mask);
    else if (groups.length > 0) granted = groups.map((perm) => perm & mask);
    else granted = perms(({ tag }) => tag === ACL_OTHER);

    for (let wanted = 0; wanted < 8; wanted++) {
      const expected = granted.some((perm) => [1, 2, 4].every((bit) => (wanted & bit) === 0 || (perm & bit) !== 0));
      assert.equal(aclAllows(caller, attr, acl, wanted), expected, `${formatAclText(acl)} ${JSON.stringify({ caller, attr, wanted })}`);
    }
  }));

test('permissions of two groups do not add up', () => {
  const acl = parseAclText('u::---,g::r--,g:20:-w-,m::rwx,o::rwx');
  const caller = callerOf({ uid: 5, gid: 10, groups: [20] });
  const may = (mask: number) => aclAllows(caller, { uid: 0, gid: 10 }, acl, mask);
  assert.deepEqual([may(4), may(2), may(6), may(1)], [true, true, false, false]);
});

test('a mode and its minimal ACL say the same', () => {
  for (const mode of [0, 0o777, 0o640, 0o751, 0o107]) {
    assert.deepEqual(equivalentMode(aclFromMode(0o104000 | mode)), { permissions: mode, isMinimal: true });
  }
  assert.equal(formatAclText(aclFromMode(0o100754)), 'user::rwx,group::r-x,other::r--');
});

test('with a mask, the bits of the group are the mask', () => {
  assert.deepEqual(equivalentMode(parseAclText('u::rw-,g::r-x,m::-w-,o::r--')), { permissions: 0o624, isMinimal: false });
  assert.deepEqual(equivalentMode(parseAclText('u::rw-,u:5:rwx,g::---,m::rwx,o::---')), { permissions: 0o670, isMinimal: false });
});

test('chmod changes the owner, the mask where there is one or else the group, and others', () => {
  const change = (text: string, mode: number) => formatAclText(chmodAcl(parseAclText(text), mode));
  assert.equal(change('u::rwx,g::r-x,o::---', 0o104642), 'user::rw-,group::r--,other::-w-');
  assert.equal(
    change('u::rwx,u:5:rwx,g::r-x,g:6:r--,m::rwx,o::---', 0o751),
    'user::rwx,user:5:rwx,group::r-x,group:6:r--,mask::r-x,other::--x',
  );
  const acl = parseAclText('u::rwx,g::rwx,m::r-x,o::---');
  assert.equal(equivalentMode(chmodAcl(acl, 0o137)).permissions, 0o137);
  assert.equal(formatAclText(acl), 'user::rwx,group::rwx,mask::r-x,other::---', 'the old one is as it was');
});

test('without a default ACL a new file loses the umask', () => {
  assert.deepEqual(createAcl(undefined, 0o102666, 0o027, false), { mode: 0o102640 });
  assert.deepEqual(createAcl(undefined, 0o41777, 0o7022, true), { mode: 0o41755 });
});

test('with a default ACL the umask does not count: a new file has what both the ACL and its mode give', () => {
  const minimal = parseAclText('u::rwx,g::rwx,o::r-x');
  assert.deepEqual(createAcl(minimal, 0o100666, 0o777, false), { mode: 0o100664 });
  assert.deepEqual(createAcl(minimal, 0o42777, 0o777, true), { mode: 0o42775, default: minimal });

  const acl = parseAclText('u::rwx,u:5:rwx,g::r-x,m::rw-,o::r-x');
  const file = createAcl(acl, 0o104642, 0o777, false);
  assert.equal(file.mode, 0o104640);
  assert.equal(file.default, undefined);
  assert.equal(formatAclText(file.access as PosixAcl), 'user::rw-,user:5:rwx,group::r-x,mask::r--,other::---');
  const directory = createAcl(acl, 0o40777, 0, true);
  assert.equal(directory.mode, 0o40765);
  assert.equal(directory.default, acl);
  assert.equal(formatAclText(directory.access as PosixAcl), 'user::rwx,user:5:rwx,group::r-x,mask::rw-,other::r-x');
});

test('the mode of a new file and its ACL say the same, and neither gives more than was asked for', () =>
  forEachSeed('new ACL', 200, (prng) => {
    const acl = randomAcl(prng);
    const mode = prng.below(0o10000);
    const made = createAcl(acl, 0o40000 | mode, 0o777, true);
    assert.equal(made.mode, 0o40000 | (mode & 0o7000) | (mode & equivalentMode(acl).permissions));
    assert.equal(made.access === undefined, acl.length === 3);
    if (made.access === undefined) return;
    assert.equal(equivalentMode(made.access).permissions, made.mode & 0o777);
    assert.deepEqual(parseAcl(formatAcl(made.access)), made.access, 'it is valid');
    const rest = (each: PosixAcl) => each.filter(({ tag }) => tag === ACL_USER || tag === ACL_GROUP || tag === ACL_GROUP_OBJ);
    if (acl.some(({ tag }) => tag === ACL_MASK)) assert.deepEqual(rest(made.access), rest(acl));
  }));

test('text takes long and short tags, commas and lines, blanks, comments, letters in any order and octal digits', () => {
  const acl = parseAclText('user::rwx,user:1000:r--,group::r-x,mask::rwx,other::---');
  const forms = [
    'u::rwx,u:1000:r,g::rx,m::rwx,o::-',
    'u::7\nu:1000:4\ng::5\nm::7\no::0\n',
    '# file: x\n# owner: 0\n\nuser::xwr\nuser:1000:r--\t#effective:r--\ngroup :: r-x , mask:rwx\nother:---',
    'o:0,m:7,g::5,u:01000:4,u::7',
  ];
  for (const form of forms) assert.deepEqual(parseAclText(form), acl, form);
});

test('a mask that is needed and missing is what it would limit', () => {
  assert.equal(formatAclText(parseAclText('u::rwx,u:5:r,g::x,o::w')), 'user::rwx,user:5:r--,group::--x,mask::r-x,other::-w-');
  assert.equal(formatAclText(parseAclText('u::rwx,g::x,g:6:w,m::r,o::w')), 'user::rwx,group::--x,group:6:-w-,mask::r--,other::-w-');
  assert.equal(formatAclText(parseAclText('u::rwx,g::x,o::w')), 'user::rwx,group::--x,other::-w-');
});

test('text that is no ACL is EINVAL and says where', () => {
  const bad: [text: string, detail: RegExp][] = [
    ['', /EINVAL/],
    ['u::rwx,g::rx', /EINVAL/],
    ['u::rwx,u::rwx,g::rx,o::r', /user::rwx/],
    ['u::rwx,u:5:r,u:05:w,g::rx,o::r', /user:5:/],
    ['u::rwx,m::r,m::r,g::rx,o::r', /mask::r--/],
    ['u::rwx,g::rx,o::rr', /o::rr/],
    ['u::rwx,g::rx,o::rwxr', /o::rwxr/],
    ['u::rwx,g::rx,o::8', /o::8/],
    ['u::rwx,g::rx,o::77', /o::77/],
    ['u::rwx,g::rx,o::', /o::/],
    ['u::rwx,g::rx,o:5:r', /o:5:r/],
    ['u::rwx,g::rx,m:5:r,o::r', /m:5:r/],
    ['u:rwx,g::rx,o::r', /u:rwx/],
    ['u:root:rwx,u::rwx,g::rx,o::r', /u:root:rwx/],
    ['u:-1:rwx,u::rwx,g::rx,o::r', /u:-1:rwx/],
    ['u:1e3:rwx,u::rwx,g::rx,o::r', /u:1e3:rwx/],
    ['u:4294967295:rwx,u::rwx,g::rx,o::r', /u:4294967295:rwx/],
    ['d:u::rwx', /d:u::rwx/],
    ['q::rwx', /q::rwx/],
    ['user', /user/],
    [`${'x'.repeat(1000)}`, /x{80}\)$/],
  ];
  for (const [text, message] of bad) assert.throws(() => parseAclText(text), { code: 'EINVAL', message }, text.slice(0, 80));
  assert.throws(() => parseAclText('q', 'mkfs'), { syscall: 'mkfs' });
});
