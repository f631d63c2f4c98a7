// How a filesystem comes to a directory, and off it: by mount(8) for root and for the root of a user namespace, by fusermount3 for users, or not at
// all where the descriptor that is passed on is mounted already.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readlinkSync, statfs } from 'node:fs';
import type { Socket } from 'node:net';
import type { ErrnoCode } from '../../base/errno.ts';
import { errnoCodeOf, FsError } from '../../base/fs-error.ts';
import { Libc } from '../../sys/libc.ts';
import { CONTROL_CLOSED, CONTROL_DONE, CONTROL_END } from '../transport/dev-fuse.ts';
import type { FilesystemFacts } from './messages.ts';
import { deviceWords, type MountOptions, mountWords } from './mount-options.ts';
import { runProgram, TOOL_ENV } from './run-program.ts';

/** A device that is mounted. */
export interface Attachment {
  /** Of /dev/fuse. Whoever serves it closes it. */
  readonly fd: number;
  /** Where it is; undefined for a descriptor that was passed on and whose mount cannot be found. */
  readonly directory: string | undefined;
  /** Takes it off the directory. With `lazy` it goes on for those who use it. Errors: EBUSY while it is in use. */
  unmount(lazy: boolean): Promise<void>;
  /** Ends it, whoever uses it. Never fails. */
  end(): Promise<void>;
  /** The same before this returns, for a process that exits: what is not in use is written back first if `isServed`, by another thread. */
  endNow(isServed: boolean): void;
  /** The server is gone. Takes away what is left. Never fails. */
  release(): Promise<void>;
}

/** How long a process that exits gives to what may be stuck, milliseconds. */
const EXIT_WAIT_MS = 2000;

const PASSED = /^\/dev\/fd\/(\d+)$/;

/** The number of a descriptor that is given in place of a directory. */
export function passedDescriptor(directory: string): number | undefined {
  const [, digits] = PASSED.exec(directory) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/**
 * Mounts. `control` is that of the DevFuse which is to serve.
 *
 * Errors:  EPERM without the right; ENOENT without /dev/fuse, mount(8) or fusermount3; EBADF and EINVAL for a descriptor that is passed on; what
 *          mount(8) and fusermount3 say.
 */
export async function attach(directory: string, facts: FilesystemFacts, options: MountOptions, control: Int32Array): Promise<Attachment> {
  const passed = passedDescriptor(directory);
  if (passed !== undefined) return new Passed(passed, control);
  if (process.geteuid?.() === 0) return mountAsRoot(directory, facts, options, control);
  return mountAsUser(directory, facts, options, control);
}

/**
 * A program that takes a mount off its directory when this process is gone and nobody answers there: it reads from a pipe that only this process
 * holds. What answers is another mount, or none. fusermount3 does that too, but asks as root, whom a mount of a user does not let in.
 */
class UnmountGuard {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;

  constructor(directory: string, command: readonly string[]) {
    const script = 'read -r _; stat -f -- "$0" >/dev/null 2>&1 || exec "$@" -- "$0"';
    this.#child = spawn('sh', ['-c', script, directory, ...command], {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: TOOL_ENV,
      detached: true,
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once('error', () => resolve());
      this.#child.once('exit', () => resolve());
    });
    this.#child.stdin?.on('error', () => {});
    // A pipe of a child is a socket.
    (this.#child.stdin as Socket | null)?.unref();
    this.#child.unref();
  }

  /** The mount is over, or dead: then it is taken away now. */
  async release(): Promise<void> {
    this.#child.ref();
    this.#child.stdin?.end();
    await this.#exited;
  }
}

/** mount(8) inherits the descriptor as number 3. */
async function mountAsRoot(directory: string, facts: FilesystemFacts, options: MountOptions, control: Int32Array): Promise<Attachment> {
  const { fsname = 'iomap', subtype = 'iomap' } = options;
  const fd = openDevice();
  try {
    const words = [...deviceWords(3, facts), ...mountWords(facts, options)];
    const { code, text } = await runProgram('mount', ['-i', '-t', `fuse.${subtype}`, '-o', words.join(','), fsname, directory], fd);
    if (code !== 0) throw failed('mount', text, directory);
    const guard = options.autoUnmount === true ? new UnmountGuard(directory, ['umount', '-l']) : undefined;
    return new MountedByRoot(fd, directory, control, guard);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openDevice(): number {
  try {
    return openSync('/dev/fuse', constants.O_RDWR);
  } catch (error) {
    const code = errnoCodeOf(error) ?? 'EIO';
    const detail = code === 'ENOENT' || code === 'ENODEV' ? 'modprobe fuse, or give the container the device' : 'no right to the device';
    throw new FsError(code, 'open', { path: '/dev/fuse', detail, cause: error });
  }
}

/** A mount that is ours to take away again. */
abstract class Mounted implements Attachment {
  readonly fd: number;
  readonly directory: string;
  protected readonly control: Int32Array;
  protected readonly guard: UnmountGuard | undefined;

  constructor(fd: number, directory: string, control: Int32Array, guard: UnmountGuard | undefined) {
    this.fd = fd;
    this.directory = directory;
    this.control = control;
    this.guard = guard;
  }

  abstract unmount(lazy: boolean): Promise<void>;
  abstract end(): Promise<void>;
  abstract endNow(isServed: boolean): void;

  async release(): Promise<void> {
    await this.guard?.release();
  }
}

class MountedByRoot extends Mounted {
  async unmount(lazy: boolean): Promise<void> {
    const { code, text } = await runProgram('umount', [...(lazy ? ['-l'] : []), this.directory]);
    if (code !== 0 && !/not mounted|no mount point/.test(text)) throw failed('umount', text, this.directory);
  }

  async end(): Promise<void> {
    await runProgram('umount', ['-f', '-l', this.directory]);
  }

  endNow(isServed: boolean): void {
    const now = (file: string, ...args: string[]) => spawnSync(file, [...args, this.directory], { stdio: 'ignore', env: TOOL_ENV }).status;
    if (isServed) {
      if (now('umount') === 0) return;
      now('sync', '-f');
    }
    endServing(this.fd, this.control, this.directory, isServed);
    now('umount', '-f', '-l');
  }
}

/** fusermount3 opens the device, mounts it and sends it here. */
async function mountAsUser(directory: string, facts: FilesystemFacts, options: MountOptions, control: Int32Array): Promise<Attachment> {
  const { fsname = 'iomap', subtype = 'iomap', autoUnmount = false } = options;
  const words = [...mountWords(facts, options), `fsname=${fsname}`, `subtype=${subtype}`];
  const libc = loadLibc(directory);
  const [ours, theirs] = libc.socketpair();
  let helper: ChildProcess;
  try {
    helper = spawn('fusermount3', ['-o', words.join(','), '--', directory], {
      stdio: ['ignore', 'pipe', 'pipe', theirs],
      env: { ...TOOL_ENV, _FUSE_COMMFD: '3' },
    });
  } finally {
    closeSync(theirs);
  }
  let text = '';
  for (const stream of [helper.stdout, helper.stderr]) stream?.on('data', (piece: Buffer) => (text += piece.toString()));
  const exited = new Promise<unknown>((resolve) => {
    helper.once('error', resolve);
    helper.once('exit', () => resolve(undefined));
  });
  const closed = new Promise<void>((resolve) => helper.once('close', () => resolve()));
  const fd = await libc.receiveDescriptor(ours).catch(() => undefined);
  if (fd === undefined) {
    closeSync(ours);
    const notStarted = await exited;
    if (notStarted !== undefined) {
      const detail = 'fusermount3 is not there; it is of the package fuse3, and mounts for users other than root';
      throw new FsError('ENOENT', 'mount', { path: directory, detail, cause: notStarted });
    }
    await closed;
    throw failed('mount', text, directory);
  }
  closeSync(ours);
  await closed;
  const guard = autoUnmount ? new UnmountGuard(directory, ['fusermount3', '-u', '-z', '-q']) : undefined;
  return new MountedByHelper(fd, directory, control, guard);
}

function loadLibc(directory: string): Libc {
  try {
    return new Libc();
  } catch (cause) {
    const detail = 'mounting by fusermount3 takes the npm package koffi, through which the device is received: npm install koffi';
    throw new FsError('EPERM', 'mount', { path: directory, detail, cause });
  }
}

class MountedByHelper extends Mounted {
  async unmount(lazy: boolean): Promise<void> {
    const { code, text } = await runProgram('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', this.directory]);
    if (code !== 0 && !/not found|not mounted|no mount point/.test(text)) throw failed('umount', text, this.directory);
  }

  async end(): Promise<void> {
    Atomics.or(this.control, 0, CONTROL_END);
    wake(this.directory);
    await runProgram('fusermount3', ['-u', '-z', '-q', '--', this.directory]);
  }

  endNow(isServed: boolean): void {
    const now = (...args: string[]) =>
      spawnSync('fusermount3', [...args, '--', this.directory], { stdio: 'ignore', env: TOOL_ENV, timeout: EXIT_WAIT_MS }).status;
    if (isServed && now('-u') === 0) return;
    endServing(this.fd, this.control, this.directory, isServed);
    now('-u', '-z', '-q');
  }
}

/** A device that somebody else mounted, and unmounts. */
class Passed implements Attachment {
  readonly fd: number;
  readonly directory: string | undefined;
  readonly #control: Int32Array;

  constructor(fd: number, control: Int32Array) {
    this.fd = fd;
    this.#control = control;
    let target: string | undefined;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch (cause) {
      throw new FsError('EBADF', 'mount', { path: `/dev/fd/${fd}`, detail: 'no such descriptor was passed on', cause });
    }
    if (!/\/fuse$/.test(target)) throw new FsError('EINVAL', 'mount', { path: `/dev/fd/${fd}`, detail: `it is ${target}, not /dev/fuse` });
    this.directory = directoryOfDevice(fd);
  }

  /** The mount is another's; what ends is the serving of it. */
  async unmount(): Promise<void> {
    await this.end();
  }

  async end(): Promise<void> {
    Atomics.or(this.#control, 0, CONTROL_END);
    if (this.directory !== undefined) wake(this.directory);
  }

  endNow(isServed: boolean): void {
    endServing(this.fd, this.#control, this.directory, isServed);
  }

  async release(): Promise<void> {}
}

/**
 * Ends the connection of a device before this returns. No program may be started between the end of serving and that of the connection: it
 * would have a copy of the device, and stand before its first instruction in closing a file of the mount that it inherited, for ever.
 */
function endServing(fd: number, control: Int32Array, directory: string | undefined, isServed: boolean): void {
  Atomics.or(control, 0, CONTROL_END);
  if (directory !== undefined) wake(directory);
  if (isServed) Atomics.wait(control, CONTROL_DONE, 0, EXIT_WAIT_MS);
  // A read that is still under way keeps the connection until the message comes.
  if (Atomics.exchange(control, 0, CONTROL_CLOSED) !== CONTROL_CLOSED) closeSync(fd);
}

/** Where the connection of a device is mounted; undefined where the kernel does not say, before 6.16, or somewhere that is not seen here. */
function directoryOfDevice(fd: number): string | undefined {
  const [, minor] = /^fuse_connection:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
  if (minor === undefined) return undefined;
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.split(' ')[2] === `0:${minor}`);
  return line?.split(' ')[4]?.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Has the kernel send a message for whoever waits in read(2) of a device. What is answered is of no interest. */
export function wake(directory: string): void {
  statfs(directory, () => {});
}

function failed(syscall: string, text: string, path: string): FsError {
  return new FsError(codeOfText(text), syscall, { path, detail: text.trim() });
}

const TEXTS: readonly (readonly [RegExp, ErrnoCode])[] = [
  [/busy/i, 'EBUSY'],
  [/permission|permitted|superuser|only root|only allowed if|no write access|denied|not owned/i, 'EPERM'],
  [/no such file|not found/i, 'ENOENT'],
  [/not a directory/i, 'ENOTDIR'],
  [/too many/i, 'EMFILE'],
  [/wrong fs type|bad option|unknown option|invalid/i, 'EINVAL'],
];

/** What mount(8), umount(8) and fusermount3 mean. */
function codeOfText(text: string): ErrnoCode {
  return TEXTS.find(([pattern]) => pattern.test(text))?.[1] ?? 'EIO';
}
