// Another process with the system calls of locks: HostFace forks this file, sends calls, and gets what they answer.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { FsError } from '../../src/base/fs-error.ts';
import {
  F_GETLK,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_OFD_SETLKW,
  F_SETLK,
  F_SETLKW,
  type Flock,
  Libc,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
} from '../../src/sys/libc.ts';
import { nameBytes } from '../../src/vfs/name.ts';
import { F_RDLCK, F_UNLCK, LOCK_END } from '../../src/vfs/uapi.ts';
import type { PosixLock, PosixLockKind, PosixProcess } from './posix-face.ts';

/** struct flock of a range. */
export function flockOf({ type, start, end }: PosixLock): Partial<Flock> {
  return { l_type: type, l_start: start, l_len: end === LOCK_END ? 0 : end - start + 1 };
}

/** The lock that F_GETLK tells. */
export function lockOf({ l_type, l_start, l_len }: Flock): PosixLock | undefined {
  if (l_type === F_UNLCK) return undefined;
  return { type: l_type, start: l_start, end: l_len === 0 ? LOCK_END : l_start + l_len - 1 };
}

const calls = {
  open: (libc: Libc, path: string, flags: number): number => libc.open(nameBytes(path), flags, 0o666),
  lock(libc: Libc, fd: number, kind: PosixLockKind | 'flock', lock: PosixLock, wait: boolean): void {
    if (kind === 'flock') {
      const operation = lock.type === F_UNLCK ? LOCK_UN : lock.type === F_RDLCK ? LOCK_SH : LOCK_EX;
      libc.flock(fd, operation | (wait ? 0 : LOCK_NB));
    } else libc.fcntlLock(fd, kind === 'posix' ? (wait ? F_SETLKW : F_SETLK) : wait ? F_OFD_SETLKW : F_OFD_SETLK, flockOf(lock));
  },
  getlk(libc: Libc, fd: number, kind: PosixLockKind, lock: PosixLock): PosixLock | undefined {
    return lockOf(libc.fcntlLock(fd, kind === 'posix' ? F_GETLK : F_OFD_GETLK, flockOf(lock)));
  },
  close: (libc: Libc, fd: number): void => libc.close(fd),
};

interface Answer {
  readonly value?: unknown;
  readonly failed?: { readonly code: ErrnoCode; readonly syscall: string };
}

/** Starts a process whose working directory is that of this one. */
export function forkHostProcess(): PosixProcess {
  const child = fork(fileURLToPath(import.meta.url), ['serve'], { serialization: 'advanced', execArgv: [] });
  const call = async (name: keyof typeof calls, ...args: unknown[]): Promise<unknown> => {
    child.send({ name, args });
    const [answer] = (await once(child, 'message')) as [Answer];
    if (answer.failed !== undefined) throw new FsError(answer.failed.code, answer.failed.syscall);
    return answer.value;
  };
  return {
    open: (path, flags) => call('open', path, flags) as Promise<number>,
    lock: (fd, kind, lock, wait) => call('lock', fd, kind, lock, wait) as Promise<void>,
    getlk: (fd, kind, lock) => call('getlk', fd, kind, lock) as Promise<PosixLock | undefined>,
    close: (fd) => call('close', fd) as Promise<void>,
    exit: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL'); // it may be waiting in a call
      await once(child, 'exit');
    },
  };
}

if (process.argv[2] === 'serve' && process.send !== undefined) {
  const libc = new Libc();
  process.on('message', ({ name, args }: { name: keyof typeof calls; args: never[] }) => {
    let answer: Answer;
    try {
      answer = { value: (calls[name] as (libc: Libc, ...args: never[]) => unknown)(libc, ...args) };
    } catch (error) {
      const { code, syscall } = error as FsError;
      answer = { failed: { code, syscall } };
    }
    process.send?.(answer);
  });
}
