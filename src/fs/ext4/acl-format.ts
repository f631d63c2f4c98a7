import { FsError } from '../../base/fs-error.ts';
import { struct, u16, u32 } from '../../layout/struct.ts';
import { ACL_GROUP, ACL_UNDEFINED_ID, ACL_USER, type AclEntry, checkAcl, type PosixAcl } from '../../vfs/posix-acl.ts';

// ACLs as ext4 stores them: version 1, and an id only where there is one. Source: Linux fs/ext4/acl.h.

const EXT4_ACL_VERSION = 1;

const ext4_acl_header = struct('ext4_acl_header', 4, { a_version: u32(0) });
/** An entry for the owner, the owning group, the mask or others. */
const ext4_acl_entry_short = struct('ext4_acl_entry_short', 4, { e_tag: u16(0), e_perm: u16(2) });
/** An entry for a user or a group. */
const ext4_acl_entry = struct('ext4_acl_entry', 8, { e_tag: u16(0), e_perm: u16(2), e_id: u32(4) });

/** Errors: EUCLEAN for bytes that are no valid ACL. */
export function decodeAcl(bytes: Uint8Array): PosixAcl {
  const bad = (): never => {
    throw new FsError('EUCLEAN', 'getxattr', { detail: `an ACL of ${bytes.length} bytes` });
  };
  if (ext4_acl_header.read(bytes).a_version !== EXT4_ACL_VERSION) bad();
  const acl: AclEntry[] = [];
  const short = ext4_acl_entry_short.view();
  const long = ext4_acl_entry.view();
  for (let at = ext4_acl_header.size; at < bytes.length; ) {
    const { e_tag: tag, e_perm: perm } = short.at(bytes, at);
    const hasId = tag === ACL_USER || tag === ACL_GROUP;
    acl.push({ tag, perm, id: hasId ? long.at(bytes, at).e_id : ACL_UNDEFINED_ID });
    at += hasId ? ext4_acl_entry.size : ext4_acl_entry_short.size;
  }
  try {
    checkAcl(acl, 'getxattr');
  } catch {
    bad();
  }
  return acl;
}

export function encodeAcl(acl: PosixAcl): Uint8Array {
  const bytes = new Uint8Array(ext4_acl_header.size + acl.length * ext4_acl_entry.size);
  ext4_acl_header.write(bytes, 0, { a_version: EXT4_ACL_VERSION });
  let at = ext4_acl_header.size;
  for (const { tag, perm, id } of acl) {
    if (tag === ACL_USER || tag === ACL_GROUP) {
      ext4_acl_entry.write(bytes, at, { e_tag: tag, e_perm: perm, e_id: id });
      at += ext4_acl_entry.size;
    } else {
      ext4_acl_entry_short.write(bytes, at, { e_tag: tag, e_perm: perm });
      at += ext4_acl_entry_short.size;
    }
  }
  return bytes.slice(0, at);
}
