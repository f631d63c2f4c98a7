import assert from 'node:assert/strict';
import { struct, u16, u32 } from '../../src/layout/struct.ts';
import { O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY, R_OK, W_OK, X_OK } from '../../src/vfs/uapi.ts';
import type { Ids, PosixFace } from '../support/posix-face.ts';
import { ALICE, allNeed, type Behaviours, BOB, fails, isThere, modeOf, needs, owned, put, STAFF, withFile } from './behaviour.ts';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';

// biome-ignore format: one row per field, as the format is drawn
/** struct posix_acl_xattr_entry; a u32 of 2, the version, stands before the first. Source: Linux include/uapi/linux/posix_acl_xattr.h */
const entry = struct('posix_acl_xattr_entry', 8, {
  e_tag:  u16(0),
  e_perm: u16(2),
  e_id:   u32(4), // all ones where the tag names nobody
});

// Tags in the order in which they have to stand. Source: Linux include/uapi/linux/posix_acl.h
const TAGS: Record<string, number> = { u: 0x01, user: 0x02, g: 0x04, group: 0x08, m: 0x10, o: 0x20 };

/** The attribute of an ACL in words: 'u:rw- user:1001:r-- g:r-- m:rw- o:---'. */
function acl(words: string): Uint8Array {
  const entries = words.split(' ');
  const out = new Uint8Array(4 + entries.length * entry.size);
  out[0] = 2;
  entries.forEach((each, i) => {
    const parts = each.split(':');
    const perm = parts.at(-1) ?? '';
    entry.write(out, 4 + i * entry.size, {
      e_tag: TAGS[parts[0] ?? ''] ?? 0,
      e_perm: (perm[0] === 'r' ? 4 : 0) | (perm[1] === 'w' ? 2 : 0) | (perm[2] === 'x' ? 1 : 0),
      e_id: parts.length === 3 ? Number(parts[1]) : 0xffffffff,
    });
  });
  return out;
}

/** The words of an attribute. */
function wordsOf(bytes: Uint8Array): string {
  const words: string[] = [];
  for (let at = 4; at < bytes.length; at += entry.size) {
    const { e_tag, e_perm, e_id } = entry.read(bytes, at);
    const tag = Object.keys(TAGS).find((name) => TAGS[name] === e_tag);
    const perm = `${e_perm & 4 ? 'r' : '-'}${e_perm & 2 ? 'w' : '-'}${e_perm & 1 ? 'x' : '-'}`;
    words.push(e_tag === TAGS['user'] || e_tag === TAGS['group'] ? `${tag}:${e_id}:${perm}` : `${tag}:${perm}`);
  }
  return words.join(' ');
}

/** What this caller may do with the file, by access and by open: 'rw' and the like. */
async function may(fs: PosixFace, ids: Ids, path = 'f'): Promise<string> {
  return await fs.as(ids, async () => {
    let found = '';
    for (const [letter, mask, flags] of [
      ['r', R_OK, O_RDONLY],
      ['w', W_OK, O_WRONLY],
      ['x', X_OK, undefined],
    ] as const) {
      try {
        await fs.access(path, mask);
        if (flags !== undefined) await (await fs.open(path, flags)).close();
        found += letter;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'EACCES');
        if (flags !== undefined) await fails('EACCES', () => fs.open(path, flags));
      }
    }
    return found;
  });
}

/** Names of ACLs that a listing tells; filesystems that keep them under other names may tell those too. */
async function listed(fs: PosixFace, path: string): Promise<string[]> {
  return (await fs.listxattr(path)).filter((name) => name.startsWith('system.'));
}

/** A file of root with this ACL. */
async function guarded(fs: PosixFace, words: string, mode = 0o644): Promise<void> {
  await put(fs, 'f', 'content');
  await fs.chmod('f', mode);
  await fs.setxattr('f', ACCESS, acl(words));
}

const CAROL: Ids = { uid: 1003, gid: 1003 };

/** POSIX ACLs. */
export const acls: Behaviours = allNeed('acl', {
  'what is set is got': async (fs) => {
    const words = 'u:rw- user:1001:r-- user:1002:rwx g:r-- group:2000:-w- m:rwx o:---';
    await guarded(fs, words);
    assert.equal(wordsOf(await fs.getxattr('f', ACCESS)), words);
    assert.deepEqual(await listed(fs, 'f'), [ACCESS]);
  },
  'a file has none at first, and a mode says the same': async (fs) => {
    await put(fs, 'f');
    await fs.mkdir('d');
    await fails('ENODATA', () => fs.getxattr('f', ACCESS));
    await fails('ENODATA', () => fs.getxattr('d', DEFAULT));
  },
  'an ACL that a mode can say becomes the mode': async (fs) => {
    await guarded(fs, 'u:rwx g:r-x o:--x', 0o600);
    assert.equal(await modeOf(fs, 'f'), 0o751);
    await fails('ENODATA', () => fs.getxattr('f', ACCESS));
    assert.deepEqual(await fs.listxattr('f'), []);
  },
  'the bits of the group are the mask': async (fs) => {
    await guarded(fs, 'u:rw- user:1001:rw- g:r-- m:rw- o:r--');
    assert.equal(await modeOf(fs, 'f'), 0o664);
  },
  'chmod changes owner, mask and others': async (fs) => {
    await guarded(fs, 'u:rw- user:1001:rw- g:r-- m:rw- o:r--');
    await fs.chmod('f', 0o751);
    assert.equal(wordsOf(await fs.getxattr('f', ACCESS)), 'u:rwx user:1001:rw- g:r-- m:r-x o:--x');
    assert.equal(await modeOf(fs, 'f'), 0o751);
  },
  'a named user has what is said, whatever others have': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- user:1001:rw- user:1002:--- g:r-- m:rw- o:r--');
    assert.deepEqual([await may(fs, ALICE), await may(fs, BOB), await may(fs, CAROL)], ['rw', '', 'r']);
  }),
  'the owner has what the owner has, not what a name says': needs('users', async (fs) => {
    await guarded(fs, 'u:r-- user:1001:rwx g:--- m:rwx o:---');
    await fs.chown('f', ALICE.uid, 0);
    assert.equal(await may(fs, ALICE), 'r');
  }),
  'the mask bounds named users and all groups, not owner and others': needs('users', async (fs) => {
    await guarded(fs, 'u:rwx user:1001:rwx g:rwx group:2000:rwx m:r-- o:rwx');
    await fs.chown('f', BOB.uid, 3000);
    assert.deepEqual(
      [await may(fs, ALICE), await may(fs, BOB), await may(fs, { ...CAROL, groups: [STAFF] }), await may(fs, { ...CAROL, groups: [3000] })],
      ['r', 'rwx', 'r', 'r'],
    );
    assert.equal(await may(fs, CAROL), 'rwx');
  }),
  'a named group has what is said': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- g:--- group:2000:rw- m:rw- o:---');
    assert.deepEqual([await may(fs, { ...ALICE, groups: [STAFF] }), await may(fs, ALICE)], ['rw', '']);
  }),
  'who is in a group that is named never counts among others': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- g:--- group:2000:--- m:rwx o:rw-');
    assert.deepEqual([await may(fs, { ...ALICE, groups: [STAFF] }), await may(fs, ALICE)], ['', 'rw']);
  }),
  'one of several groups is enough, but two do not add up': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- g:--- group:2000:r-- group:3000:-w- m:rw- o:---');
    const both = { ...ALICE, groups: [STAFF, 3000] };
    assert.equal(await may(fs, both), 'rw');
    await fs.as(both, () => fails('EACCES', () => fs.open('f', O_RDWR)));
    await fs.as(both, () => fails('EACCES', () => fs.access('f', R_OK | W_OK)));
  }),
  'a directory is searched by its ACL': needs('users', async (fs) => {
    await fs.mkdir('d', 0o700);
    await put(fs, 'd/f');
    await fs.setxattr('d', ACCESS, acl('u:rwx user:1001:--x g:--- m:--x o:---'));
    await fs.as(ALICE, () => fs.stat('d/f'));
    await fs.as(BOB, () => fails('EACCES', () => fs.stat('d/f')));
    await fs.as(ALICE, () => fails('EACCES', () => fs.open('d', O_RDONLY)));
  }),
  'a directory takes new names by its ACL': needs('users', async (fs) => {
    await fs.mkdir('d', 0o700);
    await fs.setxattr('d', ACCESS, acl('u:rwx user:1001:-wx g:--- m:-wx o:---'));
    await fs.as(ALICE, () => put(fs, 'd/f'));
    await fs.as(BOB, () => fails('EACCES', () => fs.mkdir('d/e')));
    assert.ok(await isThere(fs, 'd/f'));
  }),
  'root is not asked': async (fs) => {
    await guarded(fs, 'u:--- user:0:--- g:--- m:--- o:---');
    await withFile(fs, 'f', O_RDWR, () => {});
  },
  'an ACL that is taken away leaves the mode': async (fs) => {
    await guarded(fs, 'u:rw- user:1001:rw- g:r-- m:rw- o:r--');
    await fs.removexattr('f', ACCESS);
    assert.equal(await modeOf(fs, 'f'), 0o664);
    await fails('ENODATA', () => fs.getxattr('f', ACCESS));
  },
  'ACLs are set by the owner': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.as(BOB, async () => {
      await fails('EPERM', () => fs.setxattr('f', ACCESS, acl('u:rw- g:rw- o:rw-')));
      await fails('EPERM', () => fs.removexattr('f', ACCESS));
    });
    await fs.as(ALICE, () => fs.setxattr('f', ACCESS, acl('u:rw- user:1002:r-- g:--- m:r-- o:---')));
    assert.equal(await may(fs, BOB), 'r');
  }),
  'ACLs are read by everybody': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- user:1002:r-- g:--- m:r-- o:---');
    await fs.as(ALICE, async () => assert.equal(wordsOf(await fs.getxattr('f', ACCESS)), 'u:rw- user:1002:r-- g:--- m:r-- o:---'));
  }),
  'an ACL without owner, group, others, or a mask that it needs is EINVAL': async (fs) => {
    await put(fs, 'f');
    for (const words of ['u:rw- g:r--', 'u:rw- o:r--', 'g:rw- o:r--', 'u:rw- user:1001:r-- g:r-- o:r--', 'u:rw- u:rw- g:r-- o:r--']) {
      await fails('EINVAL', () => fs.setxattr('f', ACCESS, acl(words)));
    }
  },
  'an ACL out of order is EINVAL': async (fs) => {
    await put(fs, 'f');
    await fails('EINVAL', () => fs.setxattr('f', ACCESS, acl('g:r-- u:rw- o:r--')));
    await fails('EINVAL', () => fs.setxattr('f', ACCESS, acl('u:rw- g:r-- user:1001:r-- m:r-- o:r--')));
  },
  'an ACL may name a user twice: the first entry counts': needs('users', async (fs) => {
    await guarded(fs, 'u:rw- user:1001:r-- user:1001:-w- g:--- m:rw- o:---');
    assert.equal(await may(fs, ALICE), 'r');
  }),
  'an ACL with an unknown tag or permission is EINVAL': async (fs) => {
    await put(fs, 'f');
    const good = acl('u:rw- g:r-- o:r--');
    await fails('EINVAL', () =>
      fs.setxattr(
        'f',
        ACCESS,
        Uint8Array.from(good, (byte, i) => (i === 4 ? 0x40 : byte)),
      ),
    );
    await fails('EINVAL', () =>
      fs.setxattr(
        'f',
        ACCESS,
        Uint8Array.from(good, (byte, i) => (i === 6 ? 0x0e : byte)),
      ),
    );
  },
  'an ACL of no entries takes the ACL away': async (fs) => {
    await guarded(fs, 'u:rw- user:1001:rw- g:r-- m:rw- o:r--');
    await fs.setxattr('f', ACCESS, acl('u:rw- g:r-- o:r--').subarray(0, 4));
    await fails('ENODATA', () => fs.getxattr('f', ACCESS));
  },
  'an ACL cut short is EINVAL, of another version EOPNOTSUPP': async (fs) => {
    await put(fs, 'f');
    const good = acl('u:rw- g:r-- o:r--');
    await fails('EINVAL', () => fs.setxattr('f', ACCESS, good.subarray(0, good.length - 1)));
    await fails('EINVAL', () => fs.setxattr('f', ACCESS, good.subarray(0, 3)));
    await fails('EOPNOTSUPP', () =>
      fs.setxattr(
        'f',
        ACCESS,
        Uint8Array.from(good, (byte, i) => (i === 0 ? 3 : byte)),
      ),
    );
  },
  'a default ACL is for directories': async (fs) => {
    await put(fs, 'f');
    await fails('EACCES', () => fs.setxattr('f', DEFAULT, acl('u:rw- g:r-- o:r--')));
  },
  'a link has no ACL': async (fs) => {
    await fs.symlink('nowhere', 'l');
    await fails('EOPNOTSUPP', () => fs.lsetxattr('l', ACCESS, acl('u:rw- g:r-- o:r--')));
    await fails('EOPNOTSUPP', () => fs.lgetxattr('l', ACCESS));
  },
  'a default ACL leaves the directory as it is': async (fs) => {
    await fs.mkdir('d', 0o700);
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:rwx m:rwx o:rwx'));
    assert.equal(await modeOf(fs, 'd'), 0o700);
    await fails('ENODATA', () => fs.getxattr('d', ACCESS));
    assert.deepEqual(await listed(fs, 'd'), [DEFAULT]);
  },
  'a new file takes the default ACL, cut to the mode asked for, without the umask': async (fs) => {
    fs.umask(0o077);
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:r-x m:rwx o:r-x'));
    await put(fs, 'd/f', '', 0o664);
    assert.equal(await modeOf(fs, 'd/f'), 0o664);
    assert.equal(wordsOf(await fs.getxattr('d/f', ACCESS)), 'u:rw- user:1001:rwx g:r-x m:rw- o:r--');
    await fails('EACCES', () => fs.setxattr('d/f', DEFAULT, acl('u:rw- g:r-- o:r--')));
  },
  'a new directory takes the default ACL for itself and as its own default': async (fs) => {
    const words = 'u:rwx user:1001:rwx g:r-x m:rwx o:r-x';
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl(words));
    await fs.mkdir('d/e', 0o750);
    assert.equal(wordsOf(await fs.getxattr('d/e', DEFAULT)), words);
    assert.equal(wordsOf(await fs.getxattr('d/e', ACCESS)), 'u:rwx user:1001:rwx g:r-x m:r-x o:---');
    assert.equal(await modeOf(fs, 'd/e'), 0o750);
  },
  'a default ACL that a mode can say gives new files that mode': async (fs) => {
    fs.umask(0o077);
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx g:r-x o:r--'));
    await put(fs, 'd/f', '', 0o666);
    assert.equal(await modeOf(fs, 'd/f'), 0o644);
    await fails('ENODATA', () => fs.getxattr('d/f', ACCESS));
    await fs.mkdir('d/e', 0o777);
    assert.equal(await modeOf(fs, 'd/e'), 0o754);
    assert.equal(wordsOf(await fs.getxattr('d/e', DEFAULT)), 'u:rwx g:r-x o:r--');
  },
  'a new special file takes the default ACL, a new link does not': async (fs) => {
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:r-x m:rwx o:r-x'));
    await fs.mknod('d/p', 0o010660);
    await fs.symlink('nowhere', 'd/l');
    assert.equal(wordsOf(await fs.getxattr('d/p', ACCESS)), 'u:rw- user:1001:rwx g:r-x m:rw- o:---');
    assert.equal(await modeOf(fs, 'd/l'), 0o777);
  },
  'a new file without a name takes the default ACL': needs('tmpfile', async (fs) => {
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:r-x m:rwx o:r-x'));
    await withFile(fs, 'd', O_RDWR | O_TMPFILE, async (file) => {
      assert.ok((await file.flistxattr()).includes(ACCESS));
    });
  }),
  'a moved file keeps its ACL and takes none from its new directory': async (fs) => {
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:r-x m:rwx o:r-x'));
    await put(fs, 'f');
    await fs.rename('f', 'd/f');
    await fails('ENODATA', () => fs.getxattr('d/f', ACCESS));
  },
  'a default ACL that is taken away counts for new files no more': async (fs) => {
    await fs.mkdir('d');
    await fs.setxattr('d', DEFAULT, acl('u:rwx user:1001:rwx g:r-x m:rwx o:r-x'));
    await fs.removexattr('d', DEFAULT);
    await put(fs, 'd/f');
    await fails('ENODATA', () => fs.getxattr('d/f', ACCESS));
    assert.equal(await modeOf(fs, 'd/f'), 0o644);
  },
  'setting an ACL clears setgid for an owner who is not in the group': needs('users', async (fs) => {
    await put(fs, 'f');
    await fs.chown('f', ALICE.uid, STAFF);
    await fs.chmod('f', 0o2755);
    await fs.as(ALICE, () => fs.setxattr('f', ACCESS, acl('u:rwx user:1002:r-x g:r-x m:r-x o:r-x')));
    assert.equal(await modeOf(fs, 'f'), 0o755);
  }),
  'an open file has its ACL too': async (fs) => {
    const file = await fs.open('f', O_RDWR | O_CREAT);
    await file.fsetxattr(ACCESS, acl('u:rw- user:1001:r-- g:--- m:r-- o:---'));
    assert.equal(wordsOf(await file.fgetxattr(ACCESS)), 'u:rw- user:1001:r-- g:--- m:r-- o:---');
    await file.fchmod(0o600);
    assert.equal(wordsOf(await fs.getxattr('f', ACCESS)), 'u:rw- user:1001:r-- g:--- m:--- o:---');
    await file.close();
  },
});
