import { FsError } from '../base/fs-error.ts';
import { struct, u16, u32 } from '../layout/struct.ts';
import type { Attr } from './attr.ts';
import { type Caller, inGroup } from './caller.ts';
import { R_OK, W_OK, X_OK } from './uapi.ts';

// POSIX.1e access control lists, as extended attributes carry them. Source: acl(5); Linux include/uapi/linux/posix_acl.h,
// posix_acl_xattr.h; the algorithms are those of acl(5), "ACCESS CHECK ALGORITHM", "OBJECT CREATION AND DEFAULT ACLs".

export const XATTR_NAME_POSIX_ACL_ACCESS = 'system.posix_acl_access';
export const XATTR_NAME_POSIX_ACL_DEFAULT = 'system.posix_acl_default';

/** Is the attribute of this name an ACL? */
export function isAclName(name: string): boolean {
  return name === XATTR_NAME_POSIX_ACL_ACCESS || name === XATTR_NAME_POSIX_ACL_DEFAULT;
}

// Tags.
export const ACL_USER_OBJ = 0x01;
export const ACL_USER = 0x02;
export const ACL_GROUP_OBJ = 0x04;
export const ACL_GROUP = 0x08;
export const ACL_MASK = 0x10;
export const ACL_OTHER = 0x20;
/** The id of entries that need none. */
export const ACL_UNDEFINED_ID = 0xffffffff;

export interface AclEntry {
  /** ACL_*. */
  readonly tag: number;
  /** R_OK, W_OK and X_OK, or'ed. */
  readonly perm: number;
  /** User or group of ACL_USER and ACL_GROUP, otherwise ACL_UNDEFINED_ID. */
  readonly id: number;
}

/**
 * An access control list that is valid: one ACL_USER_OBJ, then ACL_USERs, one ACL_GROUP_OBJ, ACL_GROUPs, at most one ACL_MASK and at least
 * one where there are ACL_USERs or ACL_GROUPs, one ACL_OTHER.
 */
export type PosixAcl = readonly AclEntry[];

const POSIX_ACL_XATTR_VERSION = 2;

/** posix_acl_xattr_header. Little-endian. */
const posix_acl_xattr_header = struct('posix_acl_xattr_header', 4, { a_version: u32(0) });

/** posix_acl_xattr_entry. Little-endian. */
const posix_acl_xattr_entry = struct('posix_acl_xattr_entry', 8, { e_tag: u16(0), e_perm: u16(2), e_id: u32(4) });

/**
 * Decodes the value of either attribute.
 *
 * Shape:   undefined for a value without entries: no ACL. Setting that one removes.
 * Errors:  EOPNOTSUPP for another version; EINVAL for bytes that are no valid ACL.
 */
export function parseAcl(bytes: Uint8Array, syscall = 'setxattr'): PosixAcl | undefined {
  if (bytes.length === 0) return undefined;
  const { size } = posix_acl_xattr_entry;
  const length = bytes.length - posix_acl_xattr_header.size;
  if (length < 0) throw new FsError('EINVAL', syscall);
  if (posix_acl_xattr_header.read(bytes).a_version !== POSIX_ACL_XATTR_VERSION) throw new FsError('EOPNOTSUPP', syscall);
  if (length % size !== 0) throw new FsError('EINVAL', syscall);
  if (length === 0) return undefined;

  const acl: AclEntry[] = [];
  const raw = posix_acl_xattr_entry.view();
  for (let at = posix_acl_xattr_header.size; at < bytes.length; at += size) {
    raw.at(bytes, at);
    // What is in the id of an entry that needs none is anybody's guess.
    acl.push({ tag: raw.e_tag, perm: raw.e_perm, id: isNamed(raw.e_tag) ? raw.e_id : ACL_UNDEFINED_ID });
  }
  checkAcl(acl, syscall);
  return acl;
}

/** Encodes an ACL as the value of its attribute. */
export function formatAcl(acl: PosixAcl): Uint8Array {
  const { size } = posix_acl_xattr_entry;
  const bytes = new Uint8Array(posix_acl_xattr_header.size + acl.length * size);
  posix_acl_xattr_header.write(bytes, 0, { a_version: POSIX_ACL_XATTR_VERSION });
  acl.forEach(({ tag, perm, id }, i) => {
    posix_acl_xattr_entry.write(bytes, posix_acl_xattr_header.size + i * size, { e_tag: tag, e_perm: perm, e_id: id });
  });
  return bytes;
}

/**
 * Is it a valid ACL? Of entries for the same user or group the first counts for users, any for groups: neither order nor repetition of ids is
 * looked at, as in Linux.
 *
 * Errors:  EINVAL.
 */
export function checkAcl(acl: PosixAcl, syscall: string): void {
  let previous = 0;
  let needsMask = false;
  for (const { tag, perm, id } of acl) {
    if (!ACL_TAGS.includes(tag) || (perm & ~7) !== 0) throw new FsError('EINVAL', syscall);
    if (tag < previous || (tag === previous && !isNamed(tag))) throw new FsError('EINVAL', syscall);
    if (isNamed(tag)) {
      if (id === ACL_UNDEFINED_ID) throw new FsError('EINVAL', syscall);
      needsMask = true;
    }
    previous = tag;
  }
  const has = (tag: number) => acl.some((entry) => entry.tag === tag);
  if (!has(ACL_USER_OBJ) || !has(ACL_GROUP_OBJ) || !has(ACL_OTHER)) throw new FsError('EINVAL', syscall);
  if (needsMask && !has(ACL_MASK)) throw new FsError('EINVAL', syscall);
}

/** In the order in which they stand in an ACL, which is that of their numbers. */
const ACL_TAGS: readonly number[] = [ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER];

function isNamed(tag: number): boolean {
  return tag === ACL_USER || tag === ACL_GROUP;
}

/** The ACL that says what the permission bits of a mode say. */
export function aclFromMode(mode: number): PosixAcl {
  return [
    { tag: ACL_USER_OBJ, perm: (mode >> 6) & 7, id: ACL_UNDEFINED_ID },
    { tag: ACL_GROUP_OBJ, perm: (mode >> 3) & 7, id: ACL_UNDEFINED_ID },
    { tag: ACL_OTHER, perm: mode & 7, id: ACL_UNDEFINED_ID },
  ];
}

/** The nine permission bits that a file with this access ACL has, and whether they say all that it says. Source: acl(5), "CORRESPONDENCE". */
export function equivalentMode(acl: PosixAcl): { permissions: number; isMinimal: boolean } {
  const { owner, group, other } = classesOf(acl);
  return { permissions: ((owner?.perm ?? 0) << 6) | ((group?.perm ?? 0) << 3) | (other?.perm ?? 0), isMinimal: acl.length === 3 };
}

/** The access ACL after chmod(2): the bits of the group are those of the mask where there is one. */
export function chmodAcl(acl: PosixAcl, mode: number): PosixAcl {
  return withPermissions(acl, mode);
}

/** What a new file gets: its mode, and the ACLs that say more than the mode. */
export interface NewAcl {
  readonly mode: number;
  readonly access?: PosixAcl;
  readonly default?: PosixAcl;
}

/**
 * Mode and ACLs of a new file in a directory with this default ACL. For symbolic links, which have neither, it is not asked.
 *
 * Shape:   without a default ACL the umask is taken off; with one, what it does not give, and what `mode` does not ask for.
 */
export function createAcl(defaultAcl: PosixAcl | undefined, mode: number, umask: number, isDirectory: boolean): NewAcl {
  if (defaultAcl === undefined) return { mode: mode & ~(umask & 0o777) };
  const { permissions, isMinimal } = equivalentMode(defaultAcl);
  const granted = mode & permissions;
  return {
    mode: (mode & ~0o777) | granted,
    ...(isMinimal ? {} : { access: withPermissions(defaultAcl, granted) }),
    ...(isDirectory ? { default: defaultAcl } : {}),
  };
}

/** The entries behind the three classes of permission bits. */
function classesOf(acl: PosixAcl): { owner: AclEntry | undefined; group: AclEntry | undefined; other: AclEntry | undefined } {
  const entry = (tag: number) => acl.find((each) => each.tag === tag);
  return { owner: entry(ACL_USER_OBJ), group: entry(ACL_MASK) ?? entry(ACL_GROUP_OBJ), other: entry(ACL_OTHER) };
}

function withPermissions(acl: PosixAcl, mode: number): PosixAcl {
  const { owner, group, other } = classesOf(acl);
  return acl.map((entry) => {
    if (entry === owner) return { ...entry, perm: (mode >> 6) & 7 };
    if (entry === group) return { ...entry, perm: (mode >> 3) & 7 };
    if (entry === other) return { ...entry, perm: mode & 7 };
    return entry;
  });
}

/**
 * Does the ACL grant `mask` (R_OK, W_OK, X_OK, or'ed)? Capabilities are not looked at.
 *
 * The first of these decides: the owner; a named user; the groups, of which one entry must grant all of the mask; others.
 */
export function aclAllows(caller: Caller, attr: Pick<Attr, 'uid' | 'gid'>, acl: PosixAcl, mask: number): boolean {
  const limit = acl.find(({ tag }) => tag === ACL_MASK)?.perm ?? 7;
  let isInGroup = false;
  for (const { tag, perm, id } of acl) {
    if (tag === ACL_USER_OBJ && caller.uid === attr.uid) return (mask & ~perm) === 0;
    if (tag === ACL_USER && caller.uid === id) return (mask & ~(perm & limit)) === 0;
    if ((tag === ACL_GROUP_OBJ && inGroup(caller, attr.gid)) || (tag === ACL_GROUP && inGroup(caller, id))) {
      isInGroup = true;
      if ((mask & ~perm) === 0) return (mask & ~limit) === 0;
    }
    if (tag === ACL_OTHER) return !isInGroup && (mask & ~perm) === 0;
  }
  return false;
}

const TAG_NAMES: readonly [name: string, short: string, unnamed: number, named: number | undefined][] = [
  ['user', 'u', ACL_USER_OBJ, ACL_USER],
  ['group', 'g', ACL_GROUP_OBJ, ACL_GROUP],
  ['mask', 'm', ACL_MASK, undefined],
  ['other', 'o', ACL_OTHER, undefined],
];

/**
 * Reads the text forms of acl(5): entries separated by commas or lines, long or short tags, ids as numbers, comments from '#' on.
 *
 * Shape:   in the order of an ACL, whatever the order of the text. A mask that has to be there and is not gets all permissions that it
 *          would limit, as from setfacl.
 * Errors:  EINVAL with the entry in the message, for text that is no valid ACL; also for two entries for one user or group.
 */
export function parseAclText(text: string, syscall = 'setxattr'): PosixAcl {
  const acl: AclEntry[] = [];
  for (const line of text.split('\n')) {
    const entries = line.replace(/#.*/, '').split(',');
    for (const entry of entries) if (entry.trim() !== '') acl.push(parseEntry(entry.trim(), syscall));
  }
  acl.sort((a, b) => a.tag - b.tag || a.id - b.id);
  const second = acl.find((entry, i) => i > 0 && entry.tag === acl[i - 1]?.tag && entry.id === acl[i - 1]?.id);
  if (second !== undefined) throw new FsError('EINVAL', syscall, { detail: `a second ACL entry ${formatEntry(second)}` });
  if (acl.some(({ tag }) => isNamed(tag)) && !acl.some(({ tag }) => tag === ACL_MASK)) {
    const limited = acl.filter(({ tag }) => isNamed(tag) || tag === ACL_GROUP_OBJ).reduce((perms, { perm }) => perms | perm, 0);
    acl.splice(-1, 0, { tag: ACL_MASK, perm: limited, id: ACL_UNDEFINED_ID });
  }
  checkAcl(acl, syscall);
  return acl;
}

/** `tag:id:permissions`; mask and other may leave out the empty id and its colon. */
function parseEntry(text: string, syscall: string): AclEntry {
  const fields = text.split(':').map((field) => field.trim());
  const row = TAG_NAMES.find(([name, short]) => fields[0] === name || fields[0] === short);
  if (fields.length === 2 && row?.[3] === undefined) fields.splice(1, 0, '');
  const [, idText = '', permText = ''] = fields;

  const tag = idText === '' ? row?.[2] : row?.[3];
  const id = idText === '' ? ACL_UNDEFINED_ID : /^[0-9]+$/.test(idText) ? Number(idText) : undefined;
  const perm = permOf(permText);
  if (fields.length !== 3 || tag === undefined || id === undefined || perm === undefined || (idText !== '' && id >= ACL_UNDEFINED_ID)) {
    throw new FsError('EINVAL', syscall, { detail: `ACL entry ${text.slice(0, 80)}` });
  }
  return { tag, perm, id };
}

/** Permissions as letters, each at most once, or as an octal digit. */
function permOf(text: string): number | undefined {
  if (/^[0-7]$/.test(text)) return Number(text);
  if (!/^(?!.*([rwx]).*\1)[rwx-]{1,3}$/.test(text)) return undefined;
  return (text.includes('r') ? R_OK : 0) | (text.includes('w') ? W_OK : 0) | (text.includes('x') ? X_OK : 0);
}

/** The long text form on one line: what getfacl shows, with commas. */
export function formatAclText(acl: PosixAcl): string {
  return acl.map(formatEntry).join(',');
}

function formatEntry({ tag, perm, id }: AclEntry): string {
  const name = TAG_NAMES.find(([, , unnamed, named]) => tag === unnamed || tag === named)?.[0] ?? '';
  return `${name}:${isNamed(tag) ? id : ''}:${perm & R_OK ? 'r' : '-'}${perm & W_OK ? 'w' : '-'}${perm & X_OK ? 'x' : '-'}`;
}
