import { setTimeout as delay } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { FsError } from '../base/fs-error.ts';
import { askControl, type ControlAnswers } from './control.ts';
import { RemoteError } from './failure.ts';
import { asOurs, mountAt, type OurMount } from './mount-table.ts';
import type { CommandLine } from './parse.ts';
import { print } from './print.ts';
import { stateOf } from './probe.ts';
import { forgetMount, isServing, type Registration } from './registry.ts';
import { runTool } from './run-tool.ts';

const POLL_MS = 10;
/** From when on somebody at a terminal is told what is waited for. */
const SILENT_MS = 1000;

export async function umountCommand(line: CommandLine): Promise<number> {
  const { entry, registration } = ourMountAt(line.operands[0] ?? '');
  const { directory, device } = entry;
  const lazy = line.has('lazy');
  const waits = registration !== undefined && !lazy && isServing(registration);
  // Asked before, since there is nobody to ask when it is over.
  const stop = new AbortController();
  const end = waits ? askControl(device, '/end', stop.signal) : undefined;
  try {
    await unmount(directory, lazy);
  } catch (error) {
    stop.abort();
    throw error;
  }
  if (waits) await untilEnded(registration, directory, end);
  else if (registration !== undefined) forgetMount(registration);
  print(line, { directory, lazy, pid: registration?.pid ?? null, ended: !lazy }, `${directory} is unmounted`);
  return 0;
}

/** Errors: EINVAL where nothing is mounted, as umount(2) has it; EPERM for a mount of others. */
function ourMountAt(directory: string): OurMount {
  const entry = mountAt(directory);
  if (entry === undefined) throw new FsError('EINVAL', 'umount', { path: directory, detail: 'nothing is mounted there' });
  const ours = asOurs(entry);
  if (ours === undefined) throw new FsError('EPERM', 'umount', { path: directory, detail: `a mount of type ${entry.type} is not ours` });
  return ours;
}

async function unmount(directory: string, lazy: boolean): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  const [tool, args] = isRoot ? ['umount', lazy ? ['-l'] : []] : ['fusermount3', ['-u', ...(lazy ? ['-z'] : [])]];
  const { code, output } = await runTool(tool as string, [...(args as string[]), '--', directory]);
  if (code === 0) return;
  const detail = output.trim();
  throw new FsError(/busy/.test(detail) ? 'EBUSY' : 'EIO', 'umount', { path: directory, detail });
}

/** Takes a mount of ours whose process is gone off a directory, if there is one. */
export async function removeStale(directory: string): Promise<void> {
  const entry = mountAt(directory);
  const ours = entry === undefined ? undefined : asOurs(entry);
  if (entry === undefined || ours === undefined || (await stateOf(entry.directory)) !== 'stale') return;
  await unmount(entry.directory, true);
  if (ours.registration !== undefined) forgetMount(ours.registration);
}

/** Errors: what the filesystem failed with at its end. */
async function untilEnded(
  registration: Registration,
  directory: string,
  end: Promise<ControlAnswers['/end'] | undefined> | undefined,
): Promise<void> {
  let tellAt = Date.now() + SILENT_MS;
  while (isServing(registration)) {
    if (Date.now() > tellAt && isatty(2)) {
      process.stderr.write(`iomap: waiting for process ${registration.pid} to write what ${directory} has\n`);
      tellAt = Number.POSITIVE_INFINITY;
    }
    await delay(POLL_MS);
  }
  const failure = (await end)?.failure ?? undefined;
  if (failure !== undefined) throw new RemoteError(failure);
}
