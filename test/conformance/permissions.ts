import assert from 'node:assert/strict';
import {
  F_OK,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  R_OK,
  RENAME_EXCHANGE,
  S_IFIFO,
  S_IFREG,
  S_ISGID,
  S_ISUID,
  S_ISVTX,
  W_OK,
  X_OK,
} from '../../src/vfs/uapi.ts';
import type { Ids, PosixFace } from '../support/posix-face.ts';
import {
  ALICE,
  ALICE_OF_STAFF,
  allNeed,
  type Behaviours,
  BOB,
  commons,
  fails,
  isThere,
  mkdirs,
  modeOf,
  needs,
  OLD,
  owned,
  ownedDir,
  put,
  STAFF,
  textIn,
  withFile,
} from './behaviour.ts';

const NOW = 'now';

/** Opens for reading and for writing, by one caller, of a file of Alice and of group STAFF with this mode: 'rw', 'r', 'w' or ''. */
async function rights(fs: PosixFace, mode: number, ids: Ids): Promise<string> {
  await put(fs, 'f', 'content');
  await fs.chown('f', ALICE.uid, STAFF);
  await fs.chmod('f', mode);
  return await fs.as(ids, async () => {
    let found = '';
    for (const [letter, flags, mask] of [
      ['r', O_RDONLY, R_OK],
      ['w', O_WRONLY, W_OK],
    ] as const) {
      let may = true;
      try {
        await (await fs.open('f', flags)).close();
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'EACCES');
        may = false;
      }
      if (may) await fs.access('f', mask);
      else await fails('EACCES', () => fs.access('f', mask));
      if (may) found += letter;
    }
    return found;
  });
}

/** Of the bits for owner, group and others only those of the caller's class count. */
const classBehaviours: Behaviours = Object.fromEntries(
  [
    ['the owner', ALICE, [0o700, 0o400, 0o200, 0o077], ['rw', 'r', 'w', '']],
    ['the group by gid', { uid: BOB.uid, gid: STAFF }, [0o070, 0o040, 0o020, 0o707], ['rw', 'r', 'w', '']],
    ['the group by a further group', { ...BOB, groups: [3000, STAFF] }, [0o070, 0o040, 0o020, 0o707], ['rw', 'r', 'w', '']],
    ['others', BOB, [0o007, 0o004, 0o002, 0o770], ['rw', 'r', 'w', '']],
    ['the owner, who is in the group too', { ...ALICE, groups: [STAFF] }, [0o700, 0o477, 0o277, 0o077], ['rw', 'r', 'w', '']],
    ['root', { uid: 0, gid: 0 }, [0o000, 0o400, 0o020, 0o777], ['rw', 'rw', 'rw', 'rw']],
  ].map(([who, ids, modes, expected]) => [
    `${who as string} reads and writes by the bits of that class`,
    async (fs: PosixFace) => {
      const found: string[] = [];
      for (const mode of modes as number[]) found.push(await rights(fs, mode, ids as Ids));
      assert.deepEqual(found, expected);
    },
  ]),
);

/** Who may do what. */
export const permissions: Behaviours = allNeed('users', {
  ...classBehaviours,
  'new names need write and search permission of the directory': async (fs) => {
    await put(fs, 'own');
    await fs.chown('own', ALICE.uid, ALICE.gid);
    for (const mode of [0o755, 0o776, 0o775, 0o774]) {
      await commons(fs, `d${mode}`, mode);
      await fs.as(ALICE, async () => {
        await fails('EACCES', () => fs.open(`d${mode}/x`, O_WRONLY | O_CREAT));
        await fails('EACCES', () => fs.mkdir(`d${mode}/x`));
        await fails('EACCES', () => fs.symlink('t', `d${mode}/x`));
        await fails('EACCES', () => fs.mknod(`d${mode}/x`, S_IFIFO | 0o600));
        await fails('EACCES', () => fs.link('own', `d${mode}/x`));
      });
    }
  },
  'write and search permission of the directory are enough for new names': async (fs) => {
    await commons(fs, 'd', 0o733);
    await fs.as(ALICE, async () => {
      await put(fs, 'd/f', 'content');
      await fs.mkdir('d/e');
      await fs.symlink('t', 'd/l');
      const stat = await fs.lstat('d/f');
      assert.deepEqual([stat.uid, stat.gid], [ALICE.uid, ALICE.gid]);
      assert.equal((await fs.lstat('d/l')).uid, ALICE.uid);
      assert.equal((await fs.lstat('d/e')).gid, ALICE.gid);
    });
  },
  'removal asks the directory, not the file': async (fs) => {
    await commons(fs, 'd');
    await put(fs, 'd/f', '', 0o600);
    await fs.mkdir('d/e', 0o700);
    await fs.as(ALICE, async () => {
      await fs.unlink('d/f');
      await fs.rmdir('d/e');
    });
  },
  'removal needs write permission of the directory': async (fs) => {
    await fs.mkdir('d', 0o755);
    await owned(fs, 'd/f', ALICE, 0o777);
    await ownedDir(fs, 'd/e', ALICE, 0o777);
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.unlink('d/f'));
      await fails('EACCES', () => fs.rmdir('d/e'));
      await fails('EACCES', () => fs.rename('d/f', 'd/g'));
      await fails('ENOENT', () => fs.unlink('d/missing'));
    });
  },
  'an existing name is EEXIST before a directory is not writable': async (fs) => {
    await fs.mkdir('d', 0o755);
    await fs.mkdir('d/e');
    await fs.as(ALICE, async () => {
      await fails('EEXIST', () => fs.mkdir('d/e'));
      await fails('EEXIST', () => fs.symlink('t', 'd/e'));
    });
  },
  'O_CREAT of an existing file needs nothing of the directory': async (fs) => {
    await fs.mkdir('d', 0o755);
    await owned(fs, 'd/f', ALICE, 0o600, 'content');
    await fs.as(ALICE, () => withFile(fs, 'd/f', O_RDWR | O_CREAT, (file) => file.write('x')));
    assert.equal(await textIn(fs, 'd/f'), 'xontent');
  },
  'rename needs write permission of both directories': async (fs) => {
    await commons(fs, 'open');
    await fs.mkdir('closed', 0o755);
    await owned(fs, 'open/f', ALICE, 0o644);
    await owned(fs, 'closed/g', ALICE, 0o644);
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.rename('open/f', 'closed/f'));
      await fails('EACCES', () => fs.rename('closed/g', 'open/g'));
      await fails('EACCES', () => fs.rename('open/f', 'closed/g'));
    });
  },
  'a directory moves to another parent only if it is writable itself': async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await fs.chmod('x', 0o777);
    await fs.chmod('y', 0o777);
    await fs.mkdir('x/d', 0o755);
    await ownedDir(fs, 'x/own', ALICE, 0o755);
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.rename('x/d', 'y/d'));
      await fs.rename('x/d', 'x/e');
      await fs.rename('x/own', 'y/own');
    });
  },
  'an exchange asks the same of both': needs('exchange', async (fs) => {
    await mkdirs(fs, 'x', 'y');
    await fs.chmod('x', 0o777);
    await fs.chmod('y', 0o777);
    await ownedDir(fs, 'x/own', ALICE, 0o755);
    await fs.mkdir('y/d', 0o755);
    await fs.as(ALICE, () => fails('EACCES', () => fs.rename('x/own', 'y/d', RENAME_EXCHANGE)));
  }),
  'truncate needs write permission, ftruncate an open file': async (fs) => {
    await owned(fs, 'f', ALICE, 0o444, 'content');
    await fs.as(BOB, () => fails('EACCES', () => fs.truncate('f', 1)));
    await fs.chmod('f', 0o666);
    const file = await fs.as(BOB, () => fs.open('f', O_RDWR));
    await fs.chmod('f', 0o000);
    await fs.as(BOB, () => file.ftruncate(2));
    assert.equal((await fs.stat('f')).size, 2);
    await file.close();
  },
  'stat needs nothing of the file': async (fs) => {
    await put(fs, 'f', '', 0o000);
    await fs.as(ALICE, async () => assert.equal((await fs.stat('f')).uid, 0));
  },
  'readlink needs nothing of the link': async (fs) => {
    await fs.symlink('t', 'l');
    await fs.as(ALICE, async () => assert.equal(await fs.readlink('l'), 't'));
  },
  'access tells what exists and what is allowed': async (fs) => {
    await owned(fs, 'f', ALICE, 0o640);
    await fs.as(ALICE, async () => {
      await fs.access('f', F_OK);
      await fs.access('f', R_OK | W_OK);
      await fails('EACCES', () => fs.access('f', X_OK));
      await fails('EACCES', () => fs.access('f', R_OK | X_OK));
      await fails('ENOENT', () => fs.access('missing', F_OK));
    });
    await fs.as(BOB, async () => {
      await fs.access('f', F_OK);
      await fails('EACCES', () => fs.access('f', R_OK));
    });
  },
  'access with an unknown mask is EINVAL': async (fs) => {
    await put(fs, 'f');
    await fails('EINVAL', () => fs.access('f', 8));
    await fails('EINVAL', () => fs.access('f', -1));
  },
  'access follows links': async (fs) => {
    await put(fs, 'f', '', 0o600);
    await fs.symlink('f', 'l');
    await fs.symlink('nowhere', 'm');
    await fs.as(ALICE, async () => {
      await fails('EACCES', () => fs.access('l', R_OK));
      await fails('ENOENT', () => fs.access('m', F_OK));
    });
  },
  'root executes what somebody may execute': async (fs) => {
    await put(fs, 'f');
    for (const [mode, may] of [
      [0o644, false],
      [0o000, false],
      [0o001, true],
      [0o010, true],
      [0o100, true],
    ] as const) {
      await fs.chmod('f', mode);
      if (may) await fs.access('f', X_OK);
      else await fails('EACCES', () => fs.access('f', X_OK));
    }
  },
  'root searches and lists every directory': async (fs) => {
    await ownedDir(fs, 'd', ALICE, 0o000);
    await put(fs, 'd/f', 'content');
    assert.equal(await textIn(fs, 'd/f'), 'content');
    await fs.access('d', R_OK | W_OK | X_OK);
  },
  'chmod is for the owner': async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.as(BOB, async () => {
      await fails('EPERM', () => fs.chmod('f', 0o777));
      await withFile(fs, 'f', O_RDWR, (file) => fails('EPERM', () => file.fchmod(0o777)));
    });
    await fs.as(ALICE, () => fs.chmod('f', 0o600));
    assert.equal(await modeOf(fs, 'f'), 0o600);
  },
  'chown to another user is for root': async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.as(ALICE, async () => {
      await fails('EPERM', () => fs.chown('f', BOB.uid, -1));
      await fails('EPERM', () => fs.chown('f', 0, -1));
      await fs.chown('f', ALICE.uid, -1);
      await fs.chown('f', -1, -1);
    });
    await fs.as(BOB, () => fails('EPERM', () => fs.chown('f', BOB.uid, -1)));
  },
  'chown to a group is for the owner, who is in it': async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.as(ALICE, () => fails('EPERM', () => fs.chown('f', -1, STAFF)));
    await fs.as(ALICE_OF_STAFF, () => fs.chown('f', -1, STAFF));
    assert.equal((await fs.stat('f')).gid, STAFF);
    await fs.as({ ...BOB, groups: [STAFF] }, () => fails('EPERM', () => fs.chown('f', -1, BOB.gid)));
  },
  'chown of a set-id file to the owner that it has is for the owner': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755);
    await fs.as(BOB, () => fails('EPERM', () => fs.chown('f', ALICE.uid, -1)));
    await fs.as(ALICE, () => fs.chown('f', ALICE.uid, ALICE.gid));
    assert.equal(await modeOf(fs, 'f'), 0o755);
  },
  'chown changes what it is told and follows links': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.chown('l', 5, -1);
    await fs.chown('f', -1, 6);
    const stat = await fs.stat('f');
    assert.deepEqual([stat.uid, stat.gid], [5, 6]);
    assert.equal((await fs.lstat('l')).uid, 0);
  },
  'lchown changes the link': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.lchown('l', 5, 6);
    const link = await fs.lstat('l');
    assert.deepEqual([link.uid, link.gid], [5, 6]);
    assert.equal((await fs.stat('f')).uid, 0);
  },
  'owners have 32 bits': async (fs) => {
    await put(fs, 'f');
    await fs.chown('f', 0xfffffffe, 0x80000001);
    const stat = await fs.stat('f');
    assert.deepEqual([stat.uid, stat.gid], [0xfffffffe, 0x80000001]);
  },
  'times are set by the owner, and to now by who may write': async (fs) => {
    await owned(fs, 'f', ALICE, 0o666);
    await fs.as(BOB, async () => {
      await fails('EPERM', () => fs.utimens('f', OLD, OLD));
      await fails('EPERM', () => fs.utimens('f', NOW, OLD));
      await fails('EPERM', () => fs.utimens('f', NOW, 'omit'));
      await fs.utimens('f', NOW, NOW);
      await fs.utimens('f', 'omit', 'omit');
    });
    await fs.chmod('f', 0o444);
    await fs.as(BOB, () => fails('EACCES', () => fs.utimens('f', NOW, NOW)));
    await fs.as(ALICE, async () => {
      await fs.utimens('f', NOW, NOW);
      await fs.utimens('f', OLD, OLD);
    });
  },
  'in a sticky directory only the owner of a file removes it': async (fs) => {
    await commons(fs, 'd', 0o1777);
    await owned(fs, 'd/f', ALICE, 0o666);
    await ownedDir(fs, 'd/e', ALICE, 0o777);
    await fs.as(BOB, async () => {
      await fails('EPERM', () => fs.unlink('d/f'));
      await fails('EPERM', () => fs.rmdir('d/e'));
      await fails('EPERM', () => fs.rename('d/f', 'd/g'));
    });
    await fs.as(ALICE, async () => {
      await fs.rename('d/f', 'd/g');
      await fs.unlink('d/g');
      await fs.rmdir('d/e');
    });
  },
  'in a sticky directory only the owner of a file lets it be replaced': async (fs) => {
    await commons(fs, 'd', 0o1777);
    await owned(fs, 'd/f', ALICE, 0o666);
    await owned(fs, 'd/g', BOB, 0o666);
    await fs.as(BOB, () => fails('EPERM', () => fs.rename('d/g', 'd/f')));
    await fs.as(BOB, () => fs.rename('d/g', 'd/h'));
  },
  'the owner of a sticky directory removes what is in it': async (fs) => {
    await ownedDir(fs, 'd', BOB, 0o1777);
    await owned(fs, 'd/f', ALICE, 0o600);
    await fs.as(BOB, () => fs.unlink('d/f'));
  },
  'root removes what is in a sticky directory': async (fs) => {
    await ownedDir(fs, 'd', BOB, 0o1777);
    await owned(fs, 'd/f', ALICE, 0o600);
    await fs.unlink('d/f');
    assert.ok(!(await isThere(fs, 'd/f')));
  },
  'an exchange in a sticky directory asks for both': needs('exchange', async (fs) => {
    await commons(fs, 'd', 0o1777);
    await owned(fs, 'd/f', ALICE, 0o666);
    await owned(fs, 'd/g', BOB, 0o666);
    await fs.as(BOB, () => fails('EPERM', () => fs.rename('d/g', 'd/f', RENAME_EXCHANGE)));
  }),
  'mknod of devices is for root': needs('mknod', async (fs) => {
    await commons(fs, 'd');
    await fs.as(ALICE, async () => {
      await fails('EPERM', () => fs.mknod('d/c', 0o020600, 0x103));
      await fs.mknod('d/p', S_IFIFO | 0o600);
      await fs.mknod('d/f', S_IFREG | 0o600);
    });
  }),
});

/** Modes: umask, inheritance of the group, set-id bits. */
export const modes: Behaviours = {
  'the umask takes bits off new files and directories': async (fs) => {
    fs.umask(0o027);
    await put(fs, 'f', '', 0o666);
    await fs.mkdir('d', 0o777);
    await fs.mknod('p', S_IFIFO | 0o666);
    assert.deepEqual([await modeOf(fs, 'f'), await modeOf(fs, 'd'), await modeOf(fs, 'p')], [0o640, 0o750, 0o640]);
  },
  'the umask takes nothing off chmod': async (fs) => {
    fs.umask(0o077);
    await put(fs, 'f');
    await fs.chmod('f', 0o666);
    assert.equal(await modeOf(fs, 'f'), 0o666);
  },
  'umask gives the one before': async (fs) => {
    assert.equal(fs.umask(0o077), 0o022);
    assert.equal(fs.umask(0o022), 0o077);
  },
  'a new file may have a mode that forbids what it is opened for': async (fs) => {
    const file = await fs.open('f', O_RDWR | O_CREAT, 0o000);
    await file.write('content');
    await file.close();
    assert.equal(await modeOf(fs, 'f'), 0o000);
  },
  'a new file keeps set-id and sticky bits': async (fs) => {
    const file = await fs.open('f', O_RDWR | O_CREAT, 0o7755);
    assert.equal((await file.fstat()).mode & 0o7777, 0o7755);
    await file.close();
  },
  'mkdir keeps the sticky bit': async (fs) => {
    await fs.mkdir('d', 0o1777);
    assert.equal(await modeOf(fs, 'd'), 0o1755);
  },
  'chmod sets all twelve bits and nothing else': async (fs) => {
    await put(fs, 'f');
    await fs.chmod('f', 0o7777);
    assert.equal((await fs.stat('f')).mode, S_IFREG | 0o7777);
    await fs.chmod('f', 0o170000);
    assert.equal((await fs.stat('f')).mode, S_IFREG);
  },
  'chmod follows links': async (fs) => {
    await put(fs, 'f');
    await fs.symlink('f', 'l');
    await fs.chmod('l', 0o600);
    assert.equal(await modeOf(fs, 'f'), 0o600);
    assert.equal(await modeOf(fs, 'l'), 0o777);
  },
  'a setgid directory gives its group to new files': async (fs) => {
    await fs.mkdir('d');
    await fs.chown('d', 0, STAFF);
    await fs.chmod('d', 0o2775);
    await put(fs, 'd/f');
    await fs.symlink('t', 'd/l');
    const stat = await fs.stat('d/f');
    assert.equal(stat.gid, STAFF);
    assert.equal(stat.mode & S_ISGID, 0);
    assert.equal((await fs.lstat('d/l')).gid, STAFF);
  },
  'a setgid directory gives its group and its bit to new directories': async (fs) => {
    await fs.mkdir('d');
    await fs.chown('d', 0, STAFF);
    await fs.chmod('d', 0o2775);
    await fs.mkdir('d/e', 0o755);
    assert.equal((await fs.stat('d/e')).gid, STAFF);
    assert.equal(await modeOf(fs, 'd/e'), 0o2755);
  },
  'a setgid directory does not let others make setgid files of its group': needs('users', async (fs) => {
    await fs.mkdir('d');
    await fs.chown('d', 0, STAFF);
    await fs.chmod('d', 0o2777);
    await fs.as(ALICE, async () => {
      const file = await fs.open('d/f', O_RDWR | O_CREAT, 0o2775);
      await file.close();
    });
    assert.equal(await modeOf(fs, 'd/f'), 0o755);
    assert.equal((await fs.stat('d/f')).gid, STAFF);
  }),
  'a setgid directory lets members of its group make setgid files': needs('users', async (fs) => {
    await fs.mkdir('d');
    await fs.chown('d', 0, STAFF);
    await fs.chmod('d', 0o2777);
    await fs.as(ALICE_OF_STAFF, async () => {
      const file = await fs.open('d/f', O_RDWR | O_CREAT, 0o2775);
      await file.close();
    });
    assert.equal(await modeOf(fs, 'd/f'), 0o2755);
  }),
  'chmod by who is not in the group drops setgid': needs('users', async (fs) => {
    await put(fs, 'f');
    await fs.chown('f', ALICE.uid, STAFF);
    await fs.as(ALICE, () => fs.chmod('f', 0o2755));
    assert.equal(await modeOf(fs, 'f'), 0o755);
    await fs.as(ALICE_OF_STAFF, () => fs.chmod('f', 0o2755));
    assert.equal(await modeOf(fs, 'f'), 0o2755);
  }),
  'a write by others clears set-id bits': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o6777, 'content');
    await fs.as(BOB, () => withFile(fs, 'f', O_WRONLY, (file) => file.write('x')));
    assert.equal(await modeOf(fs, 'f'), 0o777);
  }),
  'a write by the owner clears set-id bits': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755, 'content');
    await fs.as(ALICE, () => withFile(fs, 'f', O_WRONLY, (file) => file.write('x')));
    assert.equal(await modeOf(fs, 'f'), 0o755);
  }),
  'a write keeps setgid where the group does not execute, if the writer is in it': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o2745, 'content');
    await fs.as(ALICE, () => withFile(fs, 'f', O_WRONLY, (file) => file.write('x')));
    assert.equal(await modeOf(fs, 'f'), 0o2745);
  }),
  'a write of nothing keeps set-id bits': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755, 'content');
    await fs.as(ALICE, () => withFile(fs, 'f', O_WRONLY, (file) => file.write('')));
    assert.equal(await modeOf(fs, 'f'), 0o6755);
  }),
  'a write by root keeps set-id bits': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755, 'content');
    await withFile(fs, 'f', O_WRONLY, (file) => file.write('x'));
    assert.equal(await modeOf(fs, 'f'), 0o6755);
  },
  'truncation by others clears set-id bits': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o6777, 'content');
    await fs.as(BOB, () => fs.truncate('f', 3));
    assert.equal(await modeOf(fs, 'f'), 0o777);
    await fs.chmod('f', 0o6777);
    await fs.as(BOB, async () => (await fs.open('f', O_WRONLY | O_TRUNC)).close());
    assert.equal(await modeOf(fs, 'f'), 0o777);
  }),
  'truncation by root keeps set-id bits': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755, 'content');
    await fs.truncate('f', 3);
    assert.equal(await modeOf(fs, 'f'), 0o6755);
  },
  'fallocate by others clears set-id bits': needs(['users', 'fallocate'], async (fs) => {
    await owned(fs, 'f', ALICE, 0o6777, 'content');
    await fs.as(BOB, () => withFile(fs, 'f', O_WRONLY, (file) => file.fallocate(0, 0, 10_000)));
    assert.equal(await modeOf(fs, 'f'), 0o777);
  }),
  'chown of a file clears set-id bits, for root too': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755);
    await fs.chown('f', BOB.uid, -1);
    assert.equal(await modeOf(fs, 'f'), 0o755);
    await fs.chmod('f', 0o6755);
    await fs.chown('f', -1, STAFF);
    assert.equal(await modeOf(fs, 'f'), 0o755);
  },
  'chown keeps setgid where the group does not execute, for root': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6644);
    await fs.chown('f', BOB.uid, BOB.gid);
    assert.equal((await modeOf(fs, 'f')) & S_ISUID, 0);
    assert.equal((await modeOf(fs, 'f')) & S_ISGID, S_ISGID);
  },
  'chown to the same owner clears set-id bits too': async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755);
    await fs.chown('f', ALICE.uid, ALICE.gid);
    assert.equal(await modeOf(fs, 'f'), 0o755);
  },
  'chown of nothing keeps set-id bits of a directory': async (fs) => {
    await ownedDir(fs, 'd', ALICE, 0o6755);
    await fs.chown('d', BOB.uid, BOB.gid);
    assert.equal(await modeOf(fs, 'd'), 0o6755);
  },
  'chown by the owner clears set-id bits': needs('users', async (fs) => {
    await owned(fs, 'f', ALICE, 0o6755);
    await fs.as(ALICE_OF_STAFF, () => fs.chown('f', -1, STAFF));
    assert.equal(await modeOf(fs, 'f'), 0o755);
  }),
  'a sticky file is a mode like any other for root': async (fs) => {
    await put(fs, 'f');
    await fs.chmod('f', 0o1644);
    assert.equal((await modeOf(fs, 'f')) & S_ISVTX, S_ISVTX);
  },
};
