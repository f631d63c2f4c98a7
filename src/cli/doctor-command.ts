import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION } from '../fuse/abi/flags.ts';
import { mount } from '../fuse/mount/mount.ts';
import { Libc } from '../sys/libc.ts';
import { failureOf } from './failure.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { endMount } from './served-mount.ts';
import { sourceOf } from './source.ts';

/** One line of `iomap doctor`. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** What it is, or why not. */
  readonly detail: string;
}

const TOOL_TIMEOUT_MS = 5000;
const NODE_MIN = [20, 19] as const;
/** Where administration tools are, which is not in the path of everybody. */
const TOOL_PATH = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`;

export async function doctorCommand(line: CommandLine): Promise<number> {
  const findings = [
    nodeVersion(),
    platform(),
    device(),
    asRoot(),
    asUser(),
    inUserNamespace(),
    tool('mount', 'mounting as root goes through it'),
    tool('umount', 'unmounting goes through it'),
    tool('fusermount3', 'it is what a user other than root mounts with; of the package fuse3'),
    nativeCalls(),
    userAllowOther(),
    enableUring(),
    maxPages(),
    passthrough(),
    backgroundLimit(),
  ];
  const works = await tryMount();
  const facts = { works: works.ok, findings: [...findings, works] };
  print(line, facts, facts.findings.map(({ name, ok, detail }) => `${ok ? 'ok' : 'no'}  ${name}: ${detail}`).join('\n'));
  return works.ok ? 0 : 1;
}

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  return { name: 'node', ok, detail: `${process.version}${ok ? '' : `, and iomap needs ${NODE_MIN.join('.')}`}` };
}

function platform(): Finding {
  const ok = process.platform === 'linux';
  return { name: 'kernel', ok, detail: ok ? `Linux ${release()}` : `${process.platform}; mounts are Linux mounts` };
}

function device(): Finding {
  const name = '/dev/fuse';
  try {
    closeSync(openSync(name, constants.O_RDWR));
    return { name, ok: true, detail: 'can be opened' };
  } catch (error) {
    const { code, message } = failureOf(error);
    const why = code === 'ENOENT' ? 'not there: modprobe fuse, or give the container the device' : message;
    return { name, ok: false, detail: why };
  }
}

function asRoot(): Finding {
  const name = 'mounting as root';
  const uid = process.getuid?.();
  return uid === 0 ? { name, ok: true, detail: 'user 0, through mount(8)' } : { name, ok: false, detail: `user ${uid ?? 'unknown'}` };
}

/** For this user, or for others where this one is root. */
function asUser(): Finding {
  const name = 'mounting as a user';
  const missing: string[] = [];
  const helper = tool('fusermount3', '');
  if (!helper.ok) missing.push('there is no fusermount3');
  else if ((statSync(helper.detail).mode & 0o4000) === 0) missing.push(`${helper.detail} is not set-user-ID root`);
  const mode = statSync('/dev/fuse', { throwIfNoEntry: false })?.mode;
  if (mode === undefined) missing.push('there is no /dev/fuse');
  else if ((mode & 0o6) !== 0o6) missing.push(`/dev/fuse has mode ${(mode & 0o777).toString(8)}: chmod 666 lets users open it`);
  if (!nativeCalls().ok) missing.push('koffi is missing');
  return missing.length === 0 ? { name, ok: true, detail: 'through fusermount3' } : { name, ok: false, detail: missing.join('; ') };
}

function inUserNamespace(): Finding {
  const name = 'mounting in a user namespace';
  const { status, stderr, error } = spawnSync('unshare', ['-Urm', 'true'], { encoding: 'utf8', timeout: TOOL_TIMEOUT_MS });
  if (status === 0) return { name, ok: true, detail: 'unshare -Urm works: who is root there mounts as root' };
  return { name, ok: false, detail: error?.message ?? stderr.trim() };
}

function nativeCalls(): Finding {
  const name = 'koffi';
  try {
    new Libc();
    return { name, ok: true, detail: 'system calls can be made' };
  } catch (error) {
    return { name, ok: false, detail: `${failureOf(error).message}; mirror:, fusermount3 and passthrough take it: npm install koffi` };
  }
}

/** The kernel has it from 6.9 on, and tells a mount only. */
function passthrough(): Finding {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const isThere = major > 6 || (major === 6 && minor >= 9);
  const isRoot = process.getuid?.() === 0;
  const why = isThere ? 'takes root' : `Linux ${release()}, and 6.9 has it`;
  return { name: 'passthrough', ok: isThere && isRoot, detail: isThere && isRoot ? `Linux ${release()} has it` : why };
}

function backgroundLimit(): Finding {
  const name = 'max_user_bgreq';
  const text = tryRead('/sys/module/fuse/parameters/max_user_bgreq')?.trim();
  if (text === undefined) return { name, ok: false, detail: 'not told by the kernel' };
  return { name, ok: true, detail: `${text} requests in the background of a mount of a user` };
}

function tool(name: string, what: string): Finding {
  for (const folder of TOOL_PATH.split(delimiter)) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return { name, ok: true, detail: file };
    } catch {
      // The next folder.
    }
  }
  return { name, ok: false, detail: `not found; ${what}` };
}

function userAllowOther(): Finding {
  const name = 'user_allow_other';
  const text = tryRead('/etc/fuse.conf');
  if (text === undefined) return { name, ok: false, detail: 'there is no /etc/fuse.conf; concerns users other than root only' };
  const ok = /^\s*user_allow_other\s*$/m.test(text);
  return { name, ok, detail: `${ok ? 'set' : 'not set'} in /etc/fuse.conf; concerns users other than root only` };
}

function enableUring(): Finding {
  const file = '/sys/module/fuse/parameters/enable_uring';
  const text = tryRead(file)?.trim();
  const name = 'fuse over io_uring';
  if (text === undefined) return { name, ok: false, detail: `there is no ${file}: the kernel is older than 6.14, or has no fuse module` };
  const ok = /^[Y1]/i.test(text);
  return { name, ok, detail: ok ? 'switched on in the kernel; not used yet' : `switched off: ${file} is ${text}; not used yet` };
}

function maxPages(): Finding {
  const file = '/proc/sys/fs/fuse/max_pages_limit';
  const text = tryRead(file)?.trim();
  const name = 'max_pages_limit';
  if (text === undefined) return { name, ok: false, detail: `there is no ${file}: requests carry at most 256 pages` };
  return { name, ok: true, detail: `${text} pages in one request` };
}

/** The kernel says which protocol it speaks to a mount only, so there is one. */
async function tryMount(): Promise<Finding> {
  const name = 'a mount';
  const directory = mkdtempSync(join(tmpdir(), 'iomap-doctor-'));
  try {
    const { url, args } = sourceOf('mem:', undefined, 'doctor');
    const mounted = await mount(url, directory, { args });
    await endMount(mounted);
    const ours = `${FUSE_KERNEL_VERSION}.${FUSE_KERNEL_MINOR_VERSION}`;
    return { name, ok: true, detail: `works; FUSE 7.${mounted.minor} was agreed on, of up to ${ours} here` };
  } catch (error) {
    return { name, ok: false, detail: failureOf(error).message };
  } finally {
    rmdirSync(directory);
  }
}

function tryRead(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // not there, which is what was asked
  }
}
