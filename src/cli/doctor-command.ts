import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmdirSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION } from '../fuse/abi/flags.ts';
import { mount } from '../fuse/mount/mount.ts';
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

const NODE_MIN = [20, 19] as const;
/** Where administration tools are, which is not in the path of everybody. */
const TOOL_PATH = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`;

export async function doctorCommand(line: CommandLine): Promise<number> {
  const findings = [
    nodeVersion(),
    platform(),
    device(),
    user(),
    tool('mount', 'mounting as root goes through it'),
    tool('umount', 'unmounting goes through it'),
    tool('fusermount3', 'it is what a user other than root mounts with, which iomap does not do yet; of the package fuse3'),
    userAllowOther(),
    enableUring(),
    maxPages(),
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

function user(): Finding {
  const uid = process.getuid?.();
  return uid === 0
    ? { name: 'root', ok: true, detail: 'user 0' }
    : { name: 'root', ok: false, detail: `user ${uid ?? 'unknown'}, and mounting takes root so far` };
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
